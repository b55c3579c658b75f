/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policy/registry.h"
#include "tests/unit/admit.h"
#include "policy/size.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdlib.h>

#define MIB (UINT64_C(1024) * 1024)
#define GIB (1024 * MIB)
#define PAGE UINT64_C(4096)

#define UUID_1 "00000000-0000-4000-8000-000000000001"
#define UUID_2 "00000000-0000-4000-8000-000000000002"
#define UUID_3 "00000000-0000-4000-8000-000000000003"

static TenantPolicy *add_tenant(Registry *registry, const char *id, uint64_t limit)
{
    TenantConfig *config = tenant_config_new(id);
    config->limit = limit;
    TenantPolicy *tenant = registry_add_tenant(registry, config, NULL);
    g_assert_nonnull(tenant);
    return tenant;
}

static MachinePolicy *admit(Registry *registry, const char *uuid, const char *name,
                            const char *tenant, uint64_t bytes, GError **error)
{
    const AdmissionRequest request = {
        .uuid = uuid,
        .name = name,
        .tenant = tenant,
        .bytes = bytes,
        .iommufd = true,
    };
    return registry_admit(registry, NULL, &request, NULL, 0, error);
}

static void test_tenants(void)
{
    g_autoptr(Registry) registry = registry_new(64 * GIB, NULL);
    g_autoptr(GError) error = NULL;
    TenantPolicy *zeta = add_tenant(registry, "zeta", 1 * GIB);
    TenantPolicy *acme = add_tenant(registry, "acme", 1 * GIB);
    g_assert_true(registry_get_tenant(registry, "acme", NULL) == acme);
    g_autoptr(GPtrArray) tenants = registry_tenants(registry);
    g_assert_cmpuint(tenants->len, ==, 2);
    g_assert_true(tenants->pdata[0] == acme);
    g_assert_true(tenants->pdata[1] == zeta);

    g_assert_null(registry_add_tenant(registry, tenant_config_new("acme"), &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_TENANT_EXISTS);
    g_clear_error(&error);
    g_assert_null(registry_add_tenant(registry, tenant_config_new("a/b"), &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT);
    g_clear_error(&error);
    TenantConfig *wrong = tenant_config_new("wrong");
    wrong->devices = g_strsplit("81:*", ";", -1);
    g_assert_null(registry_add_tenant(registry, wrong, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT);
    g_clear_error(&error);

    g_assert_false(registry_remove_tenant(registry, "nobody", &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_NO_SUCH_TENANT);
    g_assert_cmpstr(error->message, ==,
                    "There is no tenant \"nobody\": see 'iommuctl status' for those there are, or "
                    "make it with 'iommuctl tenant create'.");
    g_clear_error(&error);
    g_assert_null(registry_get_tenant(registry, NULL, NULL));
    g_assert_true(registry_remove_tenant(registry, "zeta", &error));
    g_assert_null(registry_get_tenant(registry, "zeta", NULL));
}

static void test_remove_busy_tenant(void)
{
    g_autoptr(Registry) registry = registry_new(64 * GIB, NULL);
    g_autoptr(GError) error = NULL;
    TenantPolicy *acme = add_tenant(registry, "acme", 1 * GIB);
    MachinePolicy *machine = admit(registry, UUID_1, "web-1", "acme", 512 * MIB, NULL);
    g_assert_false(registry_remove_tenant(registry, "acme", &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_TENANT_BUSY);
    g_assert_cmpstr(error->message, ==,
                    "Tenant acme can't be removed while it has 1 machine and 512M reserved: stop "
                    "its machines and unmap what was mapped for it first.");
    g_clear_error(&error);
    registry_remove_machine(registry, machine);

    /* A mapping through the bus has a charge, but no machine. */
    Charge *charge = charge_take(acme->budget, 0, "mapping", NULL);
    g_assert_false(registry_remove_tenant(registry, "acme", &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_TENANT_BUSY);
    g_clear_error(&error);
    charge_free(charge);
    g_assert_true(registry_remove_tenant(registry, "acme", NULL));
}

static void test_admit(void)
{
    g_autoptr(Registry) registry = registry_new(64 * GIB, NULL);
    g_autoptr(GError) error = NULL;
    TenantPolicy *acme = add_tenant(registry, "acme", 1 * GIB);
    MachinePolicy *machine = admit(registry, UUID_1, "web-1", "acme", 924 * MIB, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(machine->uuid, ==, UUID_1);
    g_assert_cmpstr(machine->name, ==, "web-1");
    g_assert_true(machine->tenant == acme);
    g_assert_cmpint(machine->state, ==, MACHINE_ADMITTED);
    g_assert_true(machine->iommufd);
    g_assert_cmpuint(charge_bytes(machine->charge), ==, 924 * MIB);
    g_assert_true(g_hash_table_lookup(acme->machines, UUID_1) == machine);
    g_assert_true(registry_get_machine(registry, UUID_1, NULL) == machine);
    g_assert_cmpuint(budget_reserved(registry_host_budget(registry)), ==, 924 * MIB);

    g_assert_null(admit(registry, UUID_1, "web-1", "acme", PAGE, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_MACHINE_EXISTS);
    g_assert_cmpstr(error->message, ==,
                    "Machine web-1 (" UUID_1 ") of tenant acme is admitted already: release it "
                    "before it is admitted anew.");
    g_clear_error(&error);

    /* The last bytes are given out, and not a page more. */
    g_assert_null(admit(registry, UUID_2, "web-4", "acme", 100 * MIB + PAGE, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_LIMIT_EXCEEDED);
    g_assert_cmpstr(error->message, ==,
                    "Machine web-4 (" UUID_2 ") needs 100M (104861696 bytes) of pinned memory, "
                    "but tenant acme has 100M (104857600 bytes) left of its limit of 1G: raise it "
                    "with 'iommuctl tenant set-limit acme SIZE', or stop a machine of the tenant.");
    g_clear_error(&error);
    g_assert_null(registry_get_machine(registry, UUID_2, NULL));
    g_assert_nonnull(admit(registry, UUID_2, "web-4", "acme", 100 * MIB, &error));

    registry_remove_machine(registry, machine);
    g_assert_cmpuint(budget_reserved(acme->budget), ==, 100 * MIB);
    g_assert_null(registry_get_machine(registry, UUID_1, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_NO_SUCH_MACHINE);
    g_clear_error(&error);
    g_assert_null(registry_get_machine(registry, "web-1", &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_NO_SUCH_MACHINE);
}

/* Two devices with address spaces of their own: the same memory is charged twice. */
static void test_admit_unique(void)
{
    g_autoptr(Registry) registry = registry_new(64 * GIB, NULL);
    g_autoptr(GError) error = NULL;
    AdmissionRequest request = {
        .uuid = UUID_1,
        .name = "web-1",
        .tenant = "acme",
        .bytes = 2 * GIB,
        .iommufd = true,
        .unique_bytes = GIB,
    };
    TenantPolicy *acme = add_tenant(registry, "acme", GIB);
    g_assert_null(registry_admit(registry, NULL, &request, NULL, 0, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_LIMIT_EXCEEDED);
    g_clear_error(&error);
    acme->config->count = COUNT_UNIQUE;
    MachinePolicy *machine = registry_admit(registry, NULL, &request, NULL, 0, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(charge_bytes(machine->charge), ==, GIB);
    registry_remove_machine(registry, machine);

    request.unique_bytes = 0;
    g_assert_null(registry_admit(registry, NULL, &request, NULL, 0, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_LIMIT_EXCEEDED);
}

static void test_admit_refuses(void)
{
    g_autoptr(Registry) registry = registry_new(2 * GIB, NULL);
    TenantPolicy *acme = add_tenant(registry, "acme", SIZE_INFINITY);
    g_autofree char *long_name = g_strnfill(256, 'x');
    const struct {
        const char *uuid;
        const char *name;
        const char *tenant;
        uint64_t bytes;
        IommudError code;
    } requests[] = {
        {UUID_1, "", "acme", PAGE, IOMMUD_ERROR_INVALID_ARGUMENT},
        {UUID_1, NULL, "acme", PAGE, IOMMUD_ERROR_INVALID_ARGUMENT},
        {UUID_1, "web\n1", "acme", PAGE, IOMMUD_ERROR_INVALID_ARGUMENT},
        {UUID_1, long_name, "acme", PAGE, IOMMUD_ERROR_INVALID_ARGUMENT},
        {UUID_1, "web-1", "evil", PAGE, IOMMUD_ERROR_NO_SUCH_TENANT},
        {UUID_1, "web-1", "", PAGE, IOMMUD_ERROR_NO_SUCH_TENANT},
        {UUID_1, "web-1", NULL, PAGE, IOMMUD_ERROR_NO_SUCH_TENANT},
        {UUID_1, "web-1", "acme", 2 * GIB + 1, IOMMUD_ERROR_HOST_BUDGET_EXCEEDED},
        {UUID_1, "web-1", "acme", UINT64_MAX - 1, IOMMUD_ERROR_HOST_BUDGET_EXCEEDED},
        {UUID_1, "web-1", "acme", SIZE_INFINITY, IOMMUD_ERROR_INVALID_ARGUMENT},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(requests); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(admit(registry, requests[i].uuid, requests[i].name, requests[i].tenant,
                            requests[i].bytes, &error));
        g_assert_error(error, IOMMUD_ERROR, (int)requests[i].code);
        g_assert_true(g_str_has_suffix(error->message, "."));
        g_assert_false(tenant_policy_is_busy(acme));
    }
    g_autoptr(GError) error = NULL;
    g_assert_null(admit(registry, UUID_1, "web-1", "", PAGE, &error));
    g_assert_cmpstr(error->message, ==,
                    "No tenant is named, and none is the default: name one, a domain of libvirt's "
                    "in its metadata, or set Default= in the group [Tenants] of iommud.conf and "
                    "reload the service.");
    g_clear_error(&error);
    g_assert_null(admit(registry, UUID_1, "web-1", "acme", 3 * GIB, &error));
    g_assert_cmpstr(error->message, ==,
                    "Machine web-1 (" UUID_1 ") needs 3G of pinned memory, but the host has 2G "
                    "left of its budget of 2G: raise Budget= in iommud.conf and reload, or stop a "
                    "machine of any tenant.");
}

/* Requests are parsed where they come in: one that was not is a fault of ours. */
static void test_admit_not_canonical(void)
{
    static const char *const uuids[] = {"00000000000040008000000000000001", "web-1", UUID_1, UUID_1,
                                        UUID_1};
    static const char *const devices[][3] = {
        {NULL},
        {NULL},
        {"1:0.0", NULL},
        {"0000:02:00.0", "0000:01:00.0", NULL},
        {"0000:01:00.0", "0000:01:00.0", NULL},
    };
    if (g_test_subprocess()) {
        g_autoptr(Registry) registry = registry_new(1 * GIB, NULL);
        int i = atoi(g_getenv("TEST_REQUEST"));
        add_tenant(registry, "acme", 1 * GIB);
        const AdmissionRequest request = {uuids[i], "web-1", "acme", PAGE, devices[i], true};
        registry_admit(registry, NULL, &request, NULL, 0, NULL);
        return;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(uuids); i++) {
        g_autofree char *number = g_strdup_printf("%zu", i);
        g_setenv("TEST_REQUEST", number, TRUE);
        g_test_trap_subprocess(NULL, 0, 0);
        g_test_trap_assert_failed();
        g_test_trap_assert_stderr("*assertion failed*canonical*");
    }
}

static void test_machines_sorted(void)
{
    g_autoptr(Registry) registry = registry_new(SIZE_INFINITY, NULL);
    add_tenant(registry, "acme", SIZE_INFINITY);
    MachinePolicy *b2 = admit(registry, UUID_2, "b", "acme", PAGE, NULL);
    MachinePolicy *a = admit(registry, UUID_3, "a", "acme", PAGE, NULL);
    MachinePolicy *b1 = admit(registry, UUID_1, "b", "acme", PAGE, NULL);
    g_autoptr(GPtrArray) machines = registry_machines(registry);
    g_assert_cmpuint(machines->len, ==, 3);
    g_assert_true(machines->pdata[0] == a);
    g_assert_true(machines->pdata[1] == b1);
    g_assert_true(machines->pdata[2] == b2);
}

static void test_restore(void)
{
    g_autoptr(Registry) registry = registry_new(1 * GIB, NULL);
    g_autoptr(GError) error = NULL;
    TenantPolicy *acme = add_tenant(registry, "acme", 1 * GIB);
    const char *const devices[] = {"0000:01:00.0", NULL};
    AdmissionRequest request = {UUID_1, "web-1", "acme", 3 * GIB, devices, true};

    /* Over the limit, with a device that nobody says is there: it was promised. */
    MachinePolicy *machine = registry_restore(registry, &request, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(budget_reserved(acme->budget), ==, 3 * GIB);
    g_assert_true(registry_device_holder(registry, "0000:01:00.0") == machine);

    g_assert_null(registry_restore(registry, &request, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_MACHINE_EXISTS);
    g_clear_error(&error);
    request.uuid = UUID_2;
    g_assert_null(registry_restore(registry, &request, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_DEVICE_BUSY);
    g_clear_error(&error);
    request.devices = NULL;
    request.bytes = UINT64_MAX - 1;
    g_assert_null(registry_restore(registry, &request, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT);
    g_clear_error(&error);
    request.tenant = "evil";
    g_assert_null(registry_restore(registry, &request, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_NO_SUCH_TENANT);
    g_assert_cmpuint(budget_reserved(acme->budget), ==, 3 * GIB);
}

/* What an owner of the registry makes of policy's structs. */
typedef struct {
    MachinePolicy policy;
    int *cleared;
} OwnMachine;

typedef struct {
    TenantPolicy policy;
    int *cleared;
} OwnTenant;

static void own_machine_clear(MachinePolicy *machine)
{
    ++*((OwnMachine *)machine)->cleared;
    g_assert_cmpstr(machine->name, ==, "web-1");
}

static void own_tenant_clear(TenantPolicy *tenant)
{
    ++*((OwnTenant *)tenant)->cleared;
    g_assert_cmpuint(g_hash_table_size(tenant->machines), ==, 0);
}

static void test_types(void)
{
    static const RegistryTypes types = {
        .tenant_size = sizeof(OwnTenant),
        .tenant_clear = own_tenant_clear,
        .machine_size = sizeof(OwnMachine),
        .machine_clear = own_machine_clear,
    };
    int machines = 0;
    int tenants = 0;
    Registry *registry = registry_new(1 * GIB, &types);
    add_tenant(registry, "acme", 1 * GIB);
    OwnTenant *tenant = (OwnTenant *)registry_get_tenant(registry, "acme", NULL);
    g_assert_null(tenant->cleared);
    tenant->cleared = &tenants;
    OwnMachine *machine = (OwnMachine *)admit(registry, UUID_1, "web-1", "acme", PAGE, NULL);
    g_assert_null(machine->cleared);
    machine->cleared = &machines;
    registry_remove_machine(registry, &machine->policy);
    g_assert_cmpint(machines, ==, 1);
    machine = (OwnMachine *)admit(registry, UUID_1, "web-1", "acme", PAGE, NULL);
    machine->cleared = &machines;
    registry_free(registry);
    g_assert_cmpint(machines, ==, 2);
    g_assert_cmpint(tenants, ==, 1);
}

/* Frees what is in it; the sanitizers say if not. */
static void test_free(void)
{
    Registry *registry = registry_new(1 * GIB, NULL);
    add_tenant(registry, "acme", 1 * GIB);
    admit(registry, UUID_1, "web-1", "acme", PAGE, NULL);
    admit(registry, UUID_2, "web-2", "acme", PAGE, NULL);
    registry_free(registry);
    registry_free(NULL);
}

static void test_free_leaked_charge(void)
{
    if (g_test_subprocess()) {
        Registry *registry = registry_new(1 * GIB, NULL);
        charge_take(add_tenant(registry, "acme", 1 * GIB)->budget, PAGE, "mapping", NULL);
        registry_free(registry);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*assertion failed*reserved*");
}

/* 10,000 machines of 100 tenants on a host with 1,000 devices: fast, and small. */
static void test_many(void)
{
    enum { N_MACHINES = 10000, N_TENANTS = 100, N_DEVICES = 1000 };
    g_autofree HostDevice *host = g_new0(HostDevice, N_DEVICES);
    for (int i = 0; i < N_DEVICES; i++) {
        g_snprintf(host[i].address, sizeof(host[i].address), "0000:%02x:%02x.%x", i >> 8,
                   (i >> 3) & 0x1f, i & 7);
        host[i].group = i;
    }
    g_autoptr(Registry) registry = registry_new(SIZE_INFINITY, NULL);
    for (int i = 0; i < N_TENANTS; i++) {
        g_autofree char *id = g_strdup_printf("tenant-%d", i);
        add_tenant(registry, id, SIZE_INFINITY);
    }
    size_t memory = mallinfo2().uordblks;
    g_test_timer_start();
    for (int i = 0; i < N_MACHINES; i++) {
        g_autofree char *uuid = g_strdup_printf("00000000-0000-4000-8000-%012x", i);
        g_autofree char *name = g_strdup_printf("instance-%08x", i);
        g_autofree char *tenant = g_strdup_printf("tenant-%d", i % N_TENANTS);
        const char *const devices[] = {i < N_DEVICES ? host[i].address : NULL, NULL};
        const AdmissionRequest request = {.uuid = uuid,
                                          .name = name,
                                          .tenant = tenant,
                                          .bytes = GIB,
                                          .devices = devices,
                                          .iommufd = true};
        g_assert_nonnull(registry_admit(registry, NULL, &request, host, N_DEVICES, NULL));
    }
    for (int i = 0; i < N_DEVICES; i++)
        g_assert_nonnull(registry_device_holder(registry, host[i].address));
    g_autoptr(GPtrArray) machines = registry_machines(registry);
    g_assert_cmpuint(machines->len, ==, N_MACHINES);
    double elapsed = g_test_timer_elapsed();
    size_t each = (mallinfo2().uordblks - memory) / N_MACHINES;
    g_test_message("%.3f s, %zu bytes per machine", elapsed, each);
    g_assert_cmpuint(each, <, 1024);
    g_assert_cmpfloat(elapsed, <, 10.0);
    for (guint i = 0; i < machines->len; i++)
        registry_remove_machine(registry, machines->pdata[i]);
    g_assert_cmpuint(budget_reserved(registry_host_budget(registry)), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/registry/tenants", test_tenants);
    g_test_add_func("/registry/remove-busy-tenant", test_remove_busy_tenant);
    g_test_add_func("/registry/admit", test_admit);
    g_test_add_func("/registry/admit-unique", test_admit_unique);
    g_test_add_func("/registry/admit-refuses", test_admit_refuses);
    g_test_add_func("/registry/admit-not-canonical", test_admit_not_canonical);
    g_test_add_func("/registry/machines-sorted", test_machines_sorted);
    g_test_add_func("/registry/restore", test_restore);
    g_test_add_func("/registry/types", test_types);
    g_test_add_func("/registry/free", test_free);
    g_test_add_func("/registry/free-leaked-charge", test_free_leaked_charge);
    g_test_add_func("/registry/many", test_many);
    return g_test_run();
}
