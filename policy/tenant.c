/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policy/tenant.h"

#include "policy/size.h"

#include <string.h>

#define TENANT_ID_MAX 64

static const char *const isolations[] = {
    [ISOLATION_TENANT] = "tenant",
    [ISOLATION_MACHINE] = "machine",
};
const EnumTable isolation_table = ENUM_TABLE("an isolation", isolations);

static const char *const accountings[] = {
    [HOST_ACCOUNTING_USER] = "user",
    [HOST_ACCOUNTING_PROCESS] = "process",
};
const EnumTable accounting_table = ENUM_TABLE("an accounting", accountings);

static const char *const count_modes[] = {
    [COUNT_CHARGED] = "charged",
    [COUNT_UNIQUE] = "unique",
};
const EnumTable count_mode_table = ENUM_TABLE("a way to count", count_modes);

/* ---- config ---- */

TenantConfig *tenant_config_new(const char *id)
{
    TenantConfig *config = g_new0(TenantConfig, 1);
    config->id = g_strdup(id);
    config->limit = SIZE_INFINITY;
    config->accounting = HOST_ACCOUNTING_PROCESS;
    return config;
}

TenantConfig *tenant_config_copy(const TenantConfig *config)
{
    TenantConfig *copy = tenant_config_new(config->id);
    copy->limit = config->limit;
    copy->isolation = config->isolation;
    copy->accounting = config->accounting;
    copy->count = config->count;
    copy->devices = g_strdupv(config->devices);
    copy->source = g_strdup(config->source);
    return copy;
}

void tenant_config_free(TenantConfig *config)
{
    if (!config)
        return;
    g_free(config->id);
    g_strfreev(config->devices);
    g_free(config->source);
    g_free(config);
}

gboolean tenant_id_check(const char *id, GError **error)
{
    size_t length = id ? strnlen(id, TENANT_ID_MAX + 1) : 0;
    bool ok = length >= 1 && length <= TENANT_ID_MAX && !strchr(".-", id[0]);
    for (size_t i = 0; ok && i < length; i++)
        ok = g_ascii_isalnum(id[i]) || strchr("_.-", id[i]);
    if (ok)
        return TRUE;
    g_autofree char *quoted = error_quote(id);
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                "%s can't be the id of a tenant: take 1 to 64 characters of A-Z a-z 0-9 _ . - that "
                "don't start with . or -.",
                quoted);
    return FALSE;
}

gboolean tenant_config_check(const TenantConfig *config, GError **error)
{
    if (!tenant_id_check(config->id, error))
        return FALSE;
    for (size_t i = 0; config->devices && config->devices[i]; i++) {
        if (!device_pattern_check(config->devices[i], error))
            return FALSE;
    }
    return TRUE;
}

/* ---- tenant ---- */

void tenant_policy_init(TenantPolicy *tenant, TenantConfig *config, Budget *host)
{
    g_autofree char *name = g_strdup_printf("tenant %s", config->id);
    g_autofree char *advice =
        g_strdup_printf("raise it with 'iommuctl tenant set-limit %s SIZE', or stop a machine of "
                        "the tenant",
                        config->id);
    tenant->config = config;
    tenant->budget = budget_new(name, config->limit, IOMMUD_ERROR_LIMIT_EXCEEDED, host);
    budget_set_advice(tenant->budget, advice);
    tenant->machines = g_hash_table_new(g_str_hash, g_str_equal);
}

void tenant_policy_clear(TenantPolicy *tenant)
{
    g_assert_cmpuint(g_hash_table_size(tenant->machines), ==, 0);
    g_hash_table_unref(tenant->machines);
    budget_free(tenant->budget);
    tenant_config_free(tenant->config);
}

bool tenant_policy_is_busy(const TenantPolicy *tenant)
{
    return g_hash_table_size(tenant->machines) > 0 || budget_charges(tenant->budget) > 0;
}

void tenant_policy_set_config(TenantPolicy *tenant, const TenantConfig *config)
{
    g_assert_cmpstr(tenant->config->id, ==, config->id);
    TenantConfig *copy = tenant_config_copy(config);
    /* The id stays where it is: it is the key of tables. */
    g_free(copy->id);
    copy->id = g_steal_pointer(&tenant->config->id);
    tenant_config_free(tenant->config);
    tenant->config = copy;
    budget_set_limit(tenant->budget, config->limit);
}

bool tenant_policy_allows_device(const TenantPolicy *tenant, const char *address, uint16_t vendor,
                                 uint16_t product)
{
    char *const *patterns = tenant->config->devices;
    if (!patterns)
        return true;
    for (; *patterns; patterns++) {
        if (device_pattern_matches(*patterns, address, vendor, product))
            return true;
    }
    return false;
}
