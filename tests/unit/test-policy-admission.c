/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which devices a machine may have, above all: the IOMMU group is the smallest unit. */
#include "policy/registry.h"
#include "tests/unit/admit.h"

#include "policy/size.h"

#define UUID_1 "00000000-0000-4000-8000-000000000001"
#define UUID_2 "00000000-0000-4000-8000-000000000002"

#define NVME "0000:01:00.0"
#define PORT "0000:00:1c.0"
#define NIC_1 "0000:06:01.0"
#define NIC_2 "0000:06:02.0"
#define NO_GROUP "0000:07:00.0"

/* As in the lab: an NVMe in a group of its own, two e1000 behind one bridge. */
static HostDevice host[] = {
    {PORT, 0x1b36, 0x000c, 0x060400, true, 5, "pcieport", "", ""},
    {NVME, 0x1b36, 0x0010, 0x010802, false, 11, "nvme", "", ""},
    {"0000:05:00.0", 0x1b36, 0x000e, 0x060400, true, 20, "pcieport", "", ""},
    {NIC_1, 0x8086, 0x100e, 0x020000, false, 20, "vfio-pci", "", ""},
    {NIC_2, 0x8086, 0x100e, 0x020000, false, 20, "e1000", "", ""},
    {NO_GROUP, 0x1234, 0x11e8, 0x00ff00, false, -1, "", "", ""},
};

typedef struct {
    Registry *registry;
} Fixture;

static void set_driver(const char *address, const char *driver)
{
    for (size_t i = 0; i < G_N_ELEMENTS(host); i++) {
        if (g_str_equal(host[i].address, address))
            g_strlcpy(host[i].driver, driver, sizeof(host[i].driver));
    }
}

static void add_tenant(Registry *registry, const char *id, Isolation isolation, const char *devices)
{
    TenantConfig *config = tenant_config_new(id);
    config->isolation = isolation;
    config->devices = devices ? g_strsplit(devices, ";", -1) : NULL;
    g_assert_nonnull(registry_add_tenant(registry, config, NULL));
}

static void set_up(Fixture *fixture, gconstpointer data)
{
    set_driver(NIC_1, "vfio-pci");
    set_driver(NIC_2, "e1000");
    fixture->registry = registry_new(SIZE_INFINITY, NULL);
    add_tenant(fixture->registry, "acme", ISOLATION_TENANT, NULL);
    add_tenant(fixture->registry, "apart", ISOLATION_MACHINE, NULL);
    add_tenant(fixture->registry, "evil", ISOLATION_TENANT, NULL);
    add_tenant(fixture->registry, "intel", ISOLATION_TENANT, "8086:*");
}

static void tear_down(Fixture *fixture, gconstpointer data)
{
    registry_free(fixture->registry);
}

static MachinePolicy *admit(Fixture *fixture, const char *uuid, const char *tenant, bool iommufd,
                            const char *const *devices, GError **error)
{
    const AdmissionRequest request = {
        .uuid = uuid,
        .name = g_str_has_suffix(uuid, "1") ? "web-1" : "web-2",
        .tenant = tenant,
        .bytes = 4096,
        .devices = devices,
        .iommufd = iommufd,
    };
    return registry_admit(fixture->registry, NULL, &request, host, G_N_ELEMENTS(host), error);
}

#define DEVICES(...) ((const char *const[]){__VA_ARGS__, NULL})

static void assert_refused(Fixture *fixture, const char *tenant, const char *const *devices,
                           IommudError code, const char *message)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(admit(fixture, UUID_2, tenant, true, devices, &error));
    g_assert_error(error, IOMMUD_ERROR, (int)code);
    if (message)
        g_assert_cmpstr(error->message, ==, message);
    g_assert_null(registry_get_machine(fixture->registry, UUID_2, NULL));
}

static void test_one(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    /* Bound to a driver of the host: libvirt rebinds it. */
    MachinePolicy *machine = admit(fixture, UUID_1, "acme", true, DEVICES(NVME), &error);
    g_assert_no_error(error);
    g_assert_cmpuint(machine->devices->len, ==, 1);
    g_assert_cmpstr(machine->devices->pdata[0], ==, NVME);
    g_assert_true(registry_device_holder(fixture->registry, NVME) == machine);
    registry_remove_machine(fixture->registry, machine);
    g_assert_null(registry_device_holder(fixture->registry, NVME));
}

