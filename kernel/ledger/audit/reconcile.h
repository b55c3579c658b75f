/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reconciling the ledger with the kernel's own structures. */
#pragma once

#include "kernel/ledger/maps.h"

/* A member of LedgerOps. */
int ledger_reconcile(Ledger *ledger, LedgerDrift *ret_drift, LedgerMeasurement **ret_measurements,
                     size_t *ret_n);
