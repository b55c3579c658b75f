/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a test has the simulated kernel do wrong, until it has happened as often as was asked. Under
 * sim_lock, as everything here. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef enum {
    SIM_FAULT_MISSED_EVENT, /* the ledger does not see that something comes, goes or is pinned */
    SIM_FAULT_FULL_TABLE,   /* there is no room for an object or a mapping: it is refused */
    SIM_FAULT_LOST_OWNER,   /* there is no room for a process: it gets no owner */
    SIM_FAULT_FAILING_CALL, /* the ledger does not take what it is told */
    SIM_FAULT_FAILING_RECONCILE, /* it can't be compared with the IOMMUFDs */
    SIM_FAULT_FAILING_DESTROY,   /* IOMMU_DESTROY: EBUSY */
    SIM_FAULT_SLOW_DESTROY,   /* milliseconds that IOMMU_DESTROY and _IOAS_UNMAP take, each time */
    SIM_FAULT_SLOW_RECONCILE, /* milliseconds that the comparison takes, each time */
    SIM_N_FAULTS,
} SimFault;

/* By its name, "missed-event"; value 0: no more. -EINVAL: there is no such fault. */
int sim_fault_set(const char *name, uint64_t value);
/* Whether it is to happen now; it then is one less. */
bool sim_fault_take(SimFault fault);
uint64_t sim_fault_value(SimFault fault);
/* No fault any more. */
void sim_fault_clear(void);