static void test_refusals(Fixture *fixture, gconstpointer data)
{
    assert_refused(fixture, "acme", DEVICES(NVME, "0000:99:00.0"), IOMMUD_ERROR_NO_SUCH_DEVICE,
                   "This host has no PCI device 0000:99:00.0: see 'iommuctl devices' for what it "
                   "has.");
    assert_refused(fixture, "acme", DEVICES(PORT), IOMMUD_ERROR_DEVICE_DENIED,
                   "Device " PORT " is a PCI bridge, and a bridge is never assigned: name the "
                   "devices behind it instead.");
    assert_refused(fixture, "intel", DEVICES(NVME), IOMMUD_ERROR_DEVICE_DENIED,
                   "Device " NVME " (1b36:0010) is not one that tenant intel may have: add a "
                   "pattern that matches it to Devices= of the tenant, or choose another device.");
    assert_refused(fixture, "acme", DEVICES(NO_GROUP), IOMMUD_ERROR_NOT_SUPPORTED, NULL);

    g_assert_nonnull(admit(fixture, UUID_1, "acme", true, DEVICES(NVME), NULL));
    assert_refused(fixture, "acme", DEVICES(NVME), IOMMUD_ERROR_DEVICE_BUSY,
                   "Device " NVME " is held by machine web-1 (" UUID_1 ") of tenant acme: stop "
                   "that machine, or remove the device from it.");
    assert_refused(fixture, "evil", DEVICES(NVME), IOMMUD_ERROR_DEVICE_BUSY, NULL);
}

static void test_group_host_driver(Fixture *fixture, gconstpointer data)
{
    assert_refused(fixture, "acme", DEVICES(NIC_1), IOMMUD_ERROR_GROUP_SHARED,
                   "Device " NIC_1 " is in IOMMU group 20 with " NIC_2 ", which the host's driver "
                   "e1000 uses: assign " NIC_2 " to the same machine too, or unbind it from "
                   "e1000.");
    /* Both together are fine, whatever binds them. */
    MachinePolicy *both = admit(fixture, UUID_1, "acme", true, DEVICES(NIC_1, NIC_2), NULL);
    g_assert_nonnull(both);
    g_assert_cmpstr(both->devices->pdata[0], ==, NIC_1);
    registry_remove_machine(fixture->registry, both);

    static const char *const harmless[] = {"", "vfio-pci", "vfio-pci-nvgrace", "pci-stub"};
    for (size_t i = 0; i < G_N_ELEMENTS(harmless); i++) {
        set_driver(NIC_2, harmless[i]);
        MachinePolicy *machine = admit(fixture, UUID_1, "acme", true, DEVICES(NIC_1), NULL);
        g_assert_nonnull(machine);
        registry_remove_machine(fixture->registry, machine);
    }
    set_driver(NIC_2, "pci-stubborn");
    assert_refused(fixture, "acme", DEVICES(NIC_1), IOMMUD_ERROR_GROUP_SHARED, NULL);
}

static void test_group_other_tenant(Fixture *fixture, gconstpointer data)
{
    set_driver(NIC_2, "");
    g_assert_nonnull(admit(fixture, UUID_1, "acme", true, DEVICES(NIC_1), NULL));
    assert_refused(fixture, "evil", DEVICES(NIC_2), IOMMUD_ERROR_GROUP_SHARED,
                   "Device " NIC_2 " is in IOMMU group 20 with " NIC_1 ", which machine web-1 "
                   "(" UUID_1 ") of tenant acme holds, and a group is never split between "
                   "tenants: stop that machine, or choose another device.");
}

static void test_group_same_tenant(Fixture *fixture, gconstpointer data)
{
    set_driver(NIC_2, "");
    g_assert_nonnull(admit(fixture, UUID_1, "acme", true, DEVICES(NIC_1), NULL));
    g_assert_nonnull(admit(fixture, UUID_2, "acme", true, DEVICES(NIC_2), NULL));
}

static void test_group_same_tenant_apart(Fixture *fixture, gconstpointer data)
{
    set_driver(NIC_2, "");
    g_assert_nonnull(admit(fixture, UUID_1, "apart", true, DEVICES(NIC_1), NULL));
    assert_refused(fixture, "apart", DEVICES(NIC_2), IOMMUD_ERROR_GROUP_SHARED,
                   "Device " NIC_2 " is in IOMMU group 20 with " NIC_1 ", which machine web-1 "
                   "(" UUID_1 ") of tenant apart holds, and machines share a group only on a "
                   "shared IOMMUFD: give both devices to one machine, or use Isolation=tenant and "
                   "IOMMUFD for both machines.");
}

