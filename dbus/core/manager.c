/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/core/manager.h"

#include "dbus/accounting/accounting.h"
#include "dbus/base/errors.h"
#include "dbus/bus/bus.h"
#include "dbus/state/fd-store.h"
#include "dbus/base/journal.h"
#include "dbus/core/machine.h"
#include "dbus/core/restore.h"
#include "dbus/state/records.h"
#include "dbus/core/tenant.h"
#include "dbus/bus/pending-call.h"
#include "dbus/base/worker.h"
#include "kernel/simulated/host.h"
#include "policy/size.h"

#include <errno.h>
#include <systemd/sd-daemon.h>

/* ---- begin and end ---- */

Host *manager_open_host(const char *simulate, GError **error)
{
    g_autofree char *sentence = NULL;
    Host *host = NULL;
    int r = simulate ? simulated_host_new(simulate, &host, &sentence) : linux_host_new("", &host);
    if (r < 0 && sentence)
        g_set_error_literal(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT, sentence);
    else if (r < 0 && simulate)
        error_set_kernel(error, r, "The file %s can't be read", simulate);
    else if (r < 0)
        error_set_kernel(error, r, "The host can't be looked at");
    return host;
}

static gboolean load_config(Manager *manager, FdStore *store, GPtrArray **ret_added,
                            GPtrArray **ret_removed, GError **error)
{
    uint64_t memory;
    int r = manager->host->ops->memory_total(manager->host, &memory);
    if (r < 0) {
        error_set_kernel(error, r, "The host's memory can't be told");
        return FALSE;
    }
    g_autoptr(Config) config = config_load(manager->config_dir, manager->state_dir, error);
    if (!config ||
        !registry_reload(manager->registry, config, memory, ret_added, ret_removed, error))
        return FALSE;
    manager->admission_timeout = config->admission_timeout;
    if (!manager->books)
        manager->books = books_new(manager, config, store);
    books_set_relay_units(manager->books, (const char *const *)config->relay_units);
    return TRUE;
}

static void add_tenants(Manager *manager, const GPtrArray *ids)
{
    for (unsigned i = 0; i < ids->len; i++) {
        const char *id = g_ptr_array_index(ids, i);
        Tenant *tenant = registry_get_tenant(manager->registry, id, NULL);
        TenantLife *life = tenant_life_new(manager, tenant);
        g_hash_table_insert(manager->tenants, life->id, life);
        bus_tenant_added(manager, id);
    }
}

/* What this host lacks, one sentence each. */
static void log_missing(Manager *manager)
{
    static const struct {
        unsigned feature;
        unsigned needs; /* where this is missing, too, that says it all */
        const char *sentence;
    } missing[] = {
        {HOST_FEATURE_IOMMUFD, 0,
         "This host has no /dev/iommu: machines are admitted and accounted "
         "with legacy VFIO only. Load the module iommufd, or install the "
         "modules iommud-vfio (DKMS) on a kernel that lacks it."},
        {HOST_FEATURE_VFIO_CDEV, HOST_FEATURE_IOMMUFD,
         "This kernel's VFIO has no character devices: devices can't be "
         "used with an IOMMUFD. Install the modules iommud-vfio (DKMS)."},
        {HOST_FEATURE_MAP_FILE, HOST_FEATURE_IOMMUFD,
         "This kernel can't map files into an IOAS (Linux 6.13 can): "
         "MapFile is not available."},
        {HOST_FEATURE_IOMMU, 0,
         "This host has no IOMMU group: switch the IOMMU on in the firmware "
         "and on the kernel's command line."},
    };
    unsigned features = manager_features(manager);
    for (size_t i = 0; i < G_N_ELEMENTS(missing); i++) {
        if (!(features & missing[i].feature) && (features & missing[i].needs) == missing[i].needs)
            journal_write(LOG_WARNING, MESSAGE_DEGRADED, NULL, "%s", missing[i].sentence);
    }
}

