/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/core/tenant-config.h"

#include "dbus/base/errors.h"
#include "dbus/base/journal.h"
#include "dbus/base/signals.h"
#include "dbus/state/fd-store.h"
#include "dbus/state/records.h"
#include "policy/size.h"

/* For a tenant that can't be taken back. If it fails, tenant_open() tries again before there is an
 * IOMMUFD. */
static void introduce_or_log(Tenant *tenant)
{
    g_autoptr(GError) error = NULL;
    if (!tenant_introduce(tenant, &error))
        journal_write(LOG_ERR, MESSAGE_KERNEL_NOT_TOLD,
                      &(JournalFields){.tenant = tenant_id(tenant)}, "%s", error->message);
}

/* ---- by the bus ---- */

static void unregister(Tenant *tenant)
{
    g_autofree char *id = g_strdup(tenant_id(tenant));
    g_autoptr(GError) impossible = NULL;
    (void)registry_remove_tenant(tenant->manager->registry, id, &impossible);
    g_assert_no_error(impossible);
}

Tenant *tenant_create(Manager *manager, TenantConfig *config, GError **error)
{
    Tenant *tenant = (Tenant *)registry_add_tenant(manager->registry, config, error);
    if (!tenant)
        return NULL;
    tenant_begin(tenant, manager);
    if (!tenant_introduce(tenant, error) ||
        !tenant_config_save(tenant->policy.config, manager->state_dir, error)) {
        accounting_remove_tenant(manager->accounting, tenant->ledger_id);
        tenant_record_remove(manager->runtime_dir, tenant_id(tenant));
        unregister(tenant);
        return NULL;
    }
    const TenantConfig *made = tenant->policy.config;
    g_autofree char *limit = size_format(made->limit);
    journal_write(LOG_INFO, MESSAGE_TENANT_CREATED,
                  &(JournalFields){.tenant = made->id, .limit = &made->limit},
                  "Created tenant %s with a limit of %s.", made->id, limit);
    signal_tenant_added(manager->bus, made->id);
    manager_notify_status(manager);
    return tenant;
}

static gboolean check_deletable(Tenant *tenant, GError **error)
{
    const TenantConfig *config = tenant->policy.config;
    /* Refused by policy, with its own sentence. */
    if (g_hash_table_size(tenant->policy.machines) > 0)
        return registry_remove_tenant(tenant->manager->registry, config->id, error);
    if (tenant->ioas_jobs > 0)
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_TENANT_BUSY,
                    "Tenant %s is busy: %u calls on its IOASes are under way; try again.",
                    config->id, tenant->ioas_jobs);
    else if (config->source)
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                    "Tenant %s is defined by %s and would come back: remove that file, and reload "
                    "the service.",
                    config->id, config->source);
    else
        return TRUE;
    return FALSE;
}

gboolean tenant_delete(Tenant *tenant, GError **error)
{
    Manager *manager = tenant->manager;
    g_autofree char *id = g_strdup(tenant_id(tenant));
    if (!check_deletable(tenant, error) || !tenant_config_remove(id, manager->state_dir, error))
        return FALSE;
    /* With the descriptor goes all that is in the IOMMUFD, and with the IOASes what they were
     * charged. */
    tenant_close(tenant);
    g_hash_table_remove_all(tenant->ioases);
    accounting_remove_tenant(manager->accounting, tenant->ledger_id);
    tenant_record_remove(manager->runtime_dir, id);
    unregister(tenant);
    queue_reap(manager->queue, id);
    journal_write(LOG_INFO, MESSAGE_TENANT_REMOVED, &(JournalFields){.tenant = id},
                  "Deleted tenant %s.", id);
    signal_tenant_removed(manager->bus, id);
    signal_manager_changed(manager->bus, "ReservedBytes");
    manager_notify_status(manager);
    return TRUE;
}

gboolean tenant_set_limit(Tenant *tenant, uint64_t limit, GError **error)
{
    TenantConfig *config = tenant->policy.config;
    Manager *manager = tenant->manager;
    uint64_t before = config->limit;
    config->limit = limit;
    if ((!config->source && !tenant_config_save(config, manager->state_dir, error)) ||
        !tenant_introduce(tenant, error)) {
        config->limit = before;
        if (!config->source)
            (void)tenant_config_save(config, manager->state_dir, NULL);
        return FALSE;
    }
    budget_set_limit(tenant->policy.budget, limit);
    signal_tenant_changed(manager->bus, config->id, "LimitBytes");
    return TRUE;
}

/* ---- by the configuration ---- */

/* What is still needed of a tenant after the registry has freed it in a reload. */
typedef struct {
    char *id;
    uint32_t ledger_id;
} Leaving;

