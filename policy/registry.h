/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who is there and who may have what: tenants, machines, and the devices they hold.
 *
 * All or nothing: a function that fails has changed nothing. No clock, no bus, no ioctl: what the
 * kernel says about devices comes in as an array of HostDevice.
 */
#pragma once

#include "kernel/host.h"
#include "policy/config.h"
#include "policy/machine.h"

typedef struct Registry Registry;

/* host_limit: the host budget in bytes. */
Registry *registry_new(uint64_t host_limit);
/* Frees machines, tenants and budgets, in this order. Accepts NULL. */
void registry_free(Registry *registry);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Registry, registry_free)

Budget *registry_host_budget(Registry *registry);

/* ---- tenants ---- */

/* Takes config. TENANT_EXISTS, INVALID_ARGUMENT (id). The registry owns the tenant. */
Tenant *registry_add_tenant(Registry *registry, TenantConfig *config, GError **error);
/* NO_SUCH_TENANT. */
Tenant *registry_get_tenant(Registry *registry, const char *id, GError **error);
/* NO_SUCH_TENANT; TENANT_BUSY while it has machines or charges. Frees the tenant. */
gboolean registry_remove_tenant(Registry *registry, const char *id, GError **error);
/* Sorted by id; elements not owned; free with g_ptr_array_unref(). */
GPtrArray *registry_tenants(Registry *registry);

/* ---- machines ---- */

typedef struct {
    const char *uuid; /* any spelling */
    const char *name;
    const char *tenant;
    uint64_t bytes;             /* the reservation */
    const char *const *devices; /* NULL-terminated addresses, may be empty */
    bool iommufd;
} AdmissionRequest;

/*
 * Admits a machine: tenant, device rules, groups, limit and host budget, in this order, all or
 * nothing. host_devices: what the kernel has now.
 * INVALID_ARGUMENT: uuid, name (empty, control characters, over 255 bytes), device named twice;
 * NO_SUCH_TENANT; MACHINE_EXISTS; NO_SUCH_DEVICE; DEVICE_DENIED (the tenant's rules, or a bridge);
 * DEVICE_BUSY (another machine's); GROUP_SHARED (a member of its IOMMU group belongs to another
 * tenant, or is used by a driver of the host); NOT_SUPPORTED (no IOMMU group); LIMIT_EXCEEDED;
 * HOST_BUDGET_EXCEEDED.
 */
Machine *registry_admit(Registry *registry, const AdmissionRequest *request,
                        const HostDevice *host_devices, size_t n_host_devices, GError **error);
/* Gives back the charge and the devices, and frees the machine. */
void registry_remove_machine(Registry *registry, Machine *machine);
/* uuid in any spelling. NO_SUCH_MACHINE, INVALID_ARGUMENT. */
Machine *registry_get_machine(Registry *registry, const char *uuid, GError **error);
/* Sorted by name, then uuid; elements not owned. */
GPtrArray *registry_machines(Registry *registry);
/* One more device for a machine that is there, by the rules of registry_admit(). */
gboolean registry_add_device(Registry *registry, Machine *machine, const char *address,
                             const HostDevice *host_devices, size_t n_host_devices,
                             GError **error);
/* NO_SUCH_DEVICE: the machine does not hold it. */
gboolean registry_remove_device(Registry *registry, Machine *machine, const char *address,
                                GError **error);
/* The machine that holds the device, or NULL. address canonical. */
Machine *registry_device_holder(Registry *registry, const char *address);

/* "1:0.0", "01:00.0", "0000:01:00.0" -> "0000:01:00.0", or NULL with INVALID_ARGUMENT. */
char *device_address_parse(const char *text, GError **error);
/* Whether some machine could get the device now; *ret_reason (to be freed with g_free()) is a
 * sentence when not, else NULL. */
bool registry_device_assignable(Registry *registry, const HostDevice *device,
                                const HostDevice *host_devices, size_t n_host_devices,
                                char **ret_reason);
