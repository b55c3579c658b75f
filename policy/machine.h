/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One VM of a tenant, by UUID, from its admission to the end of its reap. */
#pragma once

#include "policy/tenant.h"

#include <sys/types.h>

typedef enum {
    MACHINE_ADMITTED, /* bytes and devices promised; its leader is not known yet */
    MACHINE_RUNNING,  /* its leader is watched */
    MACHINE_REAPING,  /* dead or released; what it left is being destroyed */
} MachineState;

ENUM_DECLARE(machine_state, MachineState)

struct Machine {
    char *uuid; /* canonical, lower case, with dashes */
    char *name;
    Tenant *tenant;     /* not owned; the machine is in its table */
    Charge *charge;     /* owned */
    GPtrArray *devices; /* owned addresses (char *), sorted */
    MachineState state;
    bool iommufd;         /* uses the tenant's IOMMUFD, as opposed to legacy VFIO */
    pid_t leader;         /* 0 before StartMachine */
    int leader_pidfd;     /* owned, -EBADF before StartMachine */
    uint64_t last_pinned; /* bytes the leader had pinned when last looked at */
    int64_t since;        /* CLOCK_MONOTONIC, µs: when the state was entered; 0 after admission,
                             for policy has no clock: set by who changes the state */
};

/* An admitted machine. uuid canonical; takes charge and addresses. The registry makes and frees
 * machines, nobody else. */
Machine *machine_new(const char *uuid, const char *name, Tenant *tenant, Charge *charge,
                     GPtrArray *addresses);
/* Gives back the charge and closes the pidfd. Accepts NULL. */
void machine_free(Machine *machine);

/* A UUID in any of the usual spellings (with or without dashes, any case) -> canonical, or NULL
 * with INVALID_ARGUMENT. Freed with g_free(). */
char *machine_uuid_parse(const char *text, GError **error);
/* Whether name can name a machine: 1 to 255 bytes of UTF-8 without control characters.
 * INVALID_ARGUMENT. */
gboolean machine_name_check(const char *name, GError **error);
