/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a restart is told: all of it, or that it is lost. */
#include "dbus/base/errors.h"
#include "dbus/state/fd-store.h"
#include "dbus/state/records.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>

#define UUID "2c7a3b1e-0000-4000-8000-000000000001"
#define OTHER "2c7a3b1e-0000-4000-8000-000000000002"

typedef struct {
    char *folder;
} Fixture;

static void set_up(Fixture *fixture, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    fixture->folder = g_dir_make_tmp("iommud-test-XXXXXX", NULL);
    g_assert_true(records_prepare(fixture->folder, &error));
    /* Again: they are there. */
    g_assert_true(records_prepare(fixture->folder, &error));
    g_assert_no_error(error);
}

static void tear_down(Fixture *fixture, gconstpointer unused)
{
    const char *argv[] = {"rm", "-r", fixture->folder, NULL};
    g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL,
                               NULL, NULL, NULL));
    g_free(fixture->folder);
}

static char *path_of(const Fixture *fixture, const char *name)
{
    return g_build_filename(fixture->folder, name, NULL);
}

static bool is_there(const Fixture *fixture, const char *name)
{
    g_autofree char *path = path_of(fixture, name);
    return g_file_test(path, G_FILE_TEST_EXISTS);
}

static void write_file(const Fixture *fixture, const char *name, const char *text)
{
    g_autofree char *path = path_of(fixture, name);
    g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

/* ---- machines ---- */

static const MachineRecord full = {
    .uuid = (char *)UUID,
    .name = (char *)"web 1; \\n [Machine] \xc3\xa4",
    .tenant = (char *)"acme",
    .devices = (char *[]){(char *)"0000:01:00.0", (char *)"0000:02:1f.7", NULL},
    .bytes = UINT64_MAX - 1,
    .last_pinned = UINT64_C(1) << 63,
    .iommufd = true,
    .shares = false,
    .state = MACHINE_RUNNING,
    .since = INT64_MAX,
    .leader = 4194304,
    .leader_start = UINT64_MAX,
    .ledger_id = UINT32_MAX,
};

static MachineRecord *load_one(const Fixture *fixture)
{
    g_autoptr(GPtrArray) records = machine_records_load(fixture->folder);
    g_assert_cmpuint(records->len, ==, 1);
    return g_ptr_array_steal_index(records, 0);
}

static void assert_same(const MachineRecord *a, const MachineRecord *b)
{
    g_assert_cmpstr(a->uuid, ==, b->uuid);
    g_assert_cmpstr(a->name, ==, b->name);
    g_assert_cmpstr(a->tenant, ==, b->tenant);
    g_assert_cmpstrv(a->devices, b->devices);
    g_assert_cmpuint(a->bytes, ==, b->bytes);
    g_assert_cmpuint(a->last_pinned, ==, b->last_pinned);
    g_assert_cmpint(a->iommufd, ==, b->iommufd);
    g_assert_cmpint(a->shares, ==, b->shares);
    g_assert_cmpint(a->state, ==, b->state);
    g_assert_cmpint(a->since, ==, b->since);
    g_assert_cmpint(a->leader, ==, b->leader);
    g_assert_cmpuint(a->leader_start, ==, b->leader_start);
    g_assert_cmpuint(a->ledger_id, ==, b->ledger_id);
}

static void test_machine(Fixture *fixture, gconstpointer unused)
{
    static const MachineState states[] = {MACHINE_ADMITTED, MACHINE_RUNNING, MACHINE_REAPING};
    for (size_t i = 0; i < G_N_ELEMENTS(states); i++) {
        MachineRecord record = full;
        record.state = states[i];
        record.shares = i % 2;
        record.iommufd = i < 2;
        g_assert_true(machine_record_save(&record, fixture->folder, NULL));
        g_autoptr(MachineRecord) loaded = load_one(fixture);
        assert_same(loaded, &record);
    }
    machine_record_remove(fixture->folder, UUID);
    /* Nor is it an error when there is none. */
    machine_record_remove(fixture->folder, UUID);
    g_autoptr(GPtrArray) none = machine_records_load(fixture->folder);
    g_assert_cmpuint(none->len, ==, 0);
}

static void test_small_machine(Fixture *fixture, gconstpointer unused)
{
    const MachineRecord small = {
        .uuid = (char *)UUID,
        .name = (char *)" ",
        .tenant = (char *)"a",
        .devices = (char *[]){NULL},
    };
    g_assert_true(machine_record_save(&small, fixture->folder, NULL));
    g_autoptr(MachineRecord) loaded = load_one(fixture);
    assert_same(loaded, &small);
}

/* Nobody else is to read who runs what. */
static void test_private(Fixture *fixture, gconstpointer unused)
{
    g_autofree char *path = path_of(fixture, "machines/" UUID);
    struct stat st;
    g_assert_true(machine_record_save(&full, fixture->folder, NULL));
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 0777, ==, 0600);
}

