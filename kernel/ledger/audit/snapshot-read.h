/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Taking a snapshot of the running kernel. */
#pragma once

#include "kernel/ledger/maps.h"
#include "kernel/ledger/audit/snapshot.h"

/* *ret_snapshot is freed with snapshot_free(). A negative errno: a map or the walk could not be
 * read to its end (-EAGAIN: there is too much coming and going). */
int snapshot_read(const BpfLedger *ledger, Snapshot **ret_snapshot);