static Manager *manager_alloc(sd_event *event, const ManagerOptions *options)
{
    Manager *manager = g_new0(Manager, 1);
    manager->event = sd_event_ref(event);
    manager->config_dir = g_strdup(options->config_dir);
    manager->state_dir = g_strdup(options->state_dir);
    manager->runtime_dir = g_strdup(options->runtime_dir);
    manager->tenants =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)tenant_life_free);
    manager->machines =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)machine_life_free);
    manager->waiting = g_ptr_array_new_with_free_func((GDestroyNotify)waiting_free);
    manager->binding = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    manager->registry = registry_new(SIZE_INFINITY);
    return manager;
}

/* All that can keep the service from starting. */
static gboolean prepare(Manager *manager, const ManagerOptions *options, FdStore *store,
                        GPtrArray **ret_tenants, GError **error)
{
    int r = worker_new(manager->event, "reaper", 1, &manager->worker);
    if (r >= 0)
        r = worker_new(manager->event, "binder", 1, &manager->binder);
    if (r < 0) {
        error_set_kernel(error, r, "No worker could be made");
        return FALSE;
    }
    if (!state_prepare(manager->runtime_dir, error))
        return FALSE;
    manager->simulated = options->simulate;
    manager->host = manager_open_host(options->simulate, error);
    return manager->host && load_config(manager, store, ret_tenants, NULL, error);
}

Manager *manager_new(sd_event *event, const ManagerOptions *options, GError **error)
{
    g_autoptr(Manager) manager = manager_alloc(event, options);
    g_autoptr(GPtrArray) tenants = NULL;
    FdStore *store = fd_store_take();
    if (!prepare(manager, options, store, &tenants, error)) {
        fd_store_leave(store);
        return NULL;
    }
    add_tenants(manager, tenants);
    log_missing(manager);
    restore(manager, store);
    return g_steal_pointer(&manager);
}

void manager_free(Manager *manager)
{
    if (!manager)
        return;
    worker_free(manager->worker);
    worker_free(manager->binder);
    g_ptr_array_unref(manager->waiting);
    sd_bus_flush_close_unref(manager->bus);
    g_hash_table_unref(manager->machines);
    g_hash_table_unref(manager->tenants);
    books_free(manager->books);
    registry_free(manager->registry);
    g_hash_table_unref(manager->binding);
    g_free(manager->devices);
    host_free(manager->host);
    g_free(manager->config_dir);
    g_free(manager->state_dir);
    g_free(manager->runtime_dir);
    sd_event_unref(manager->event);
    g_free(manager);
}

/* ---- tenants and machines ---- */

TenantLife *manager_get_tenant(Manager *manager, const char *id, GError **error)
{
    const Tenant *tenant = registry_find_tenant(manager->registry, id, error);
    return tenant ? g_hash_table_lookup(manager->tenants, tenant->config->id) : NULL;
}

MachineLife *manager_get_machine(Manager *manager, const char *uuid, GError **error)
{
    g_autofree char *canonical = machine_uuid_parse(uuid, error);
    if (!canonical || !registry_get_machine(manager->registry, canonical, error))
        return NULL;
    return g_hash_table_lookup(manager->machines, canonical);
}

TenantLife *manager_create_tenant(Manager *manager, TenantConfig *config, GError **error)
{
    Tenant *tenant = registry_add_tenant(manager->registry, config, error);
    if (!tenant)
        return NULL;
    if (!tenant_config_save(tenant->config, manager->state_dir, error)) {
        g_autofree char *id = g_strdup(tenant->config->id);
        (void)registry_remove_tenant(manager->registry, id, NULL);
        return NULL;
    }
    TenantLife *life = tenant_life_new(manager, tenant);
    g_hash_table_insert(manager->tenants, life->id, life);
    books_set_tenant(manager->books, life);
    bus_tenant_added(manager, life->id);
    manager_notify_status(manager);
    g_autofree char *limit = size_format(tenant->config->limit);
    journal_write(LOG_INFO, MESSAGE_TENANT_CREATED,
                  &(JournalAbout){.tenant = life->id, .limit = &tenant->config->limit},
                  "Created tenant %s with a limit of %s.", life->id, limit);
    return life;
}