#define GOOD                                                                                       \
    "[Machine]\nName=vm\nTenant=acme\nDevices=\nState=running\nBytes=4096\nIommufd=true\n"         \
    "Shares=true\nLedgerId=3\n"

static void test_damaged(Fixture *fixture, gconstpointer unused)
{
    static const char *const damaged[] = {
        "",
        "\n",
        "no key file",
        "[Machine]\n",
        "[Tenant]\nName=vm\n",
        "[Machine]\nTenant=acme\nDevices=\nState=running\n",
        "[Machine]\nName=vm\nDevices=\nState=running\n",
        "[Machine]\nName=vm\nTenant=acme\nState=running\n",
        "[Machine]\nName=vm\nTenant=acme\nDevices=\n",
        "[Machine]\nName=vm\nTenant=acme\nDevices=\nState=flying\n",
        "[Machine]\nName=vm\nTenant=acme\nDevices=0000:01:00.0;nothing;\nState=running\n",
        "[Machine]\nName=vm\nTenant=acme\nDevices=../../etc;\nState=running\n",
        "[Machine]\nName=\nTenant=acme\nDevices=\nState=running\n",
        "[Machine]\nName=vm\nTenant=../../etc\nDevices=\nState=running\n",
        "[Machine]\nName=vm\nTenant=acme\nDevices=\nState=running\nSince=-9223372036854775808\n",
        "[Machine]\nName=\xff\xfe\nTenant=acme\nDevices=\nState=running\n",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(damaged); i++) {
        g_autofree char *text = NULL;
        g_autofree char *aside = path_of(fixture, "machines/" UUID ".bad");
        write_file(fixture, "machines/" UUID, damaged[i]);
        write_file(fixture, "machines/" OTHER, GOOD);
        g_autoptr(MachineRecord) record = load_one(fixture);
        g_assert_cmpstr(record->uuid, ==, OTHER);
        g_assert_cmpuint(record->ledger_id, ==, 3);
        /* It is kept for who wants to know, and is no record any more. */
        g_assert_false(is_there(fixture, "machines/" UUID));
        g_assert_true(g_file_get_contents(aside, &text, NULL, NULL));
        g_assert_cmpstr(text, ==, damaged[i]);
        g_autoptr(MachineRecord) again = load_one(fixture);
        g_assert_cmpint(g_unlink(aside), ==, 0);
    }
}

/* A write that was cut off leaves a file with another name; what it was to replace is whole. */
static void test_cut_off(Fixture *fixture, gconstpointer unused)
{
    write_file(fixture, "machines/" UUID, GOOD);
    write_file(fixture, "machines/" UUID ".A1B2C3", "[Machine]\nNa");
    write_file(fixture, "machines/.hidden", "");
    g_autoptr(MachineRecord) record = load_one(fixture);
    g_assert_cmpstr(record->uuid, ==, UUID);
    g_assert_false(is_there(fixture, "machines/" UUID ".A1B2C3"));
    g_assert_false(is_there(fixture, "machines/.hidden"));
    g_assert_false(is_there(fixture, "machines/" UUID ".A1B2C3.bad"));
}

/* Addresses in any spelling become the one; what stands there twice is one device. */
static void test_odd_devices(Fixture *fixture, gconstpointer unused)
{
    write_file(fixture, "machines/" UUID,
               "[Machine]\nName=vm\nTenant=acme\nState=admitted\nDevices=02:00.0;0000:01:00.0;\n");
    g_autoptr(MachineRecord) record = load_one(fixture);
    g_assert_true(device_addresses_are_canonical((const char *const *)record->devices));
    g_assert_cmpuint(g_strv_length(record->devices), ==, 2);
}

