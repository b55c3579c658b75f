/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who is there and who may have what: tenants, machines, and the devices they hold.
 *
 * All or nothing: a function that fails has changed nothing. No clock, no bus, no ioctl: what the
 * kernel says about devices comes in as an array of HostDevice.
 *
 * A registry and all that hangs on it (tenants, machines, budgets, charges) belong to one thread,
 * that of the event loop: nothing here locks. What works on several threads (the reaper) hands its
 * results to that thread.
 */
#pragma once

#include "kernel/host/host.h"
#include "policy/config.h"
#include "policy/machine.h"

typedef struct Registry Registry;

/*
 * What the registry makes when it makes a tenant or a machine: structs that begin with policy's
 * and are as large as their owner says, so that one thing is one object. clear() lets go of the
 * owner's part before policy's part goes; it may be NULL.
 */
typedef struct {
    size_t tenant_size;
    void (*tenant_clear)(TenantPolicy *tenant);
    size_t machine_size;
    void (*machine_clear)(MachinePolicy *machine);
} RegistryTypes;

/* host_limit: the host budget in bytes. types: NULL for policy's own structs alone. */
Registry *registry_new(uint64_t host_limit, const RegistryTypes *types);
/* Frees machines, tenants and budgets, in this order. Accepts NULL. */
void registry_free(Registry *registry);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Registry, registry_free)

Budget *registry_host_budget(Registry *registry);
/* The id of the tenant of machines that name none, or NULL: they are refused. It need not exist. */
const char *registry_default_tenant(Registry *registry);

/*
 * Takes over a new configuration, all or nothing: host budget (of a host with so much memory),
 * default tenant, limits, rules, new tenants; and removes the tenants that it does not have.
 * TENANT_BUSY: one of those has machines or charges. INVALID_ARGUMENT: the isolation or accounting
 * of a tenant with machines or charges would change, or two tenants have one id. A limit below
 * what is reserved is no error: see charge.h.
 * *ret_added and *ret_removed (each may be NULL): ids (char *), sorted, to be freed with
 * g_ptr_array_unref(). Pointers to removed tenants and to the configs of all tenants are gone.
 */
gboolean registry_reload(Registry *registry, const Config *config, uint64_t memory_total,
                         GPtrArray **ret_added, GPtrArray **ret_removed, GError **error);

/* ---- tenants ---- */

/* Takes config, also when it fails. TENANT_EXISTS, INVALID_ARGUMENT (id, device patterns). The
 * registry owns the tenant. */
TenantPolicy *registry_add_tenant(Registry *registry, TenantConfig *config, GError **error);
/* NO_SUCH_TENANT. */
TenantPolicy *registry_get_tenant(Registry *registry, const char *id, GError **error);
/* The same, but with NULL or "" the default tenant: who names none is of that. NO_SUCH_TENANT. */
TenantPolicy *registry_get_tenant_or_default(Registry *registry, const char *id, GError **error);
/* NO_SUCH_TENANT; TENANT_BUSY while it has machines or charges. Frees the tenant. */
gboolean registry_remove_tenant(Registry *registry, const char *id, GError **error);
/* Sorted by id; elements not owned; free with g_ptr_array_unref(). */
GPtrArray *registry_tenants(Registry *registry);
unsigned registry_count_tenants(const Registry *registry);

/* ---- machines ---- */

/* Canonical: whoever reads the request, from the bus or from a file, has parsed it. */
typedef struct {
    const char *uuid; /* of machine_uuid_parse() */
    const char *name;
    const char *tenant;         /* NULL or "": the default tenant */
    uint64_t bytes;             /* the reservation: what the kernel will charge */
    const char *const *devices; /* of device_addresses_parse(); NULL: none */
    bool iommufd;
    bool follows_limit;    /* its process's lock limit is raised by what is plugged in */
    uint64_t unique_bytes; /* as bytes, with each page once; 0: no less than bytes */
    uint64_t iommufd_id;   /* the IOMMUFD that its start will be given; 0: not said */
} AdmissionRequest;