static gboolean check_deletable(Manager *manager, TenantLife *life, GError **error)
{
    /* Refused by policy, with its own sentence. */
    if (g_hash_table_size(life->tenant->machines) > 0)
        return registry_remove_tenant(manager->registry, life->id, error);
    if (life->calls > 0) {
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_TENANT_BUSY,
                    "Tenant %s is busy: %u calls on its IOASes are under way; try again.", life->id,
                    life->calls);
        return FALSE;
    }
    if (life->tenant->config->source) {
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                    "Tenant %s is defined by %s and would come back: remove that file, and reload "
                    "the service.",
                    life->id, life->tenant->config->source);
        return FALSE;
    }
    return TRUE;
}

gboolean manager_delete_tenant(Manager *manager, TenantLife *life, GError **error)
{
    g_autofree char *id = g_strdup(life->id);
    if (!check_deletable(manager, life, error) ||
        !tenant_config_remove(id, manager->state_dir, error))
        return FALSE;
    /* With the descriptor goes all that is in the IOMMUFD, with the life what it was charged. */
    tenant_life_close(life);
    books_remove_tenant(manager->books, life);
    state_remove_tenant(manager, id);
    g_hash_table_remove(manager->tenants, id);
    g_autoptr(GError) impossible = NULL;
    (void)registry_remove_tenant(manager->registry, id, &impossible);
    g_assert_no_error(impossible);
    bus_tenant_removed(manager, id);
    bus_manager_changed(manager, "ReservedBytes");
    manager_notify_status(manager);
    journal_write(LOG_INFO, MESSAGE_TENANT_REMOVED, &(JournalAbout){.tenant = id},
                  "Deleted tenant %s.", id);
    return TRUE;
}

gboolean manager_set_limit(Manager *manager, TenantLife *life, uint64_t limit, GError **error)
{
    TenantConfig *config = life->tenant->config;
    uint64_t before = config->limit;
    config->limit = limit;
    if (!config->source && !tenant_config_save(config, manager->state_dir, error)) {
        config->limit = before;
        return FALSE;
    }
    budget_set_limit(life->tenant->budget, limit);
    books_set_tenant(manager->books, life);
    bus_tenant_changed(manager, life->id, "LimitBytes");
    return TRUE;
}

/* ---- reload ---- */

static void remove_tenants(Manager *manager, const GPtrArray *ids)
{
    for (unsigned i = 0; i < ids->len; i++) {
        const char *id = g_ptr_array_index(ids, i);
        g_autofree char *name = fd_store_tenant_name(id);
        fd_store_remove(name);
        books_remove_tenant(manager->books, g_hash_table_lookup(manager->tenants, id));
        state_remove_tenant(manager, id);
        g_hash_table_remove(manager->tenants, id);
        bus_tenant_removed(manager, id);
    }
}

/* A tenant whose isolation or accounting changed has lost its IOMMUFD. */
static void note_new_configs(Manager *manager)
{
    GHashTableIter iter;
    void *value;
    g_hash_table_iter_init(&iter, manager->tenants);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        TenantLife *life = value;
        if (life->stored && life->tenant->iommufd < 0)
            tenant_life_close(life);
        books_set_tenant(manager->books, life);
        bus_tenant_changed(manager, life->id, "LimitBytes");
    }
    bus_manager_changed(manager, "HostBudgetBytes");
    bus_manager_changed(manager, "DefaultTenant");
}

gboolean manager_reload(Manager *manager, GError **error)
{
    g_autoptr(GPtrArray) added = NULL;
    g_autoptr(GPtrArray) removed = NULL;
    if (!load_config(manager, NULL, &added, &removed, error))
        return FALSE;
    remove_tenants(manager, removed);
    add_tenants(manager, added);
    note_new_configs(manager);
    manager_notify_status(manager);
    journal_write(LOG_INFO, MESSAGE_CONFIG_RELOADED, NULL,
                  "Reloaded the configuration: %u tenants are new, %u are gone.", added->len,
                  removed->len);
    return TRUE;
}

/* ---- the host ---- */

void manager_forget_devices(Manager *manager)
{
    g_clear_pointer(&manager->devices, g_free);
    manager->n_devices = 0;
}

