/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What policy knows of a machine, from its admission to the end of its reap. The service's own
 * struct of a machine begins with this one (registry.h, RegistryTypes). */
#pragma once

#include "policy/tenant.h"

typedef enum {
    MACHINE_ADMITTED, /* bytes and devices promised; its leader is not known yet */
    MACHINE_RUNNING,  /* its leader is watched */
    MACHINE_REAPING,  /* dead or released; what it left is being destroyed */
} MachineState;

ENUM_DECLARE(machine_state, MachineState)

struct MachinePolicy {
    char *uuid; /* canonical, lower case, with dashes */
    char *name;
    TenantPolicy *tenant; /* not owned; the machine is in its table */
    Charge *charge;       /* owned */
    GPtrArray *devices;   /* owned addresses (char *), sorted */
    MachineState state;
    bool iommufd; /* uses an IOMMUFD of the tenant, as opposed to legacy VFIO */
};

/* Makes *machine, all zeros, an admitted machine. uuid canonical; takes charge and addresses. For
 * the registry, which makes and frees machines. */
void machine_policy_init(MachinePolicy *machine, const char *uuid, const char *name,
                         TenantPolicy *tenant, Charge *charge, GPtrArray *addresses);
/* Gives back the charge. */
void machine_policy_clear(MachinePolicy *machine);

/* A UUID in any of the usual spellings (with or without dashes, any case) -> canonical, or NULL
 * with INVALID_ARGUMENT. Freed with g_free(). */
char *machine_uuid_parse(const char *text, GError **error);
/* Whether name can name a machine: 1 to 255 bytes of UTF-8 without control characters.
 * INVALID_ARGUMENT. */
gboolean machine_name_check(const char *name, GError **error);
