/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/simulated/faults.h"

#include <errno.h>
#include <string.h>

static const char *const names[SIM_N_FAULTS] = {
    [SIM_FAULT_MISSED_EVENT] = "missed-event",
    [SIM_FAULT_FULL_TABLE] = "full-table",
    [SIM_FAULT_LOST_OWNER] = "lost-owner",
    [SIM_FAULT_FAILING_CALL] = "failing-call",
    [SIM_FAULT_FAILING_RECONCILE] = "failing-reconcile",
    [SIM_FAULT_FAILING_DESTROY] = "failing-destroy",
    [SIM_FAULT_SLOW_DESTROY] = "slow-destroy",
    [SIM_FAULT_SLOW_RECONCILE] = "slow-reconcile",
};

static uint64_t values[SIM_N_FAULTS];

int sim_fault_set(const char *name, uint64_t value)
{
    for (int i = 0; i < SIM_N_FAULTS; i++) {
        if (strcmp(names[i], name) != 0)
            continue;
        values[i] = value;
        return 0;
    }
    return -EINVAL;
}

bool sim_fault_take(SimFault fault)
{
    if (values[fault] == 0)
        return false;
    values[fault]--;
    return true;
}

uint64_t sim_fault_value(SimFault fault)
{
    return values[fault];
}

void sim_fault_clear(void)
{
    memset(values, 0, sizeof(values));
}
