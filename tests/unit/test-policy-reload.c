/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policy/registry.h"
#include "tests/unit/admit.h"
#include "policy/size.h"

#define GIB (UINT64_C(1024) * 1024 * 1024)
#define UUID_1 "00000000-0000-4000-8000-000000000001"

typedef struct {
    Registry *registry;
    Config *config;
} Fixture;

static TenantConfig *want(Config *config, const char *id, uint64_t limit)
{
    TenantConfig *tenant = tenant_config_new(id);
    tenant->limit = limit;
    g_ptr_array_add(config->tenants, tenant);
    return tenant;
}

/* Tenants acme and evil, the default being acme, on a host with 10 GiB. */
static void set_up(Fixture *fixture, gconstpointer data)
{
    fixture->registry = registry_new(0, NULL);
    fixture->config = config_new();
    fixture->config->default_tenant = g_strdup("acme");
    want(fixture->config, "evil", 2 * GIB);
    want(fixture->config, "acme", 4 * GIB);
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) added = NULL;
    g_autoptr(GPtrArray) removed = NULL;
    registry_reload(fixture->registry, fixture->config, 10 * GIB, &added, &removed, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(removed->len, ==, 0);
    g_assert_cmpuint(added->len, ==, 2);
    g_assert_cmpstr(added->pdata[0], ==, "acme");
    g_assert_cmpstr(added->pdata[1], ==, "evil");
}

static void tear_down(Fixture *fixture, gconstpointer data)
{
    registry_free(fixture->registry);
    config_free(fixture->config);
}

static MachinePolicy *admit(Registry *registry, const char *tenant, uint64_t bytes)
{
    const AdmissionRequest request = {UUID_1, "web-1", tenant, bytes, NULL, true};
    return registry_admit(registry, NULL, &request, NULL, 0, NULL);
}

static TenantPolicy *get(Fixture *fixture, const char *id)
{
    return registry_get_tenant(fixture->registry, id, NULL);
}

static void test_first(Fixture *fixture, gconstpointer data)
{
    g_assert_cmpstr(registry_default_tenant(fixture->registry), ==, "acme");
    g_assert_cmpuint(budget_limit(registry_host_budget(fixture->registry)), ==, 10 * GIB);
    g_assert_cmpuint(budget_limit(get(fixture, "acme")->budget), ==, 4 * GIB);
    MachinePolicy *machine = admit(fixture->registry, "", 4 * GIB);
    g_assert_true(machine->tenant == get(fixture, "acme"));
}

static void test_changes(Fixture *fixture, gconstpointer data)
{
    TenantPolicy *acme = get(fixture, "acme");
    MachinePolicy *machine = admit(fixture->registry, "acme", 3 * GIB);
    g_autoptr(Config) config = config_new();
    config->budget_percent = 50;
    want(config, "new", 1 * GIB);
    TenantConfig *changed = want(config, "acme", 2 * GIB);
    changed->devices = g_strsplit("10de:*", ";", -1);

    g_autoptr(GPtrArray) added = NULL;
    g_autoptr(GPtrArray) removed = NULL;
    g_assert_true(registry_reload(fixture->registry, config, 10 * GIB, &added, &removed, NULL));
    g_assert_cmpuint(added->len, ==, 1);
    g_assert_cmpstr(added->pdata[0], ==, "new");
    g_assert_cmpuint(removed->len, ==, 1);
    g_assert_cmpstr(removed->pdata[0], ==, "evil");
    g_assert_null(get(fixture, "evil"));
    g_assert_null(registry_default_tenant(fixture->registry));
    g_assert_cmpuint(budget_limit(registry_host_budget(fixture->registry)), ==, 5 * GIB);

    /* The tenant and its machine are the same; the lower limit takes nothing away. */
    g_assert_true(get(fixture, "acme") == acme);
    g_assert_true(machine->tenant == acme);
    g_assert_cmpuint(budget_limit(acme->budget), ==, 2 * GIB);
    g_assert_cmpuint(budget_reserved(acme->budget), ==, 3 * GIB);
    g_assert_false(tenant_policy_allows_device(acme, "0000:01:00.0", 0x1b36, 0x0010));
    g_assert_true(acme->config != changed);
}

/* A failed reload leaves limits, rules, tenants and the default as they were. */
static void assert_unchanged(Fixture *fixture)
{
    g_autoptr(GPtrArray) tenants = registry_tenants(fixture->registry);
    g_assert_cmpuint(tenants->len, ==, 2);
    g_assert_cmpstr(registry_default_tenant(fixture->registry), ==, "acme");
    g_assert_cmpuint(budget_limit(registry_host_budget(fixture->registry)), ==, 10 * GIB);
    g_assert_cmpuint(budget_limit(get(fixture, "acme")->budget), ==, 4 * GIB);
    g_assert_cmpuint(budget_limit(get(fixture, "evil")->budget), ==, 2 * GIB);
    g_assert_cmpint(get(fixture, "evil")->config->isolation, ==, ISOLATION_TENANT);
}

static void test_busy(Fixture *fixture, gconstpointer data)
{
    admit(fixture->registry, "evil", 1 * GIB);
    g_autoptr(Config) config = config_new();
    config->budget_percent = 50;
    want(config, "acme", 1 * GIB);
    want(config, "new", 1 * GIB);
    g_autoptr(GError) error = NULL;
    g_assert_false(registry_reload(fixture->registry, config, 10 * GIB, NULL, NULL, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_TENANT_BUSY);
    g_assert_true(g_str_has_prefix(error->message, "Tenant evil can't be removed"));
    assert_unchanged(fixture);
}

static void test_isolation(Fixture *fixture, gconstpointer data)
{
    MachinePolicy *machine = admit(fixture->registry, "evil", 1 * GIB);
    g_autoptr(Config) config = config_new();
    want(config, "acme", 1 * GIB);
    TenantConfig *evil = want(config, "evil", 2 * GIB);
    evil->isolation = ISOLATION_MACHINE;
    g_autoptr(GError) error = NULL;
    g_assert_false(registry_reload(fixture->registry, config, 10 * GIB, NULL, NULL, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT);
    g_clear_error(&error);
    assert_unchanged(fixture);
    evil->isolation = ISOLATION_TENANT;
    evil->accounting = HOST_ACCOUNTING_USER;
    g_assert_false(registry_reload(fixture->registry, config, 10 * GIB, NULL, NULL, NULL));
    assert_unchanged(fixture);

    registry_remove_machine(fixture->registry, machine);
    g_assert_true(registry_reload(fixture->registry, config, 10 * GIB, NULL, NULL, &error));
    g_assert_cmpint(get(fixture, "evil")->config->accounting, ==, HOST_ACCOUNTING_USER);
}

static void test_twice(Fixture *fixture, gconstpointer data)
{
    g_autoptr(Config) config = config_new();
    want(config, "acme", 1 * GIB);
    want(config, "evil", 1 * GIB);
    want(config, "acme", 2 * GIB);
    g_autoptr(GError) error = NULL;
    g_assert_false(registry_reload(fixture->registry, config, 10 * GIB, NULL, NULL, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT);
    assert_unchanged(fixture);
}

#define ADD(path, function) g_test_add(path, Fixture, NULL, set_up, function, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("/reload/first", test_first);
    ADD("/reload/changes", test_changes);
    ADD("/reload/busy", test_busy);
    ADD("/reload/isolation", test_isolation);
    ADD("/reload/twice", test_twice);
    return g_test_run();
}
