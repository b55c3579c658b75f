/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An owner of machines, with a budget of pinned bytes and rules on devices. */
#pragma once

#include "kernel/base/enum-table.h"
#include "kernel/host/host.h"
#include "policy/charge.h"
#include "policy/device.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct MachinePolicy MachinePolicy;

typedef enum {
    ISOLATION_TENANT,  /* one shared IOMMUFD for all machines of the tenant */
    ISOLATION_MACHINE, /* a fresh IOMMUFD for each start of a machine */
} Isolation;

/* Which bytes a limit counts. A page that is mapped in two address spaces is charged twice. */
typedef enum {
    COUNT_CHARGED, /* what the kernel charges: each mapping */
    COUNT_UNIQUE,  /* what is really pinned: each page once */
} CountMode;

/* "tenant"/"machine"; "user"/"process"; "charged"/"unique". */
ENUM_DECLARE(isolation, Isolation)
ENUM_DECLARE(accounting, HostAccounting)
ENUM_DECLARE(count_mode, CountMode)

/* What configuration or CreateTenant says about a tenant. */
typedef struct {
    char *id;
    uint64_t limit; /* bytes, or SIZE_INFINITY */
    Isolation isolation;
    HostAccounting accounting;
    CountMode count;
    char **devices; /* patterns (device.h); NULL: every device, empty: none */
    char *source;   /* the file that defines it, NULL: made at run time */
} TenantConfig;

/* No limit, ISOLATION_TENANT, HOST_ACCOUNTING_PROCESS, COUNT_CHARGED, every device. */
TenantConfig *tenant_config_new(const char *id);
TenantConfig *tenant_config_copy(const TenantConfig *config);
/* Accepts NULL. */
void tenant_config_free(TenantConfig *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TenantConfig, tenant_config_free)

/* Whether id can name a tenant: 1 to 64 characters of A-Z a-z 0-9 _ . - (Keystone's project ids
 * are opaque strings of at most 64), not starting with '.' or '-'. INVALID_ARGUMENT with the rule
 * in its message. */
gboolean tenant_id_check(const char *id, GError **error);
/* Whether id and device patterns are what they should be. INVALID_ARGUMENT. */
gboolean tenant_config_check(const TenantConfig *config, GError **error);

typedef struct TenantPolicy {
    TenantConfig *config; /* owned */
    Budget *budget;       /* owned; its parent is the host's */
    GHashTable *machines; /* uuid -> MachinePolicy, not owned */
} TenantPolicy;

/* Makes *tenant, all zeros, a tenant without machines. Takes config. For the registry, which makes
 * and frees tenants. */
void tenant_policy_init(TenantPolicy *tenant, TenantConfig *config, Budget *host);
/* Asserts that it has no machine and no charge. */
void tenant_policy_clear(TenantPolicy *tenant);

/* Whether it has machines or charges: it can't be removed then. */
bool tenant_policy_is_busy(const TenantPolicy *tenant);
/* Replaces its config by a copy of config (of the same id) and its limit with it. */
void tenant_policy_set_config(TenantPolicy *tenant, const TenantConfig *config);

/* Whether the tenant's rules let it have the device. address canonical. */
bool tenant_policy_allows_device(const TenantPolicy *tenant, const char *address, uint16_t vendor,
                                 uint16_t product);
