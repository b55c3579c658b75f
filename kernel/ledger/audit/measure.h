/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sums over a snapshot of what the kernel's own structures say: what is mapped and pinned, and how
 * much of it more than once. Pure functions. */
#pragma once

#include "kernel/ledger/ledger.h"
#include "kernel/ledger/audit/snapshot.h"

/* LedgerMeasurement, by context and process; each page of an address space or file once for
 * `unique`. The caller frees the array. */
GArray *snapshot_measure(const Snapshot *snapshot);
/* How much of what counts against the limit of each tenant that counts unique bytes is the same
 * memory all the same, in ranges that overlap without being equal: struct control_set_dedup_credit.
 * The caller frees the array. */
GArray *snapshot_dedup_credits(const Snapshot *snapshot);
