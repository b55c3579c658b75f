/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policy/size.h"
#include "policy/tenant.h"

static void test_id(void)
{
    g_autofree char *longest = g_strnfill(64, 'x');
    g_autofree char *too_long = g_strnfill(65, 'x');
    const char *const good[] = {"acme", "A", "0", "_", "a.b-c_D", "9d2e8a0c7b9f4c52a8e6", longest};
    const char *const bad[] = {NULL,  "",    too_long, ".",           "..",   ".acme", "-acme",
                               "a/b", "a b", "a\n",    "gr\xc3\xbcn", "\xff", "a;b",   "a$b"};
    for (size_t i = 0; i < G_N_ELEMENTS(good); i++)
        g_assert_true(tenant_id_check(good[i], NULL));
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(tenant_id_check(bad[i], &error));
        g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT);
    }
    g_autoptr(GError) error = NULL;
    g_assert_false(tenant_id_check("a/b", &error));
    g_assert_cmpstr(error->message, ==,
                    "\"a/b\" can't be the id of a tenant: take 1 to 64 characters of A-Z a-z 0-9 "
                    "_ . - that don't start with . or -.");
}

static void test_words(void)
{
    static const struct {
        const EnumTable *table;
        const char *words;
    } tables[] = {
        {&isolation_table, "tenant or machine"},
        {&accounting_table, "user or process"},
        {&count_mode_table, "charged or unique"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(tables); i++) {
        g_autofree char *words = enum_alternatives(tables[i].table);
        g_assert_cmpstr(words, ==, tables[i].words);
    }
    g_assert_cmpstr(isolation_to_string(ISOLATION_MACHINE), ==, "machine");
    g_assert_cmpstr(accounting_to_string(HOST_ACCOUNTING_PROCESS), ==, "process");
    g_assert_cmpint(count_mode_from_string("unique"), ==, COUNT_UNIQUE);
    g_assert_cmpint(isolation_from_string("Machine"), ==, -1);
    g_assert_cmpint(isolation_from_string(NULL), ==, -1);
    g_assert_cmpint(accounting_from_string(""), ==, -1);
}

static void test_config(void)
{
    g_autoptr(TenantConfig) config = tenant_config_new("acme");
    g_assert_cmpuint(config->limit, ==, SIZE_INFINITY);
    g_assert_cmpint(config->isolation, ==, ISOLATION_TENANT);
    g_assert_cmpint(config->accounting, ==, HOST_ACCOUNTING_PROCESS);
    g_assert_null(config->devices);
    g_assert_null(config->source);
    config->isolation = ISOLATION_MACHINE;
    config->accounting = HOST_ACCOUNTING_USER;
    config->limit = 4096;
    config->devices = g_strsplit("10de:*;0000:81:*", ";", -1);
    config->source = g_strdup("/etc/iommud/tenants.d/acme.conf");

    g_autoptr(TenantConfig) copy = tenant_config_copy(config);
    g_assert_cmpstr(copy->id, ==, "acme");
    g_assert_cmpuint(copy->limit, ==, 4096);
    g_assert_cmpint(copy->isolation, ==, ISOLATION_MACHINE);
    g_assert_cmpint(copy->accounting, ==, HOST_ACCOUNTING_USER);
    g_assert_cmpstrv(copy->devices, config->devices);
    g_assert_cmpstr(copy->source, ==, config->source);
    g_assert_true(tenant_config_check(copy, NULL));

    g_autoptr(GError) error = NULL;
    g_free(copy->devices[1]);
    copy->devices[1] = g_strdup("81:*");
    g_assert_false(tenant_config_check(copy, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT);
    tenant_config_free(NULL);
}

static void test_devices(void)
{
    TenantConfig *config = tenant_config_new("acme");
    TenantPolicy tenant = {0};
    tenant_policy_init(&tenant, config, NULL);
    g_assert_true(tenant_policy_allows_device(&tenant, "0000:81:00.0", 0x10de, 0x2230));
    config->devices = g_strsplit("0000:81:00.*;10de:*", ";", -1);
    g_assert_true(tenant_policy_allows_device(&tenant, "0000:81:00.1", 0x8086, 0x1521));
    g_assert_true(tenant_policy_allows_device(&tenant, "0000:82:00.0", 0x10de, 0x2230));
    g_assert_false(tenant_policy_allows_device(&tenant, "0000:82:00.0", 0x8086, 0x1521));
    g_strfreev(config->devices);
    config->devices = g_new0(char *, 1);
    g_assert_false(tenant_policy_allows_device(&tenant, "0000:81:00.0", 0x10de, 0x2230));
    tenant_policy_clear(&tenant);
}

static void test_set_config(void)
{
    TenantPolicy tenant = {0};
    tenant_policy_init(&tenant, tenant_config_new("acme"), NULL);
    const char *key = tenant.config->id;
    g_autoptr(TenantConfig) config = tenant_config_new("acme");
    config->limit = 4096;
    tenant_policy_set_config(&tenant, config);
    g_assert_cmpuint(budget_limit(tenant.budget), ==, 4096);
    g_assert_true(tenant.config->id == key);
    config->accounting = HOST_ACCOUNTING_USER;
    tenant_policy_set_config(&tenant, config);
    g_assert_cmpint((int)tenant.config->accounting, ==, HOST_ACCOUNTING_USER);
    tenant_policy_clear(&tenant);
}

static void test_free_with_machine(void)
{
    if (g_test_subprocess()) {
        TenantPolicy tenant = {0};
        tenant_policy_init(&tenant, tenant_config_new("acme"), NULL);
        g_hash_table_add(tenant.machines, (char *)"4dea22b3-1d52-d8f3-2516-782e98ab3fa0");
        tenant_policy_clear(&tenant);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*assertion failed*machines*");
}

static void test_free_with_charge(void)
{
    if (g_test_subprocess()) {
        TenantPolicy tenant = {0};
        tenant_policy_init(&tenant, tenant_config_new("acme"), NULL);
        charge_take(tenant.budget, 4096, "machine web-1", NULL);
        g_assert_true(tenant_policy_is_busy(&tenant));
        tenant_policy_clear(&tenant);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*assertion failed*reserved*");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/tenant/id", test_id);
    g_test_add_func("/tenant/words", test_words);
    g_test_add_func("/tenant/config", test_config);
    g_test_add_func("/tenant/devices", test_devices);
    g_test_add_func("/tenant/set-config", test_set_config);
    g_test_add_func("/tenant/free-with-machine", test_free_with_machine);
    g_test_add_func("/tenant/free-with-charge", test_free_with_charge);
    return g_test_run();
}
