/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* VFIO's own containers. The kernel keeps what it has charged with every mapping, so that nothing
 * has to be watched: a walk finds all of it, whenever it is asked for. */
#pragma once

#include "kernel/ledger/maps.h"

/* A member of LedgerOps. */
int ledger_legacy(Ledger *ledger, LedgerLegacy **ret_legacy, size_t *ret_n);
