/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What in the ledger's tables is not what the kernel's own structures say, as a list of repairs. A
 * pure function of two snapshots: only what differs in the same way in both is repaired, and what
 * differs otherwise is counted as unstable. repair-apply.h carries the list out.
 */
#pragma once

#include "kernel/ledger/audit/snapshot.h"

/* Each but DELETE_ENTRY is a run of the control program of that name, with these arguments. */
typedef enum {
    REPAIR_SET_COUNTS,
    REPAIR_SET_TOTALS,
    REPAIR_SET_RANGE,
    REPAIR_REMOVE_RANGE,
    REPAIR_DELETE_ENTRY, /* of a range that is taken already */
    REPAIR_REMOVE_OBJECT,
    REPAIR_ADOPT_OBJECT,
    REPAIR_REMOVE_CONTEXT,
    REPAIR_REMOVE_PROCESS,
} RepairKind;

typedef struct {
    RepairKind kind;
    /* REMOVE_RANGE: the range may have ended just when both snapshots were taken: then it goes by
     * itself until all programs that are running have ended. */
    bool may_end_by_itself;
    uint64_t drift; /* pages by which the ledger is off without it */
    union {
        struct control_set_counts set_counts;
        struct control_set_totals set_totals;
        struct control_set_range set_range;
        struct control_remove_range remove_range; /* and DELETE_ENTRY */
        struct control_remove_object remove_object;
        struct control_adopt_object adopt_object;
        struct control_remove_context remove_context;
        struct control_remove_process remove_process;
    };
} Repair;

/* Repairs, in the order in which they are to be made; the second snapshot is the later one.
 * *ret_unstable: differences that were not the same in both. The caller frees the array. */
GArray *repairs_plan(const Snapshot *first, const Snapshot *second, uint64_t *ret_unstable);
/* Whether the ledger differs from the kernel in anything: a second snapshot tells what is to be
 * repaired. */
bool snapshot_differs(const Snapshot *snapshot);
