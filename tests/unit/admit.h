/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the service does with the registry when it admits a machine. */
#pragma once

#include "policy/registry.h"

/* Admits a machine in the place of replaced, or with NULL a new one; or changes nothing. */
static inline MachinePolicy *registry_admit(Registry *registry, MachinePolicy *replaced,
                                            const AdmissionRequest *request,
                                            const HostDevice *host_devices, size_t n_host_devices,
                                            GError **error)
{
    TenantPolicy *tenant;
    uint64_t bytes;
    if (!registry_check_admission(registry, request, host_devices, n_host_devices, replaced,
                                  &tenant, &bytes, error))
        return NULL;
    if (replaced)
        registry_remove_machine(registry, replaced);
    return registry_insert_admitted(registry, request, tenant, bytes);
}
