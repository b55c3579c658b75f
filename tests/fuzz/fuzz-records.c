/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* State files with anything in them: what is taken from one could have been written, is written
 * and read again as the same, and the rest is set aside. */
#include "dbus/state/records.h"

#include "policy/device.h"

#include <glib/gstdio.h>
#include <stdlib.h>

#define UUID "2c7a3b1e-0000-4000-8000-000000000001"
#define ADDRESS "0000:01:00.0"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *made;

static void remove_folder(void)
{
    const char *argv[] = {"rm", "-r", made, NULL};
    (void)g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL,
                       NULL);
    g_free(made);
}

static const char *folder(void)
{
    if (!made) {
        made = g_dir_make_tmp("iommud-fuzz-XXXXXX", NULL);
        g_assert_true(records_prepare(made, NULL));
        (void)atexit(remove_folder);
    }
    return made;
}

static void put(const char *name, const uint8_t *data, size_t size)
{
    g_autofree char *path = g_build_filename(folder(), name, NULL);
    g_assert_true(g_file_set_contents_full(path, (const char *)data, (gssize)size,
                                           G_FILE_SET_CONTENTS_NONE, 0600, NULL));
}

static bool is_there(const char *name)
{
    g_autofree char *path = g_build_filename(folder(), name, NULL);
    return g_file_test(path, G_FILE_TEST_EXISTS);
}

static void check_same(const MachineRecord *a, const MachineRecord *b)
{
    g_assert_cmpstr(a->name, ==, b->name);
    g_assert_cmpstr(a->tenant, ==, b->tenant);
    g_assert_cmpstrv(a->devices, b->devices);
    g_assert_true(a->bytes == b->bytes && a->last_pinned == b->last_pinned);
    g_assert_true(a->iommufd == b->iommufd && a->shares == b->shares && a->state == b->state);
    g_assert_true(a->since == b->since && a->leader == b->leader);
    g_assert_true(a->leader_start == b->leader_start && a->ledger_id == b->ledger_id);
}

static void fuzz_machine(const uint8_t *data, size_t size)
{
    put("machines/" UUID, data, size);
    g_autoptr(GPtrArray) records = machine_records_load(folder());
    g_assert_cmpint(is_there("machines/" UUID), ==, records->len == 1);
    g_assert_cmpint(is_there("machines/" UUID ".bad"), ==, records->len == 0);
    if (records->len == 1) {
        const MachineRecord *record = g_ptr_array_index(records, 0);
        g_assert_cmpstr(record->uuid, ==, UUID);
        g_assert_true(device_addresses_are_canonical((const char *const *)record->devices));
        g_assert_true(tenant_id_check(record->tenant, NULL));
        g_assert_true(machine_name_check(record->name, NULL));
        g_assert_true(machine_record_save(record, folder(), NULL));
        g_autoptr(GPtrArray) again = machine_records_load(folder());
        g_assert_cmpuint(again->len, ==, 1);
        check_same(record, g_ptr_array_index(again, 0));
    }
    g_autofree char *bad = g_build_filename(folder(), "machines", UUID ".bad", NULL);
    (void)g_unlink(bad);
    machine_record_remove(folder(), UUID);
}

static void fuzz_tenant(const uint8_t *data, size_t size)
{
    put("tenants/acme", data, size);
    g_autoptr(TenantRecord) record = tenant_record_load(folder(), "acme");
    if (!record)
        return;
    g_assert_true(tenant_record_save(record, folder(), NULL));
    g_autoptr(TenantRecord) again = tenant_record_load(folder(), "acme");
    g_assert_true(again->ledger_id == record->ledger_id);
    g_assert_true(again->peak_pinned == record->peak_pinned);
    g_assert_true(again->isolation == record->isolation);
    g_assert_true(again->accounting == record->accounting);
    g_assert_cmpuint(g_hash_table_size(again->ioases), ==, g_hash_table_size(record->ioases));
    g_assert_false(g_hash_table_contains(record->ioases, NULL));
}

static void fuzz_others(const uint8_t *data, size_t size)
{
    uint32_t tenant;
    uint32_t machine;
    g_autofree char *ledger = NULL;
    g_autofree char *guard = NULL;
    put("devices/" ADDRESS, data, size);
    put("numbers", data, size);
    put("loader", data, size);
    g_autofree char *driver = device_record_load(folder(), ADDRESS);
    if (driver)
        g_assert_true(g_utf8_validate(driver, -1, NULL));
    numbers_record_load(folder(), &tenant, &machine);
    (void)loader_record_load(folder(), &ledger, &guard);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_machine(data, size);
    fuzz_tenant(data, size);
    fuzz_others(data, size);
    return 0;
}
