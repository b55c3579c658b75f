/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kernel/simulated/ledger-store.h"

/* As LedgerOps.reconcile(). */
void sim_reconcile(SimLedger *ledger, LedgerDrift *ret_drift);
/* LedgerMeasurement, by context and process. */
GArray *sim_measure(SimLedger *ledger);
