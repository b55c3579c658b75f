/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Re-admission: checked first, then swapped in one step. */
#include "policy/registry.h"
#include "tests/unit/admit.h"
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
    TenantPolicy *acme;
    TenantPolicy *evil;
    MachinePolicy *machine; /* of acme, 3 of its 4 GiB, with NVME and NIC_1 */
} Fixture;

static TenantPolicy *add_tenant(Registry *registry, const char *id, uint64_t limit)
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
    fixture->registry = registry_new(5 * GIB, NULL);
    fixture->acme = add_tenant(fixture->registry, "acme", 4 * GIB);
    fixture->evil = add_tenant(fixture->registry, "evil", 2 * GIB);
    AdmissionRequest request = request_new("acme", 3 * GIB, DEVICES(NVME, NIC_1));
    fixture->machine =
        registry_admit(fixture->registry, NULL, &request, host, G_N_ELEMENTS(host), NULL);
    g_assert_nonnull(fixture->machine);
}

static void tear_down(Fixture *fixture, gconstpointer data)
{
    registry_free(fixture->registry);
}

static MachinePolicy *replace(Fixture *fixture, const AdmissionRequest *request, GError **error)
{
    MachinePolicy *machine = registry_admit(fixture->registry, fixture->machine, request, host,
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
    MachinePolicy *machine = replace(fixture, &request, &error);
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

static void test_other_tenant(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    AdmissionRequest request = request_new("evil", 2 * GIB, DEVICES(NIC_2));
    MachinePolicy *machine = replace(fixture, &request, &error);
    g_assert_no_error(error);
    g_assert_true(machine->tenant == fixture->evil);
    g_assert_false(tenant_policy_is_busy(fixture->acme));
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
        g_autoptr(GError) error = NULL;
        const AdmissionRequest *request = &refusals[i].request;
        MachinePolicy *replaced = g_str_equal(request->uuid, UUID_1) ? fixture->machine : NULL;
        g_assert_null(
            registry_admit(fixture->registry, replaced, request, host, G_N_ELEMENTS(host), &error));
        g_assert_error(error, IOMMUD_ERROR, (int)refusals[i].code);
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
    g_assert_null(
        registry_admit(fixture->registry, NULL, &request, host, G_N_ELEMENTS(host), &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_MACHINE_EXISTS);
}

#define ADD(path, function) g_test_add(path, Fixture, NULL, set_up, function, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("/replace/same", test_same);
    ADD("/replace/other-tenant", test_other_tenant);
    ADD("/replace/refused", test_refused);
    return g_test_run();
}
