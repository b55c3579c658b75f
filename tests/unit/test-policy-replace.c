/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Re-admission: checked first, then swapped in one step. And who holds what on a bus. */
#include "policy/registry.h"
#include "policy/size.h"

#define GIB (UINT64_C(1024) * 1024 * 1024)
#define UUID_1 "00000000-0000-4000-8000-000000000001"
#define UUID_2 "00000000-0000-4000-8000-000000000002"

#define NVME "0000:01:00.0"
#define NIC_1 "0000:06:01.0"
#define NIC_2 "0000:06:02.0"

static const HostDevice host[] = {
    {NVME, 0x1b36, 0x0010, 0x010802, false, 11, "nvme", "", ""},
    {NIC_1, 0x8086, 0x100e, 0x020000, false, 20, "vfio-pci", "", ""},
    {NIC_2, 0x8086, 0x100e, 0x020000, false, 20, "vfio-pci", "", ""},
};

#define DEVICES(...) ((const char *const[]){__VA_ARGS__, NULL})

typedef struct {
    Registry *registry;
    Tenant *acme;
    Tenant *evil;
    Machine *machine; /* of acme, 3 of its 4 GiB, with NVME and NIC_1 */
} Fixture;

static Tenant *add_tenant(Registry *registry, const char *id, uint64_t limit)
{
    TenantConfig *config = tenant_config_new(id);
    config->limit = limit;
    return registry_add_tenant(registry, config, NULL);
}

static AdmissionRequest request_new(const char *tenant, uint64_t bytes, const char *const *devices)
{
    return (AdmissionRequest){
        .uuid = UUID_1,
        .name = "web-1",
        .tenant = tenant,
        .bytes = bytes,
        .devices = devices,
        .iommufd = true,
    };
}

static void set_up(Fixture *fixture, gconstpointer data)
{
    fixture->registry = registry_new(5 * GIB);
    fixture->acme = add_tenant(fixture->registry, "acme", 4 * GIB);
    fixture->evil = add_tenant(fixture->registry, "evil", 2 * GIB);
    AdmissionRequest request = request_new("acme", 3 * GIB, DEVICES(NVME, NIC_1));
    fixture->machine = registry_admit(fixture->registry, &request, host, G_N_ELEMENTS(host), NULL);
    g_assert_nonnull(fixture->machine);
}

static void tear_down(Fixture *fixture, gconstpointer data)
{
    registry_free(fixture->registry);
}

static Machine *replace(Fixture *fixture, const AdmissionRequest *request, GError **error)
{
    Machine *machine = registry_replace(fixture->registry, fixture->machine, request, host,
                                        G_N_ELEMENTS(host), error);
    if (machine)
        fixture->machine = machine;
    return machine;
}

