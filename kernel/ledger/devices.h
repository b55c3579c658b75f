/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whose devices are. Members of LedgerOps. */
#pragma once

#include "kernel/ledger/maps.h"

int ledger_admit_device(Ledger *ledger, const char *address, const LedgerClaim *claim,
                        uint32_t *ret_machine);
int ledger_dismiss_device(Ledger *ledger, const char *address, uint32_t machine);
int ledger_device(Ledger *ledger, const char *address, LedgerClaim *ret_claim);
