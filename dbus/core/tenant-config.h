/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tenants come, change and go: by the bus, and by the configuration. */
#pragma once

#include "dbus/core/tenant.h"

/* Takes config; writes it to the state folder. TENANT_EXISTS, INVALID_ARGUMENT, KERNEL_REFUSED. */
Tenant *tenant_create(Manager *manager, TenantConfig *config, GError **error);
/* TENANT_BUSY; INVALID_ARGUMENT: a file in the configuration folder defines it; KERNEL_REFUSED. */
gboolean tenant_delete(Tenant *tenant, GError **error);
/* A limit set on a tenant that CreateTenant made is kept; one that a file in the configuration
 * folder defines gets the file's limit back when that is read again. KERNEL_REFUSED. */
gboolean tenant_set_limit(Tenant *tenant, uint64_t limit, GError **error);

/* Takes over the whole configuration, or nothing of it; with ret_config NULL it is one that is read
 * again while the service runs. INVALID_ARGUMENT, TENANT_BUSY, KERNEL_REFUSED. */
gboolean manager_reload(Manager *manager, GError **error);
/* The configuration that the service starts with: its tenants begin, and are told to nobody yet.
 * Freed with config_free(). */
Config *manager_load_config(Manager *manager, GError **error);