gboolean manager_devices(Manager *manager, const HostDevice **ret_devices, size_t *ret_n,
                         GError **error)
{
    uint64_t iteration = 0;
    (void)sd_event_get_iteration(manager->event, &iteration);
    if (manager->devices_iteration != iteration)
        manager_forget_devices(manager);
    if (!manager->devices) {
        int r = manager->host->ops->devices(manager->host, &manager->devices, &manager->n_devices);
        if (r < 0) {
            error_set_kernel(error, r, "The host's PCI devices could not be listed");
            return FALSE;
        }
        manager->devices_iteration = iteration;
    }
    *ret_devices = manager->devices;
    *ret_n = manager->n_devices;
    return TRUE;
}

const HostDevice *manager_get_device(Manager *manager, const char *address, GError **error)
{
    const HostDevice *devices;
    size_t n;
    g_autofree char *canonical = device_address_parse(address, error);
    if (!canonical || !manager_devices(manager, &devices, &n, error))
        return NULL;
    for (size_t i = 0; i < n; i++) {
        if (g_str_equal(devices[i].address, canonical))
            return &devices[i];
    }
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_NO_SUCH_DEVICE,
                "This host has no PCI device %s: 'iommuctl devices' lists them.", canonical);
    return NULL;
}

unsigned manager_features(Manager *manager)
{
    unsigned features = 0;
    (void)manager->host->ops->features(manager->host, &features);
    return features;
}

gboolean manager_need_iommufd(Manager *manager, GError **error)
{
    if (manager_features(manager) & HOST_FEATURE_IOMMUFD)
        return TRUE;
    g_set_error_literal(error, IOMMUD_ERROR, IOMMUD_ERROR_NOT_SUPPORTED,
                        "This host has no /dev/iommu: load the module iommufd, or install the "
                        "modules iommud-vfio (DKMS) on a kernel that lacks it, and restart the "
                        "service.");
    return FALSE;
}

/* ---- figures ---- */

uint64_t manager_pinned(Manager *manager)
{
    uint64_t pinned = 0;
    GHashTableIter iter;
    void *life;
    g_hash_table_iter_init(&iter, manager->tenants);
    while (g_hash_table_iter_next(&iter, NULL, &life))
        pinned += tenant_life_pinned(life);
    return pinned;
}

uint64_t manager_orphaned(Manager *manager)
{
    uint64_t orphaned = 0;
    GHashTableIter iter;
    void *life;
    g_hash_table_iter_init(&iter, manager->tenants);
    while (g_hash_table_iter_next(&iter, NULL, &life))
        orphaned += tenant_life_orphaned(life);
    return orphaned;
}

void manager_note_refusal(Manager *manager, const char *tenant, const char *uuid,
                          uint64_t requested, const GError *error)
{
    if (!g_error_matches(error, IOMMUD_ERROR, IOMMUD_ERROR_LIMIT_EXCEEDED) &&
        !g_error_matches(error, IOMMUD_ERROR, IOMMUD_ERROR_HOST_BUDGET_EXCEEDED))
        return;
    const TenantLife *life = manager_get_tenant(manager, tenant, NULL);
    if (!life)
        return;
    uint64_t limit = budget_limit(life->tenant->budget);
    uint64_t left = MIN(budget_left(life->tenant->budget),
                        budget_left(registry_host_budget(manager->registry)));
    const Refusal refusal = {
        .tenant = life->id,
        .machine = uuid,
        .command = "",
        .ioctl = "",
        .owner = "",
        .requested = requested,
        .left = left,
        .limit = limit,
        .error = error->message,
    };
    bus_limit_exceeded(manager, &refusal);
    journal_write(LOG_NOTICE, MESSAGE_LIMIT_EXCEEDED, &(JournalAbout){.refusal = &refusal}, "%s",
                  error->message);
}

void manager_notify_status(Manager *manager)
{
    (void)sd_notifyf(0, "STATUS=%u tenants, %u machines", g_hash_table_size(manager->tenants),
                     g_hash_table_size(manager->machines));
}
