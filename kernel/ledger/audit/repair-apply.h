/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Making repairs in the running kernel. */
#pragma once

#include "kernel/ledger/maps.h"
#include "kernel/ledger/audit/repair.h"

/* Every entry is changed by a program in the kernel, and only if it is still what the plan
 * compared: what is not counts as unstable. Adds to *drift. */
void repairs_apply(const BpfLedger *ledger, const GArray *repairs, LedgerDrift *drift);