/* What the machine holds is no reason to refuse it: neither its bytes nor its devices. */
static void test_same(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    AdmissionRequest request = request_new("acme", 4 * GIB, DEVICES(NVME, NIC_1, NIC_2));
    request.name = "web-1-renamed";
    fixture->machine->state = MACHINE_RUNNING;
    g_assert_true(registry_check(fixture->registry, &request, fixture->machine, host,
                                 G_N_ELEMENTS(host), &error));
    g_assert_cmpuint(budget_reserved(fixture->acme->budget), ==, 3 * GIB);
    Machine *machine = replace(fixture, &request, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(machine->name, ==, "web-1-renamed");
    g_assert_cmpint(machine->state, ==, MACHINE_ADMITTED);
    g_assert_cmpuint(charge_bytes(machine->charge), ==, 4 * GIB);
    g_assert_cmpuint(budget_reserved(fixture->acme->budget), ==, 4 * GIB);
    g_assert_cmpuint(budget_reserved(registry_host_budget(fixture->registry)), ==, 4 * GIB);
    g_assert_true(registry_get_machine(fixture->registry, UUID_1, NULL) == machine);
    g_assert_true(g_hash_table_lookup(fixture->acme->machines, UUID_1) == machine);
    g_assert_true(registry_device_holder(fixture->registry, NVME) == machine);
    g_assert_true(registry_device_holder(fixture->registry, NIC_2) == machine);
}

/* The strings of the request may be the old machine's own. */
static void test_own_strings(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    const Machine *old = fixture->machine;
    const char *const devices[] = {old->devices->pdata[0], NULL};
    AdmissionRequest request = {old->uuid, old->name, "acme", GIB, devices, true};
    Machine *machine = replace(fixture, &request, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(machine->uuid, ==, UUID_1);
    g_assert_cmpstr(machine->name, ==, "web-1");
    g_assert_cmpstr(machine->devices->pdata[0], ==, NVME);
    g_assert_null(registry_device_holder(fixture->registry, NIC_1));
}

static void test_other_tenant(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    AdmissionRequest request = request_new("evil", 2 * GIB, DEVICES(NIC_2));
    Machine *machine = replace(fixture, &request, &error);
    g_assert_no_error(error);
    g_assert_true(machine->tenant == fixture->evil);
    g_assert_false(tenant_busy(fixture->acme));
    g_assert_cmpuint(budget_reserved(fixture->evil->budget), ==, 2 * GIB);
    g_assert_null(registry_device_holder(fixture->registry, NVME));
    g_assert_true(registry_device_holder(fixture->registry, NIC_2) == machine);
}

/* Whatever it is refused for, everything is as it was, down to the very object. */
static void test_refused(Fixture *fixture, gconstpointer data)
{
    AdmissionRequest other = request_new("evil", 0, DEVICES(NIC_2));
    other.uuid = UUID_2;
    const struct {
        AdmissionRequest request;
        IommudError code;
    } refusals[] = {
        {request_new("acme", 4 * GIB + 1, NULL), IOMMUD_ERROR_LIMIT_EXCEEDED},
        {request_new("evil", 2 * GIB + 1, NULL), IOMMUD_ERROR_LIMIT_EXCEEDED},
        {request_new("acme", SIZE_INFINITY, NULL), IOMMUD_ERROR_INVALID_ARGUMENT},
        {request_new("nobody", GIB, NULL), IOMMUD_ERROR_NO_SUCH_TENANT},
        {request_new(NULL, GIB, NULL), IOMMUD_ERROR_NO_SUCH_TENANT},
        {request_new("acme", GIB, DEVICES("0000:99:00.0")), IOMMUD_ERROR_NO_SUCH_DEVICE},
        {other, IOMMUD_ERROR_GROUP_SHARED},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(refusals); i++) {
        g_autoptr(GError) foreseen = NULL;
        g_autoptr(GError) error = NULL;
        const AdmissionRequest *request = &refusals[i].request;
        Machine *replaced = g_str_equal(request->uuid, UUID_1) ? fixture->machine : NULL;
        g_assert_false(registry_check(fixture->registry, request, replaced, host,
                                      G_N_ELEMENTS(host), &foreseen));
        g_assert_error(foreseen, IOMMUD_ERROR, (int)refusals[i].code);
        if (replaced)
            g_assert_null(replace(fixture, request, &error));
        g_assert_true(!replaced || g_str_equal(error->message, foreseen->message));
        g_assert_true(registry_get_machine(fixture->registry, UUID_1, NULL) == fixture->machine);
        g_assert_true(g_hash_table_lookup(fixture->acme->machines, UUID_1) == fixture->machine);
        g_assert_cmpuint(charge_bytes(fixture->machine->charge), ==, 3 * GIB);
        g_assert_cmpuint(budget_reserved(fixture->acme->budget), ==, 3 * GIB);
        g_assert_cmpuint(budget_reserved(fixture->evil->budget), ==, 0);
        g_assert_true(registry_device_holder(fixture->registry, NVME) == fixture->machine);
        g_assert_true(registry_device_holder(fixture->registry, NIC_1) == fixture->machine);
    }
    /* Not a replacement: then the machine that is there is in the way. */
    g_autoptr(GError) error = NULL;
    AdmissionRequest request = request_new("acme", GIB, NULL);
    g_assert_false(
        registry_check(fixture->registry, &request, NULL, host, G_N_ELEMENTS(host), &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_MACHINE_EXISTS);
}

static void assert_on_bus(Fixture *fixture, const char *address, const char *const *wanted)
{
    const GPtrArray *held = registry_held_on_bus(fixture->registry, address);
    g_assert_cmpuint(held ? held->len : 0, ==, g_strv_length((char **)wanted));
    for (size_t i = 0; wanted[i]; i++)
        g_assert_true(
            g_ptr_array_find_with_equal_func((GPtrArray *)held, wanted[i], g_str_equal, NULL));
}

static void test_bus(Fixture *fixture, gconstpointer data)
{
    Registry *registry = fixture->registry;
    assert_on_bus(fixture, NVME, DEVICES(NVME));
    assert_on_bus(fixture, "0000:01:1f.7", DEVICES(NVME));
    assert_on_bus(fixture, NIC_2, DEVICES(NIC_1));
    assert_on_bus(fixture, "0000:07:00.0", DEVICES(NULL));
    assert_on_bus(fixture, "10000:01:00.0", DEVICES(NULL));

    g_assert_true(
        registry_add_device(registry, fixture->machine, NIC_2, host, G_N_ELEMENTS(host), NULL));
    assert_on_bus(fixture, NIC_1, DEVICES(NIC_1, NIC_2));
    g_assert_true(registry_remove_device(registry, fixture->machine, NIC_1, NULL));
    assert_on_bus(fixture, NIC_1, DEVICES(NIC_2));
    registry_remove_machine(registry, fixture->machine);
    assert_on_bus(fixture, NIC_1, DEVICES(NULL));
    assert_on_bus(fixture, NVME, DEVICES(NULL));
}

#define ADD(path, function) g_test_add(path, Fixture, NULL, set_up, function, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("/replace/same", test_same);
    ADD("/replace/own-strings", test_own_strings);
    ADD("/replace/other-tenant", test_other_tenant);
    ADD("/replace/refused", test_refused);
    ADD("/replace/bus", test_bus);
    return g_test_run();
}
