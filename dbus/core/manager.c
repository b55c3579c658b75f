/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/core/manager.h"

#include "dbus/base/journal.h"
#include "dbus/base/signals.h"

#include <systemd/sd-daemon.h>

/* The registry's tenants and machines are the first members of core's (service.c says so). */

Tenant *manager_get_tenant(Manager *manager, const char *id, GError **error)
{
    return (Tenant *)registry_get_tenant_or_default(manager->registry, id, error);
}

Tenant *manager_find_tenant(Manager *manager, const char *id)
{
    return (Tenant *)registry_get_tenant(manager->registry, id, NULL);
}

Machine *manager_get_machine(Manager *manager, const char *uuid, GError **error)
{
    return (Machine *)registry_get_machine(manager->registry, uuid, error);
}

Machine *manager_find_machine(Manager *manager, const char *uuid)
{
    return (Machine *)registry_get_machine(manager->registry, uuid, NULL);
}

Tenant *manager_find_tenant_by_id(Manager *manager, uint32_t ledger_id)
{
    return g_hash_table_lookup(manager->tenant_ids, GUINT_TO_POINTER(ledger_id));
}

Machine *manager_find_machine_by_id(Manager *manager, uint32_t ledger_id)
{
    return g_hash_table_lookup(manager->machine_ids, GUINT_TO_POINTER(ledger_id));
}

void manager_read_features(Manager *manager)
{
    manager->features = 0;
    (void)manager->host->ops->features(manager->host, &manager->features);
}

gboolean manager_need_iommufd(Manager *manager, GError **error)
{
    /* Somebody may have loaded the module since. */
    if (!(manager->features & HOST_FEATURE_IOMMUFD))
        manager_read_features(manager);
    if (manager->features & HOST_FEATURE_IOMMUFD)
        return TRUE;
    g_set_error_literal(error, IOMMUD_ERROR, IOMMUD_ERROR_NOT_SUPPORTED,
                        "This host has no /dev/iommu: load the module iommufd, or install the "
                        "modules iommud-vfio (DKMS) on a kernel that lacks it.");
    return FALSE;
}

void manager_log_refusal(Manager *manager, const char *tenant, const char *uuid, uint64_t requested,
                         const GError *error)
{
    if (!g_error_matches(error, IOMMUD_ERROR, IOMMUD_ERROR_LIMIT_EXCEEDED) &&
        !g_error_matches(error, IOMMUD_ERROR, IOMMUD_ERROR_HOST_BUDGET_EXCEEDED))
        return;
    const TenantPolicy *policy = registry_get_tenant_or_default(manager->registry, tenant, NULL);
    if (!policy)
        return;
    const Refusal refusal = {
        .tenant = policy->config->id,
        .machine = uuid,
        .command = "",
        .ioctl = "",
        .owner = "",
        .requested = requested,
        .left =
            MIN(budget_left(policy->budget), budget_left(registry_host_budget(manager->registry))),
        .limit = budget_limit(policy->budget),
        .error = error->message,
    };
    journal_write(LOG_NOTICE, MESSAGE_LIMIT_EXCEEDED, &(JournalFields){.refusal = &refusal}, "%s",
                  error->message);
    signal_limit_exceeded(manager->bus, &refusal);
}

void manager_notify_status(Manager *manager)
{
    (void)sd_notifyf(0, "STATUS=%u tenants, %u machines", registry_count_tenants(manager->registry),
                     registry_count_machines(manager->registry));
}