/*
 * Whether a machine can be admitted: tenant, device rules, groups, limit and host budget, in this
 * order. host_devices: what the kernel has now. replaced: the machine of that UUID whose place it
 * takes, whose bytes and devices are free for it then; or NULL. Changes nothing.
 * What is to be reserved is unique_bytes where the tenant counts unique bytes, else bytes.
 * INVALID_ARGUMENT: name (empty, control characters, over 255 bytes), infinite bytes;
 * NO_SUCH_TENANT; MACHINE_EXISTS; NO_SUCH_DEVICE; DEVICE_DENIED (the tenant's rules, or a bridge);
 * DEVICE_BUSY (another machine's); GROUP_SHARED (see policy/admission.h); NOT_SUPPORTED (no IOMMU
 * group); LIMIT_EXCEEDED; HOST_BUDGET_EXCEEDED.
 */
gboolean registry_check_admission(Registry *registry, const AdmissionRequest *request,
                                  const HostDevice *host_devices, size_t n_host_devices,
                                  const MachinePolicy *replaced, TenantPolicy **ret_tenant,
                                  uint64_t *ret_bytes, GError **error);
/* Admits it, with what registry_check_admission() has returned. Can't fail: nothing has changed
 * since but that the replaced machine was removed. */
MachinePolicy *registry_insert_admitted(Registry *registry, const AdmissionRequest *request,
                                        TenantPolicy *tenant, uint64_t bytes);
/* Takes back a machine that was admitted before a restart, as it was: what was promised stays
 * promised, so limits, rules, groups and whether its devices are there are not asked again.
 * INVALID_ARGUMENT; NO_SUCH_TENANT; MACHINE_EXISTS; DEVICE_BUSY (another machine's). */
MachinePolicy *registry_restore(Registry *registry, const AdmissionRequest *request,
                                GError **error);
/* Makes what is reserved for the machine larger or smaller; unique_bytes as in AdmissionRequest.
 * LIMIT_EXCEEDED, HOST_BUDGET_EXCEEDED. */
gboolean registry_set_reservation(MachinePolicy *machine, uint64_t bytes, uint64_t unique_bytes,
                                  GError **error);
/* Gives back the charge and the devices, and frees the machine. */
void registry_remove_machine(Registry *registry, MachinePolicy *machine);
/* uuid canonical. NO_SUCH_MACHINE. */
MachinePolicy *registry_get_machine(Registry *registry, const char *uuid, GError **error);
/* Sorted by name, then uuid; elements not owned. */
GPtrArray *registry_machines(Registry *registry);
unsigned registry_count_machines(const Registry *registry);
/* One more device for a machine that is there, by the rules of registry_check_admission(). address
 * canonical. NO_SUCH_MACHINE: it is being reaped. */
gboolean registry_add_device(Registry *registry, MachinePolicy *machine, const char *address,
                             const HostDevice *host_devices, size_t n_host_devices, GError **error);
/* address canonical. NO_SUCH_DEVICE: the machine does not hold it. */
gboolean registry_remove_device(Registry *registry, MachinePolicy *machine, const char *address,
                                GError **error);
/* Gives back what registry_remove_device() has just taken: no rule is asked again. address
 * canonical. */
void registry_put_back_device(Registry *registry, MachinePolicy *machine, const char *address);
/* The machine that holds the device, or NULL. address canonical. */
MachinePolicy *registry_device_holder(Registry *registry, const char *address);

/* Whether a machine of any tenant that its rules allow it could get the device now, with no other
 * device; *ret_reason (to be freed with g_free()) is a sentence when not, else NULL. */
bool registry_device_assignable(Registry *registry, const HostDevice *device,
                                const HostDevice *host_devices, size_t n_host_devices,
                                char **ret_reason);
