/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Machines: that they are there, who they are, and what is promised to them. */
#pragma once

#include "kernel/ledger/maps.h"

/* Deletes the entries of machines that are removed, once no program can know them any more. Waits
 * for programs that are running, if there are any such entries. */
void machines_sweep(const BpfLedger *ledger);

/* Members of LedgerOps. */
int ledger_add_machine(Ledger *ledger, uint32_t machine, uint32_t tenant);
int ledger_remove_machine(Ledger *ledger, uint32_t machine);
int ledger_follow_limit(Ledger *ledger, uint32_t machine, uint64_t limit, uint64_t reserved);
int ledger_reserve_machine(Ledger *ledger, uint32_t machine, uint64_t bytes, bool again,
                           LedgerShortage *ret_shortage);
int ledger_machine(Ledger *ledger, uint32_t machine, LedgerMachine *ret_machine);