static void leaving_free(void *data)
{
    Leaving *leaving = data;
    g_free(leaving->id);
    g_free(leaving);
}

static GPtrArray *list_tenants(Manager *manager)
{
    GPtrArray *all = g_ptr_array_new_with_free_func(leaving_free);
    g_autoptr(GPtrArray) tenants = registry_tenants(manager->registry);
    for (unsigned i = 0; i < tenants->len; i++) {
        const Tenant *tenant = g_ptr_array_index(tenants, i);
        Leaving *leaving = g_new0(Leaving, 1);
        leaving->id = g_strdup(tenant_id(tenant));
        leaving->ledger_id = tenant->ledger_id;
        g_ptr_array_add(all, leaving);
    }
    return all;
}

static void forget_tenants(Manager *manager, const GPtrArray *before, const GPtrArray *removed)
{
    for (unsigned i = 0; i < before->len; i++) {
        const Leaving *leaving = g_ptr_array_index(before, i);
        if (!g_ptr_array_find_with_equal_func((GPtrArray *)removed, leaving->id, g_str_equal, NULL))
            continue;
        g_autofree char *name = fd_store_tenant_name(leaving->id);
        fd_store_remove(name);
        accounting_remove_tenant(manager->accounting, leaving->ledger_id);
        tenant_record_remove(manager->runtime_dir, leaving->id);
        queue_reap(manager->queue, leaving->id);
        signal_tenant_removed(manager->bus, leaving->id);
    }
}

static gboolean load(Manager *manager, Config **ret_config, GPtrArray **ret_added,
                     GPtrArray **ret_removed, GError **error)
{
    uint64_t memory;
    int r = manager->host->ops->memory_total(manager->host, &memory);
    if (r < 0) {
        error_set_kernel(error, r,
                         "The host's memory (MemTotal in /proc/meminfo) could not be read");
        return FALSE;
    }
    g_autoptr(Config) config = config_load(manager->config_dir, manager->state_dir, error);
    if (!config ||
        !registry_reload(manager->registry, config, memory, ret_added, ret_removed, error))
        return FALSE;
    manager->admission_timeout = config->admission_timeout;
    for (unsigned i = 0; i < (*ret_added)->len; i++)
        tenant_begin(manager_find_tenant(manager, g_ptr_array_index(*ret_added, i)), manager);
    *ret_config = g_steal_pointer(&config);
    return TRUE;
}

Config *manager_load_config(Manager *manager, GError **error)
{
    g_autoptr(GPtrArray) added = NULL;
    g_autoptr(GPtrArray) removed = NULL;
    Config *config = NULL;
    return load(manager, &config, &added, &removed, error) ? config : NULL;
}

/* Limits, and the IOMMUFDs of tenants that are to have another kind, or none. */
static void follow_configs(Manager *manager)
{
    g_autoptr(GPtrArray) tenants = registry_tenants(manager->registry);
    for (unsigned i = 0; i < tenants->len; i++) {
        Tenant *tenant = g_ptr_array_index(tenants, i);
        tenant_follow_config(tenant);
        introduce_or_log(tenant);
        tenant_mark(tenant);
    }
    writer_commit_or_log(manager->writer);
}

static void announce(Manager *manager, const GPtrArray *added)
{
    for (unsigned i = 0; i < added->len; i++)
        signal_tenant_added(manager->bus, g_ptr_array_index(added, i));
    g_autoptr(GPtrArray) tenants = registry_tenants(manager->registry);
    for (unsigned i = 0; i < tenants->len; i++)
        signal_tenant_changed(manager->bus, tenant_id(g_ptr_array_index(tenants, i)), "LimitBytes");
    signal_manager_changed(manager->bus, "HostBudgetBytes");
    signal_manager_changed(manager->bus, "DefaultTenant");
    manager_notify_status(manager);
}

gboolean manager_reload(Manager *manager, GError **error)
{
    g_autoptr(GPtrArray) before = list_tenants(manager);
    g_autoptr(GPtrArray) added = NULL;
    g_autoptr(GPtrArray) removed = NULL;
    g_autoptr(Config) config = NULL;
    if (!load(manager, &config, &added, &removed, error))
        return FALSE;
    manager_read_features(manager);
    accounting_set_relay_units(manager->accounting, (const char *const *)config->relay_units);
    accounting_set_budget(manager->accounting,
                          budget_limit(registry_host_budget(manager->registry)));
    forget_tenants(manager, before, removed);
    follow_configs(manager);
    journal_write(LOG_INFO, MESSAGE_CONFIG_RELOADED, NULL,
                  "Reloaded the configuration: %u tenants are new, %u are gone.", added->len,
                  removed->len);
    announce(manager, added);
    return TRUE;
}
