/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The service's state: what main() makes, what every bus method finds, what a restart restores. */
#pragma once

#include "dbus/base/worker.h"
#include "kernel/host/host.h"
#include "policy/registry.h"

typedef struct Books Books;
typedef struct Manager Manager;
typedef struct MachineLife MachineLife;
typedef struct TenantLife TenantLife;

typedef struct {
    const char *config_dir;
    const char *state_dir;
    const char *runtime_dir;
    const char *simulate; /* the simulated host's file, NULL: the running kernel */
} ManagerOptions;

struct Manager {
    sd_event *event;
    sd_bus *bus; /* NULL until it is connected: nothing is announced before */
    Host *host;
    bool simulated;
    Registry *registry;
    Books *books; /* never NULL */
    char *config_dir;
    char *state_dir;
    char *runtime_dir;
    unsigned admission_timeout; /* seconds */
    GHashTable *tenants;        /* id -> TenantLife, owned */
    GHashTable *machines;       /* uuid -> MachineLife, owned */
    GPtrArray *waiting;         /* owned Waiting: calls that are answered later */
    Worker *worker;             /* ioctls that can block */
    Worker *binder;             /* binds and unbinds drivers: can block for longer still */
    GHashTable *binding;        /* addresses of devices that the binder has to do with */
    HostDevice *devices;        /* see manager_devices() */
    size_t n_devices;
    uint64_t devices_iteration;
};

/* Reads the configuration, and takes up what an earlier run has left: machines, leaders, IOMMUFDs.
 * Logs on its own what is missing on this host. */
Manager *manager_new(sd_event *event, const ManagerOptions *options, GError **error);
/* The running kernel, or the host that the file describes. Freed with host_free(). */
Host *manager_open_host(const char *simulate, GError **error);
/* Machines and IOMMUFDs stay as they are, for the next run. Accepts NULL. */
void manager_free(Manager *manager);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Manager, manager_free)

/* NO_SUCH_TENANT. "" or NULL is the default tenant. */
TenantLife *manager_get_tenant(Manager *manager, const char *id, GError **error);
/* NO_SUCH_MACHINE, INVALID_ARGUMENT. uuid in any spelling. */
MachineLife *manager_get_machine(Manager *manager, const char *uuid, GError **error);

/* Takes config; writes it to the state folder. TENANT_EXISTS, INVALID_ARGUMENT, KERNEL_REFUSED. */
TenantLife *manager_create_tenant(Manager *manager, TenantConfig *config, GError **error);
/* TENANT_BUSY; INVALID_ARGUMENT: a file in the configuration folder defines it. */
gboolean manager_delete_tenant(Manager *manager, TenantLife *life, GError **error);
/* A limit set on a tenant that CreateTenant made is kept; one that a file in the configuration
 * folder defines gets the file's limit back when that is read again. */
gboolean manager_set_limit(Manager *manager, TenantLife *life, uint64_t limit, GError **error);
/* Takes over the whole configuration, or nothing of it. */
gboolean manager_reload(Manager *manager, GError **error);

/* All PCI functions as the kernel has them now. One look serves all that is asked in one turn of
 * the event loop: GetManagedObjects() would scan the bus for each property otherwise. Valid until
 * control goes back to the loop. KERNEL_REFUSED. */
gboolean manager_devices(Manager *manager, const HostDevice **ret_devices, size_t *ret_n,
                         GError **error);
/* One of them. NO_SUCH_DEVICE, INVALID_ARGUMENT. address in any spelling. */
const HostDevice *manager_get_device(Manager *manager, const char *address, GError **error);
/* The next manager_devices() looks again. */
void manager_forget_devices(Manager *manager);

/* HostFeatures; 0 when they can't be had. */
unsigned manager_features(Manager *manager);
/* NOT_SUPPORTED with what to do, when this host has no /dev/iommu. */
gboolean manager_need_iommufd(Manager *manager, GError **error);

/* Sums over all machines; of one tenant: tenant_life_pinned(). */
uint64_t manager_pinned(Manager *manager);
uint64_t manager_orphaned(Manager *manager);

/* Announces and logs that a limit or the host budget was hit, if that is what error says. */
void manager_note_refusal(Manager *manager, const char *tenant, const char *uuid,
                          uint64_t requested, const GError *error);
/* The unit's status line. */
void manager_notify_status(Manager *manager);
