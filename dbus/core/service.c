/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/core/service.h"

#include "dbus/base/errors.h"
#include "dbus/base/journal.h"
#include "dbus/core/kernel-events.h"
#include "dbus/core/machine.h"
#include "dbus/core/restore.h"
#include "dbus/core/tenant-config.h"
#include "dbus/state/fd-store.h"
#include "dbus/state/records.h"
#include "kernel/simulated/host.h"
#include "policy/size.h"

/* One thing is one object: what the registry makes is what core works with. */
G_STATIC_ASSERT(offsetof(Tenant, policy) == 0);
G_STATIC_ASSERT(offsetof(Machine, policy) == 0);
static const RegistryTypes registry_types = {
    .tenant_size = sizeof(Tenant),
    .tenant_clear = tenant_clear,
    .machine_size = sizeof(Machine),
    .machine_clear = machine_clear,
};

gboolean service_open_host(const ServiceOptions *options, Host **ret_host, GError **error)
{
    g_autofree char *sentence = NULL;
    if (!options->simulate) {
        int r = linux_host_new("", ret_host);
        if (r < 0)
            error_set_kernel(error, r, "There is no memory to open the host with");
        return r >= 0;
    }
    int r = simulated_host_new(options->simulate, ret_host, &sentence);
    if (r < 0 && sentence)
        g_set_error_literal(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT, sentence);
    else if (r < 0)
        error_set_kernel(error, r, "The file %s can't be read", options->simulate);
    return r >= 0;
}

/* What this host lacks, one sentence each. */
static void log_missing(const Manager *manager)
{
    static const struct {
        unsigned feature;
        unsigned needs; /* not logged where this one is missing, too: its sentence implies it */
        const char *sentence;
    } missing[] = {
        {HOST_FEATURE_IOMMUFD, 0,
         "This host has no /dev/iommu: machines are admitted and accounted with legacy VFIO only. "
         "Load the module iommufd, or install the modules iommud-vfio (DKMS) on a kernel that "
         "lacks it."},
        {HOST_FEATURE_VFIO_CDEV, HOST_FEATURE_IOMMUFD,
         "This kernel's VFIO has no character devices: devices can't be used with an IOMMUFD. "
         "Install the modules iommud-vfio (DKMS)."},
        {HOST_FEATURE_MAP_FILE, HOST_FEATURE_IOMMUFD,
         "This kernel can't map files into an IOAS (Linux 6.13 can): MapFile is not available."},
        {HOST_FEATURE_IOMMU, 0,
         "This host has no IOMMU group: switch the IOMMU on in the firmware and on the kernel's "
         "command line."},
    };
    unsigned features = manager->features;
    for (size_t i = 0; i < G_N_ELEMENTS(missing); i++) {
        if (!(features & missing[i].feature) && (features & missing[i].needs) == missing[i].needs)
            journal_write(LOG_WARNING, MESSAGE_DEGRADED, NULL, "%s", missing[i].sentence);
    }
}

static Manager *alloc(sd_event *event, const ServiceOptions *options)
{
    Manager *manager = g_new0(Manager, 1);
    manager->event = sd_event_ref(event);
    manager->simulated = options->simulate;
    manager->config_dir = g_strdup(options->config_dir);
    manager->state_dir = g_strdup(options->state_dir);
    manager->runtime_dir = g_strdup(options->runtime_dir);
    manager->tenant_ids = g_hash_table_new(NULL, NULL);
    manager->machine_ids = g_hash_table_new(NULL, NULL);
    manager->leaders = g_hash_table_new(NULL, NULL);
    manager->binding = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    manager->registry = registry_new(SIZE_INFINITY, &registry_types);
    return manager;
}

static gboolean make_parts(Manager *manager, GError **error)
{
    sd_event *event = manager->event;
    int r = worker_new(event, "reaper", 1, &manager->worker);
    if (r >= 0)
        r = worker_new(event, "binder", 1, &manager->binder);
    manager->writer = writer_new(event);
    manager->queue = queue_new(event);
    if (r >= 0 && (!manager->writer || !manager->queue))
        r = -ENOMEM;
    if (r < 0) {
        error_set_kernel(error, r, "The service's threads and timers could not be made");
        return FALSE;
    }
    manager->devices = host_devices_new(event, manager->host);
    manager->numbers = numbers_new(manager->runtime_dir, manager->writer);
    return TRUE;
}

/* Its descriptor, if it has one, outlives the service along with those of tenants and leaders. */
static void open_accounting(Manager *manager, const Config *config, FdStore *store)
{
    autoclose int kept = fd_store_claim(store, FD_STORE_LEDGER);
    const AccountingSetup setup = {
        .event = manager->event,
        .host = manager->host,
        .config = config,
        .runtime_dir = manager->runtime_dir,
        .descriptor = kept,
    };
    manager->accounting = accounting_new(&setup);
    accounting_set_handler(manager->accounting, kernel_event_handle, manager);
    accounting_set_relay_units(manager->accounting, (const char *const *)config->relay_units);
    accounting_set_budget(manager->accounting,
                          budget_limit(registry_host_budget(manager->registry)));
    int descriptor = accounting_descriptor(manager->accounting);
    if (descriptor >= 0)
        fd_store_push(FD_STORE_LEDGER, descriptor);
}

static gboolean prepare(Manager *manager, const ServiceOptions *options, FdStore *store,
                        GError **error)
{
    if (!records_prepare(manager->runtime_dir, error) ||
        !service_open_host(options, &manager->host, error) || !make_parts(manager, error))
        return FALSE;
    g_autoptr(Config) config = manager_load_config(manager, error);
    if (!config)
        return FALSE;
    manager_read_features(manager);
    open_accounting(manager, config, store);
    log_missing(manager);
    return TRUE;
}

/* When the start fails the service manager keeps the descriptors, for the next one. */
Manager *service_new(sd_event *event, const ServiceOptions *options, GError **error)
{
    g_autoptr(Manager) manager = alloc(event, options);
    FdStore *store = fd_store_take();
    if (!prepare(manager, options, store, error)) {
        fd_store_leave(store);
        return NULL;
    }
    restore(manager, store);
    fd_store_free(store);
    return g_steal_pointer(&manager);
}

void service_stop(Manager *manager)
{
    bool ended = worker_free(g_steal_pointer(&manager->worker));
    ended = worker_free(g_steal_pointer(&manager->binder)) && ended;
    manager->stuck = manager->stuck || !ended;
}

void service_free(Manager *manager)
{
    if (!manager)
        return;
    service_stop(manager);
    if (manager->writer)
        writer_commit_or_log(manager->writer);
    sd_bus_flush_close_unref(manager->bus);
    registry_free(manager->registry);
    if (!manager->stuck)
        accounting_free(manager->accounting);
    numbers_free(manager->numbers);
    writer_free(manager->writer);
    queue_free(manager->queue);
    host_devices_free(manager->devices);
    g_hash_table_unref(manager->tenant_ids);
    g_hash_table_unref(manager->machine_ids);
    g_hash_table_unref(manager->leaders);
    g_hash_table_unref(manager->binding);
    if (!manager->stuck)
        host_free(manager->host);
    g_free(manager->config_dir);
    g_free(manager->state_dir);
    g_free(manager->runtime_dir);
    sd_event_unref(manager->event);
    g_free(manager);
}
