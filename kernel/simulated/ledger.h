/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The simulated host's ledger and guard. */
#pragma once

#include "kernel/host/host.h"

/* What the host's file says it has. */
typedef struct {
    bool ledger;
    bool guard;
} SimLedgerFeatures;

/* As the members of HostOps. */
int sim_ledger_load(SimLedgerFeatures features, const LedgerOptions *options,
                    LedgerStatus *ret_status);
int sim_ledger_open(SimLedgerFeatures features, const LedgerOptions *options, Ledger **ret_ledger);
