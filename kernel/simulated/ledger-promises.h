/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The simulated ledger's limits: what is promised to machines, what they have mapped beyond, and
 * what others have. As kernel/bpf/promise.h has it, one caller at a time:
 *
 *   reserved + borrowed == mapped + room      of each machine
 *   used == sum of (reserved + borrowed) of the machines + bytes mapped by others
 *                                             of each tenant, and of the host
 */
#pragma once

#include "kernel/simulated/ledger-store.h"

/* Whether the bytes can be mapped: 0, or -EDQUOT, and who has too little, and how much. */
int sim_promise_check(SimLedger *ledger, uint32_t tenant, uint32_t machine, uint64_t bytes,
                      LedgerShortage *ret_shortage);
/* They are mapped, or not any more. machine 0, or one that is gone: they are the tenant's. */
void sim_promise_count(SimLedger *ledger, uint32_t tenant, uint32_t machine, uint64_t bytes);
void sim_promise_uncount(SimLedger *ledger, uint32_t tenant, uint32_t machine, uint64_t bytes);

/* LedgerOps.reserve_machine(). */
int sim_promise_set(SimLedger *ledger, uint32_t machine, uint64_t bytes, bool again,
                    LedgerShortage *ret_shortage);
/* The machine is about to be gone: what it has mapped is the tenant's. */
void sim_promise_close(SimLedger *ledger, const SimMachine *machine);
void sim_promise_set_budget(SimLedger *ledger, uint64_t bytes);
/* What is used is what is promised; what is mapped is to be counted anew. */
void sim_promise_begin(SimLedger *ledger);

/* LedgerOps.admit_device(), of the device with that key. */
int sim_claim_device(SimLedger *ledger, uint64_t key, const LedgerClaim *claim,
                     uint32_t *ret_machine);