/* Legacy VFIO opens a group for one container only. */
static void test_group_legacy(Fixture *fixture, gconstpointer data)
{
    set_driver(NIC_2, "");
    MachinePolicy *legacy = admit(fixture, UUID_1, "acme", false, DEVICES(NIC_1), NULL);
    g_assert_nonnull(legacy);
    assert_refused(fixture, "acme", DEVICES(NIC_2), IOMMUD_ERROR_GROUP_SHARED, NULL);
    registry_remove_machine(fixture->registry, legacy);
    g_assert_nonnull(admit(fixture, UUID_2, "acme", true, DEVICES(NIC_2), NULL));
    g_autoptr(GError) error = NULL;
    g_assert_null(admit(fixture, UUID_1, "acme", false, DEVICES(NIC_1), &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_GROUP_SHARED);
}

static void test_add_device(Fixture *fixture, gconstpointer data)
{
    Registry *registry = fixture->registry;
    const size_t n = G_N_ELEMENTS(host);
    g_autoptr(GError) error = NULL;
    set_driver(NIC_2, "");
    MachinePolicy *one = admit(fixture, UUID_1, "apart", true, DEVICES(NIC_2), NULL);
    MachinePolicy *other = admit(fixture, UUID_2, "apart", true, NULL, NULL);

    /* The rest of the group is its own: no reason to refuse. */
    g_assert_true(registry_add_device(registry, one, NIC_1, host, n, &error));
    g_assert_true(registry_add_device(registry, one, NVME, host, n, &error));
    g_assert_cmpstr(one->devices->pdata[0], ==, NVME);
    g_assert_cmpstr(one->devices->pdata[1], ==, NIC_1);
    g_assert_cmpstr(one->devices->pdata[2], ==, NIC_2);
    g_assert_true(registry_device_holder(registry, NVME) == one);

    g_assert_false(registry_add_device(registry, one, NVME, host, n, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_DEVICE_BUSY);
    g_clear_error(&error);
    g_assert_true(registry_remove_device(registry, one, NIC_1, &error));
    g_assert_false(registry_remove_device(registry, one, NIC_1, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_NO_SUCH_DEVICE);
    g_clear_error(&error);
    g_assert_false(registry_add_device(registry, other, NIC_1, host, n, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_GROUP_SHARED);
    g_clear_error(&error);
    g_assert_false(registry_add_device(registry, other, PORT, host, n, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_DEVICE_DENIED);
    g_clear_error(&error);

    g_assert_true(registry_remove_device(registry, one, NIC_2, &error));
    g_assert_true(registry_add_device(registry, other, NIC_1, host, n, &error));
    g_assert_cmpuint(one->devices->len, ==, 1);
    other->state = MACHINE_REAPING;
    g_assert_false(registry_add_device(registry, other, NIC_2, host, n, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_NO_SUCH_MACHINE);
}

static void assert_assignable(Fixture *fixture, const char *address, const char *reason)
{
    const HostDevice *device = NULL;
    for (size_t i = 0; i < G_N_ELEMENTS(host); i++) {
        if (g_str_equal(host[i].address, address))
            device = &host[i];
    }
    g_autofree char *why = g_strdup("unset");
    char *before = why;
    bool ok = registry_device_assignable(fixture->registry, device, host, G_N_ELEMENTS(host), &why);
    g_free(before);
    g_assert_cmpint(ok, ==, reason == NULL);
    g_assert_cmpstr(why, ==, reason);
}

static void test_assignable(Fixture *fixture, gconstpointer data)
{
    assert_assignable(fixture, NVME, NULL);
    assert_assignable(fixture, PORT,
                      "Device " PORT " is a PCI bridge, and a bridge is never assigned: name the "
                      "devices behind it instead.");
    assert_assignable(fixture, NO_GROUP,
                      "Device " NO_GROUP " has no IOMMU group: switch on the IOMMU in the firmware "
                      "and on the kernel's command line (Intel: intel_iommu=on).");
    assert_assignable(fixture, NIC_1,
                      "Device " NIC_1 " is in IOMMU group 20 with " NIC_2 ", which the host's "
                      "driver e1000 uses: assign " NIC_2 " to the same machine too, or unbind it "
                      "from e1000.");
    assert_assignable(fixture, NIC_2, NULL);

    g_assert_nonnull(admit(fixture, UUID_1, "acme", true, DEVICES(NVME, NIC_2), NULL));
    assert_assignable(fixture, NVME,
                      "Device " NVME " is held by machine web-1 (" UUID_1 ") of tenant acme: stop "
                      "that machine, or remove the device from it.");
    assert_assignable(fixture, NIC_1,
                      "Device " NIC_1 " is in IOMMU group 20 with " NIC_2 ", which machine web-1 "
                      "(" UUID_1 ") of tenant acme holds, and a group is never split between "
                      "tenants: stop that machine, or choose another device.");
}

#define ADD(path, function) g_test_add(path, Fixture, NULL, set_up, function, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("/admission/one", test_one);
    ADD("/admission/refusals", test_refusals);
    ADD("/admission/group-host-driver", test_group_host_driver);
    ADD("/admission/group-other-tenant", test_group_other_tenant);
    ADD("/admission/group-same-tenant", test_group_same_tenant);
    ADD("/admission/group-same-tenant-apart", test_group_same_tenant_apart);
    ADD("/admission/group-legacy", test_group_legacy);
    ADD("/admission/add-device", test_add_device);
    ADD("/admission/assignable", test_assignable);
    return g_test_run();
}