/* A number that can't be one is none; bytes without end are refused by who takes them up. */
static void test_numbers_out_of_range(Fixture *fixture, gconstpointer unused)
{
    write_file(fixture, "machines/" UUID,
               "[Machine]\nName=vm\nTenant=acme\nState=running\nDevices=\nLedgerId=4294967296\n"
               "Bytes=99999999999999999999999\nLeader=99999999999999\nLeaderStart=-1\n"
               "Since=999999999999999999999\nLastPinned=x\n");
    g_autoptr(MachineRecord) record = load_one(fixture);
    g_assert_cmpuint(record->ledger_id, ==, 0);
    g_assert_true(record->bytes == UINT64_MAX);
    g_assert_cmpint(record->leader, ==, 0);
    g_assert_cmpuint(record->last_pinned, ==, 0);
}

static void test_no_room(Fixture *fixture, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *folder = path_of(fixture, "machines");
    g_assert_cmpint(g_rmdir(folder), ==, 0);
    write_file(fixture, "machines", "a file in place of the folder");
    g_assert_false(machine_record_save(&full, fixture->folder, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_KERNEL_REFUSED);
    g_assert_nonnull(strstr(error->message, "machines/" UUID));
    g_assert_true(g_str_has_suffix(error->message, "."));
    g_clear_error(&error);
    g_assert_false(records_prepare(fixture->folder, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_KERNEL_REFUSED);
    g_autoptr(GPtrArray) none = machine_records_load(fixture->folder);
    g_assert_cmpuint(none->len, ==, 0);
}

/* ---- tenants ---- */

static void test_tenant(Fixture *fixture, gconstpointer unused)
{
    g_autoptr(TenantRecord) record = tenant_record_new("acme");
    record->peak_pinned = UINT64_MAX;
    record->ledger_id = UINT32_MAX;
    record->isolation = ISOLATION_MACHINE;
    record->accounting = HOST_ACCOUNTING_USER;
    tenant_record_add_ioas(record, 1, 0);
    tenant_record_add_ioas(record, UINT32_MAX, UINT64_MAX - 1);
    g_assert_true(tenant_record_save(record, fixture->folder, NULL));
    g_autoptr(TenantRecord) loaded = tenant_record_load(fixture->folder, "acme");
    g_assert_nonnull(loaded);
    g_assert_cmpstr(loaded->id, ==, "acme");
    g_assert_cmpuint(loaded->peak_pinned, ==, UINT64_MAX);
    g_assert_cmpuint(loaded->ledger_id, ==, UINT32_MAX);
    g_assert_cmpint(loaded->isolation, ==, ISOLATION_MACHINE);
    g_assert_cmpint(loaded->accounting, ==, HOST_ACCOUNTING_USER);
    g_assert_cmpuint(g_hash_table_size(loaded->ioases), ==, 2);
    const uint64_t *bytes = g_hash_table_lookup(loaded->ioases, GUINT_TO_POINTER(UINT32_MAX));
    g_assert_nonnull(bytes);
    g_assert_cmpuint(*bytes, ==, UINT64_MAX - 1);
    g_auto(GStrv) ids = tenant_records_list(fixture->folder);
    g_assert_cmpuint(g_strv_length(ids), ==, 1);
    g_assert_cmpstr(ids[0], ==, "acme");
    tenant_record_remove(fixture->folder, "acme");
    g_assert_null(tenant_record_load(fixture->folder, "acme"));
}

static void test_damaged_tenant(Fixture *fixture, gconstpointer unused)
{
    write_file(fixture, "tenants/acme", "no key file");
    g_assert_null(tenant_record_load(fixture->folder, "acme"));
    write_file(fixture, "tenants/acme", "[Tenant]\nIsolation=nowhere\nLedgerId=-3\n[Ioases]\n");
    g_autoptr(TenantRecord) record = tenant_record_load(fixture->folder, "acme");
    g_assert_nonnull(record);
    g_assert_cmpuint(record->ledger_id, ==, 0);
    g_assert_cmpint(record->isolation, ==, ISOLATION_TENANT);
    g_assert_cmpuint(g_hash_table_size(record->ioases), ==, 0);
    /* No id of an object: not taken for another's. */
    write_file(fixture, "tenants/globex",
               "[Tenant]\nLedgerId=1\n[Ioases]\n0=1\nx=2\n4294967297=3\n7=4\n-1=5\n");
    g_autoptr(TenantRecord) other = tenant_record_load(fixture->folder, "globex");
    g_assert_cmpuint(g_hash_table_size(other->ioases), ==, 1);
    g_assert_true(g_hash_table_contains(other->ioases, GUINT_TO_POINTER(7)));
}

/* ---- others ---- */

static void test_device(Fixture *fixture, gconstpointer unused)
{
    g_assert_null(device_record_load(fixture->folder, "0000:01:00.0"));
    static const char *const drivers[] = {"nvme", "", "a;b c"};
    for (size_t i = 0; i < G_N_ELEMENTS(drivers); i++) {
        g_assert_true(device_record_save(fixture->folder, "0000:01:00.0", drivers[i], NULL));
        g_autofree char *driver = device_record_load(fixture->folder, "0000:01:00.0");
        g_assert_cmpstr(driver, ==, drivers[i]);
    }
    device_record_remove(fixture->folder, "0000:01:00.0");
    g_assert_null(device_record_load(fixture->folder, "0000:01:00.0"));
}

static void test_numbers(Fixture *fixture, gconstpointer unused)
{
    uint32_t tenant = 9;
    uint32_t machine = 9;
    numbers_record_load(fixture->folder, &tenant, &machine);
    g_assert_cmpuint(tenant + machine, ==, 0);
    g_assert_true(numbers_record_save(fixture->folder, 3, UINT32_MAX, NULL));
    numbers_record_load(fixture->folder, &tenant, &machine);
    g_assert_cmpuint(tenant, ==, 3);
    g_assert_cmpuint(machine, ==, UINT32_MAX);
}

static void test_loader(Fixture *fixture, gconstpointer unused)
{
    g_autofree char *ledger = NULL;
    g_autofree char *guard = NULL;
    g_assert_false(loader_record_load(fixture->folder, &ledger, &guard));
    g_assert_true(loader_record_save(fixture->folder, "", "No BTF: a\\b; c.", NULL));
    g_assert_true(loader_record_load(fixture->folder, &ledger, &guard));
    g_assert_cmpstr(ledger, ==, "");
    g_assert_cmpstr(guard, ==, "No BTF: a\\b; c.");
}

static void test_fd_names(void)
{
    g_autofree char *tenant = fd_store_tenant_name("acme");
    g_autofree char *leader = fd_store_leader_name(UUID);
    g_assert_cmpstr(tenant, ==, "tenant-acme");
    g_assert_cmpstr(leader, ==, "leader-" UUID);
    /* sd_notify(3): at most 255 bytes of ASCII without controls and colons. */
    g_autofree char *long_id = g_strnfill(64, 'a');
    g_assert_true(tenant_id_check(long_id, NULL));
    g_autofree char *long_name = fd_store_tenant_name(long_id);
    g_assert_cmpuint(strlen(long_name), <=, 255);
}

int main(int argc, char *argv[])
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, function) g_test_add(path, Fixture, NULL, set_up, function, tear_down)
    ADD("/records/machine", test_machine);
    ADD("/records/small-machine", test_small_machine);
    ADD("/records/private", test_private);
    ADD("/records/damaged", test_damaged);
    ADD("/records/cut-off", test_cut_off);
    ADD("/records/odd-devices", test_odd_devices);
    ADD("/records/numbers-out-of-range", test_numbers_out_of_range);
    ADD("/records/no-room", test_no_room);
    ADD("/records/tenant", test_tenant);
    ADD("/records/damaged-tenant", test_damaged_tenant);
    ADD("/records/device", test_device);
    ADD("/records/numbers", test_numbers);
    ADD("/records/loader", test_loader);
    g_test_add_func("/fd-store/names", test_fd_names);
    return g_test_run();
}
