/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Both kinds of configuration files. What was accepted must keep its promises, and a tenant's file
 * must survive being written and read again. */
#include "policy/config.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_refusal(const GError *error)
{
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT);
    g_assert_true(g_str_has_prefix(error->message, "File fuzz.conf"));
    g_assert_true(g_str_has_suffix(error->message, "."));
    g_assert_true(g_utf8_validate(error->message, -1, NULL));
    g_assert_cmpuint(strlen(error->message), <, 2048);
}

static void fuzz_main_file(const char *data, size_t size)
{
    g_autoptr(Config) config = config_new();
    g_autoptr(GError) error = NULL;
    if (!config_parse(config, "fuzz.conf", data, size, &error)) {
        check_refusal(error);
        return;
    }
    g_assert_cmpuint(config->budget_percent, <=, 100);
    g_assert_cmpuint(config->admission_timeout, >=, 1);
    g_assert_cmpuint(config->tenants->len, ==, 0);
    if (config->default_tenant)
        g_assert_true(tenant_id_check(config->default_tenant, NULL));
}

static void assert_same(const TenantConfig *a, const TenantConfig *b)
{
    g_assert_cmpstr(a->id, ==, b->id);
    g_assert_cmpuint(a->limit, ==, b->limit);
    g_assert_cmpint(a->isolation, ==, b->isolation);
    g_assert_cmpint(a->accounting, ==, b->accounting);
    g_assert_true(!a->devices == !b->devices);
    if (a->devices)
        g_assert_cmpstrv(a->devices, b->devices);
}

static void fuzz_tenant_file(const char *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(TenantConfig) config = tenant_config_parse("fuzz.conf", data, size, &error);
    if (!config) {
        check_refusal(error);
        return;
    }
    g_assert_true(tenant_config_check(config, NULL));
    for (size_t i = 0; config->devices && config->devices[i]; i++)
        device_pattern_matches(config->devices[i], "0000:01:00.0", 0x1b36, 0x0010);
    g_autofree char *text = tenant_config_to_data(config);
    g_autoptr(TenantConfig) again = tenant_config_parse("fuzz.conf", text, strlen(text), NULL);
    g_assert_nonnull(again);
    assert_same(config, again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_main_file((const char *)data, size);
    fuzz_tenant_file((const char *)data, size);
    return 0;
}
