/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What all parts of the service have in common; service.h makes it. */
#pragma once

#include "dbus/accounting/accounting.h"
#include "dbus/base/worker.h"
#include "dbus/core/host-devices.h"
#include "dbus/core/queue.h"
#include "dbus/state/numbers.h"
#include "policy/registry.h"

typedef struct Manager Manager;
typedef struct Tenant Tenant;
typedef struct Machine Machine;

struct Manager {
    sd_event *event;
    sd_bus *bus; /* NULL until it is connected: nothing is announced before */
    Host *host;
    bool simulated;
    unsigned features; /* HostFeatures, as of the start or the last Reload() */
    HostDevices *devices;
    Registry *registry; /* of all Tenants and Machines */
    Accounting *accounting;
    Writer *writer;
    Numbers *numbers;
    Queue *queue;
    char *config_dir;
    char *state_dir;
    char *runtime_dir;
    unsigned admission_timeout; /* seconds */
    GHashTable *tenant_ids;     /* ledger id -> Tenant */
    GHashTable *machine_ids;    /* ledger id -> Machine */
    GHashTable *leaders;        /* pid -> Machine that runs as it */
    Worker *worker;             /* ioctls that can block */
    Worker *binder;             /* binds and unbinds drivers: can block for longer still */
    GHashTable *binding;        /* addresses of devices that the binder has to do with */
    bool stuck;                 /* a job would not end: it has host and ledger to its end */
};

/* NO_SUCH_TENANT. "" or NULL is the default tenant. */
Tenant *manager_get_tenant(Manager *manager, const char *id, GError **error);
/* NULL: there is none of that very id. */
Tenant *manager_find_tenant(Manager *manager, const char *id);
/* NO_SUCH_MACHINE, INVALID_ARGUMENT. uuid in any spelling. */
Machine *manager_get_machine(Manager *manager, const char *uuid, GError **error);
/* NULL: there is none. uuid canonical. */
Machine *manager_find_machine(Manager *manager, const char *uuid);
/* By the ledger's ids; NULL: there is none, or it is gone. */
Tenant *manager_find_tenant_by_id(Manager *manager, uint32_t ledger_id);
Machine *manager_find_machine_by_id(Manager *manager, uint32_t ledger_id);

/* Asks the host again what it can do. */
void manager_read_features(Manager *manager);
/* NOT_SUPPORTED with what to do, when this host has no /dev/iommu. */
gboolean manager_need_iommufd(Manager *manager, GError **error);

/* Announces and logs that a limit or the host budget was hit, if that is what error says. tenant as
 * for manager_get_tenant(); uuid "": it is no machine's. */
void manager_log_refusal(Manager *manager, const char *tenant, const char *uuid, uint64_t requested,
                         const GError *error);
/* The unit's status line. */
void manager_notify_status(Manager *manager);
