/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading whole maps of the running kernel, where this process may make some. */
#include "kernel/ledger/maps.h"

#include <bpf/bpf.h>
#include <errno.h>

/* A ledger with a map of so many entries: a number -> its double. NULL: it is not permitted. */
static BpfLedger *make_ledger(enum bpf_map_type type, uint32_t entries)
{
    BpfLedger *ledger = bpf_ledger_alloc();
    int fd = bpf_map_create(type, "test", sizeof(uint32_t), sizeof(uint64_t), 65536, NULL);

    if (fd < 0) {
        g_test_skip("BPF maps can't be made here");
        bpf_ledger_free(ledger);
        return NULL;
    }
    for (uint32_t key = 0; key < entries; key++) {
        const uint64_t value = 2ull * key;

        g_assert_cmpint(bpf_map_update_elem(fd, &key, &value, BPF_ANY), ==, 0);
    }
    g_assert_cmpint(map_open(fd, &ledger->maps[MAP_OWNERS]), ==, 0);
    g_assert_cmpuint(ledger->maps[MAP_OWNERS].key_size, ==, sizeof(uint32_t));
    g_assert_cmpuint(ledger->maps[MAP_OWNERS].value_size, ==, sizeof(uint64_t));
    return ledger;
}

static int visit(const void *key, const void *value, void *data)
{
    GHashTable *seen = data;

    g_assert_cmpuint(*(const uint64_t *)value, ==, 2ull * *(const uint32_t *)key);
    /* Each once. */
    g_assert_true(g_hash_table_add(seen, GUINT_TO_POINTER(*(const uint32_t *)key)));
    return g_hash_table_size(seen) == 30000 ? -ECANCELED : 0;
}

static void test_each(void)
{
    /* Also around what is read with one call. */
    static const uint32_t sizes[] = {0, 1, 1023, 1024, 1025, 20000};

    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autoptr(BpfLedger) ledger = make_ledger(BPF_MAP_TYPE_HASH, sizes[i]);
        g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);

        if (!ledger)
            return;
        g_assert_cmpint(map_each(ledger, MAP_OWNERS, visit, seen), ==, 0);
        g_assert_cmpuint(g_hash_table_size(seen), ==, sizes[i]);
    }
}

/* The visitor ends it. */
static void test_stops(void)
{
    g_autoptr(BpfLedger) ledger = make_ledger(BPF_MAP_TYPE_HASH, 40000);
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);

    if (!ledger)
        return;
    g_assert_cmpint(map_each(ledger, MAP_OWNERS, visit, seen), ==, -ECANCELED);
    g_assert_cmpuint(g_hash_table_size(seen), ==, 30000);
}

/* A type of maps that the kernel reads no batches of: key by key. */
static void test_without_batches(void)
{
    g_autoptr(BpfLedger) ledger = make_ledger(BPF_MAP_TYPE_HASH, 0);
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    int fd;

    if (!ledger)
        return;
    fd = bpf_map_create(BPF_MAP_TYPE_STACK_TRACE, "test", sizeof(uint32_t), 2 * sizeof(uint64_t),
                        16, NULL);
    g_assert_cmpint(map_open(fd, &ledger->maps[MAP_TENANTS]), ==, 0);
    g_assert_cmpint(map_each(ledger, MAP_TENANTS, visit, seen), ==, 0);
    g_assert_cmpuint(g_hash_table_size(seen), ==, 0);
}

static void test_nothing_open(void)
{
    g_autoptr(BpfLedger) ledger = bpf_ledger_alloc();
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    const uint32_t key = 1;
    uint64_t value;

    g_assert_cmpint(map_each(ledger, MAP_OWNERS, visit, seen), ==, -EOPNOTSUPP);
    g_assert_cmpint(map_get(ledger, MAP_OWNERS, &key, &value), ==, -EOPNOTSUPP);
    g_assert_cmpint(map_put(ledger, MAP_OWNERS, &key, &value), ==, -EOPNOTSUPP);
    g_assert_cmpint(map_delete(ledger, MAP_OWNERS, &key), ==, -EOPNOTSUPP);
    g_assert_cmpint(program_run(ledger, CONTROL_SET_LIMIT, &value, sizeof(value)), ==, -EOPNOTSUPP);
}

static void test_elements(void)
{
    g_autoptr(BpfLedger) ledger = make_ledger(BPF_MAP_TYPE_HASH, 2);
    const uint32_t known = 1, unknown = 2;
    uint64_t value = 7;

    if (!ledger)
        return;
    g_assert_cmpint(map_get(ledger, MAP_OWNERS, &known, &value), ==, 0);
    g_assert_cmpuint(value, ==, 2);
    g_assert_cmpint(map_get(ledger, MAP_OWNERS, &unknown, &value), ==, -ENOENT);
    g_assert_cmpint(map_add(ledger, MAP_OWNERS, &known, &value), ==, -EEXIST);
    g_assert_cmpint(map_put(ledger, MAP_OWNERS, &known, &value), ==, 0);
    g_assert_cmpint(map_add(ledger, MAP_OWNERS, &unknown, &value), ==, 0);
    g_assert_cmpint(map_delete(ledger, MAP_OWNERS, &unknown), ==, 0);
    g_assert_cmpint(map_delete(ledger, MAP_OWNERS, &unknown), ==, -ENOENT);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
    g_test_add_func("/ledger/maps/each", test_each);
    g_test_add_func("/ledger/maps/stops", test_stops);
    g_test_add_func("/ledger/maps/without-batches", test_without_batches);
    g_test_add_func("/ledger/maps/nothing-open", test_nothing_open);
    g_test_add_func("/ledger/maps/elements", test_elements);
    return g_test_run();
}
