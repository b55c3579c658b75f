/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* All that the service knows, as JSON, for Describe(). */
#pragma once

#include "dbus/core/manager.h"

/* {"version", "host": {...}, "tenants": [{..., "machines": [{...}]}], "devices": [...]}: keys in
 * snake_case, bytes as numbers, nothing and no limit as null. Freed with g_free(). */
char *describe_host(Manager *manager);

/* What a tenant's machines may have: "*" is every device. NULL-terminated, not owned. */
const char *const *describe_device_patterns(const TenantConfig *config);

/* "iommufd", "vfio-cdev", "map-file", "iommu", "ledger", "guard", "guard-recheck", "simulated":
 * what there is, NULL-terminated, to be freed with g_strfreev(). */
char **describe_features(Manager *manager);
