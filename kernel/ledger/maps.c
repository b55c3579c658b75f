/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/ledger/maps.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "kernel/base/cleanup.h"

/* Entries that are read with one call; doubled where more are in one bucket. */
#define BATCH 1024
#define MAX_BATCH (BATCH * 64)
/* What the kernel returns of a map type that knows no batches, and no libc has a name for. */
#define ENOTSUPP 524

const char *const map_names[N_MAPS] = {
    [MAP_CONFIG] = "config",     [MAP_LOADED] = "loaded",       [MAP_STATE] = "state",
    [MAP_CONTEXTS] = "contexts", [MAP_OBJECTS] = "objects",     [MAP_PAGES] = "pages",
    [MAP_EXTENTS] = "extents",   [MAP_PROCESSES] = "processes", [MAP_OWNERS] = "owners",
    [MAP_ACCOUNTS] = "accounts", [MAP_TENANTS] = "tenants",     [MAP_MACHINES] = "machines",
    [MAP_CGROUPS] = "cgroups",   [MAP_DEVICES] = "devices",     [MAP_EVENTS] = "events",
    [MAP_RECORDS] = "records",   [MAP_FENCE] = "fence",         [MAP_RESERVATIONS] = "reservations",
    [MAP_HOST] = "host",         [MAP_UNITS] = "units",
};

const char *const program_names[N_PROGRAMS] = {
    [CONTROL_REGISTER] = "control_register",
    [CONTROL_NAME_PROCESS] = "control_name_process",
    [CONTROL_ADMIT_DEVICE] = "control_admit_device",
    [CONTROL_DISMISS_DEVICE] = "control_dismiss_device",
    [CONTROL_SET_LIMIT] = "control_set_limit",
    [CONTROL_SET_BUDGET] = "control_set_budget",
    [CONTROL_FOLLOW_LIMIT] = "control_follow_limit",
    [CONTROL_RESERVE_MACHINE] = "control_reserve_machine",
    [CONTROL_SET_DEDUP_CREDIT] = "control_set_dedup_credit",
    [CONTROL_REMOVE_MACHINE] = "control_remove_machine",
    [CONTROL_SET_RANGE] = "control_set_range",
    [CONTROL_ADOPT_OBJECT] = "control_adopt_object",
    [CONTROL_REMOVE_RANGE] = "control_remove_range",
    [CONTROL_REMOVE_OBJECT] = "control_remove_object",
    [CONTROL_REMOVE_CONTEXT] = "control_remove_context",
    [CONTROL_CLOSE_ACCOUNT] = "control_close_account",
    [CONTROL_REMOVE_PROCESS] = "control_remove_process",
    [CONTROL_SET_COUNTS] = "control_set_counts",
    [CONTROL_SET_TOTALS] = "control_set_totals",
    [CONTROL_DROP_UNMATCHED] = "control_drop_unmatched",
    [CONTROL_LEAK_RESERVATION] = "control_leak_reservation",
    [WALK_CONTEXT] = "walk_context",
    [WALK_CONTAINER] = "walk_container",
};

BpfLedger *bpf_ledger_alloc(void)
{
    BpfLedger *ledger = g_new0(BpfLedger, 1);

    for (int i = 0; i < N_MAPS; i++)
        ledger->maps[i].fd = -EBADF;
    for (int i = 0; i < N_PROGRAMS; i++)
        ledger->programs[i] = -EBADF;
    ledger->walk_files = -EBADF;
    ledger->lock_fd = -EBADF;
    ledger->hooks = g_array_new(FALSE, FALSE, sizeof(int));
    ledger->links = g_array_new(FALSE, FALSE, sizeof(int));
    ledger->relay_units = g_new0(char *, 1);
    ledger->relays = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    ledger->machines = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    return ledger;
}

/* The latest first: the guard's links came last, and need what the ledger's do. */
static void close_all(GArray *descriptors)
{
    while (descriptors->len) {
        close_fd(g_array_index(descriptors, int, descriptors->len - 1));
        g_array_set_size(descriptors, descriptors->len - 1);
    }
}

static void close_parts(BpfLedger *ledger)
{
    close_all(ledger->links);
    close_all(ledger->hooks);
    if (ledger->records)
        munmap((void *)ledger->records, sizeof(struct ledger_record) * LEDGER_WALK_RECORDS);
    ledger->records = NULL;
    g_clear_pointer(&ledger->events, ring_buffer__free);
    for (int i = 0; i < N_PROGRAMS; i++)
        ledger->programs[i] = close_fd(ledger->programs[i]);
    ledger->walk_files = close_fd(ledger->walk_files);
    ledger->lock_fd = close_fd(ledger->lock_fd);
    for (int i = 0; i < N_MAPS; i++)
        ledger->maps[i].fd = close_fd(ledger->maps[i].fd);
}

void bpf_ledger_disable(BpfLedger *ledger, int error)
{
    LedgerReport *report = &ledger->report;

    close_parts(ledger);
    report->active = report->guard_active = report->can_refuse_late = false;
    if (!*report->reason)
        snprintf(report->reason, sizeof(report->reason), "The ledger can't be started: %s.",
                 g_strerror(-error));
    if (!*report->guard_reason)
        g_strlcpy(report->guard_reason, report->reason, sizeof(report->guard_reason));
}

void bpf_ledger_free(BpfLedger *ledger)
{
    if (!ledger)
        return;
    close_parts(ledger);
    g_array_unref(ledger->links);
    g_array_unref(ledger->hooks);
    g_hash_table_unref(ledger->relays);
    g_hash_table_unref(ledger->machines);
    g_strfreev(ledger->relay_units);
    g_free(ledger->folder);
    g_free(ledger->version);
    g_free(ledger);
}

int map_open(int fd, LedgerMap *ret_map)
{
    if (fd < 0)
        return -errno;
    ret_map->fd = fd;

    struct bpf_map_info info = {0};
    uint32_t size = sizeof(info);
    if (bpf_obj_get_info_by_fd(fd, &info, &size))
        return -errno;
    ret_map->key_size = info.key_size;
    ret_map->value_size = info.value_size;
    ret_map->max_entries = info.max_entries;
    return 0;
}

int map_get(const BpfLedger *ledger, MapId map, const void *key, void *ret_value)
{
    if (ledger->maps[map].fd < 0)
        return -EOPNOTSUPP;
    return bpf_map_lookup_elem(ledger->maps[map].fd, key, ret_value) ? -errno : 0;
}

static int update(const BpfLedger *ledger, MapId map, const void *key, const void *value,
                  uint64_t flags)
{
    if (ledger->maps[map].fd < 0)
        return -EOPNOTSUPP;
    return bpf_map_update_elem(ledger->maps[map].fd, key, value, flags) ? -errno : 0;
}

int map_put(const BpfLedger *ledger, MapId map, const void *key, const void *value)
{
    return update(ledger, map, key, value, BPF_ANY);
}

int map_add(const BpfLedger *ledger, MapId map, const void *key, const void *value)
{
    return update(ledger, map, key, value, BPF_NOEXIST);
}

int map_delete(const BpfLedger *ledger, MapId map, const void *key)
{
    if (ledger->maps[map].fd < 0)
        return -EOPNOTSUPP;
    return bpf_map_delete_elem(ledger->maps[map].fd, key) ? -errno : 0;
}

static int visit_entries(const LedgerMap *map, const uint8_t *keys, const uint8_t *values,
                         uint32_t n, MapVisitor visit, void *data)
{
    int r = 0;

    for (uint32_t i = 0; i < n && r >= 0; i++)
        r = visit(keys + (size_t)i * map->key_size, values + (size_t)i * map->value_size, data);
    return r;
}

/* -EOPNOTSUPP: the kernel can't; nothing has been visited. */
static int each_by_batches(const LedgerMap *map, MapVisitor visit, void *data)
{
    /* Where the next batch begins: for a hash map a number, for others a key. */
    size_t position_size = MAX(map->key_size, sizeof(uint64_t));
    g_autofree void *position = g_malloc0(position_size), *next = g_malloc0(position_size);
    g_autofree uint8_t *keys = NULL, *values = NULL;
    uint32_t room = 0;
    bool first = true;

    for (uint32_t want = BATCH;;) {
        if (room < want) {
            keys = g_realloc_n(keys, want, map->key_size);
            values = g_realloc_n(values, want, map->value_size);
            room = want;
        }
        uint32_t n = room;
        int error = 0;
        if (bpf_map_lookup_batch(map->fd, first ? NULL : position, next, keys, values, &n, NULL))
            error = errno;
        /* One bucket has more entries: the same again with more room. */
        if (error == ENOSPC && room < MAX_BATCH) {
            want = room * 2;
            continue;
        }
        if (first && (error == EINVAL || error == ENOTSUPP || error == EOPNOTSUPP))
            return -EOPNOTSUPP;
        /* ENOENT: these are the last ones. */
        if (error && error != ENOENT)
            return -error;
        int r = visit_entries(map, keys, values, n, visit, data);
        if (r < 0 || error)
            return r;
        memcpy(position, next, position_size);
        first = false;
    }
}

static int each_by_key(const LedgerMap *map, MapVisitor visit, void *data)
{
    g_autofree void *key = g_malloc0(map->key_size), *next = g_malloc0(map->key_size);
    g_autofree void *value = g_malloc0(map->value_size);
    /* Entries that come and go can send the search back to the start: it ends all the same. */
    uint64_t steps = 2ull * map->max_entries;

    if (bpf_map_get_next_key(map->fd, NULL, next))
        return errno == ENOENT ? 0 : -errno;
    do {
        memcpy(key, next, map->key_size);
        int r = bpf_map_lookup_elem(map->fd, key, value) ? 0 : visit(key, value, data);
        if (r < 0)
            return r;
        if (!steps--)
            return -EAGAIN;
    } while (!bpf_map_get_next_key(map->fd, key, next));
    return 0;
}

int map_each(const BpfLedger *ledger, MapId id, MapVisitor visit, void *data)
{
    const LedgerMap *map = &ledger->maps[id];

    if (map->fd < 0)
        return -EOPNOTSUPP;
    int r = each_by_batches(map, visit, data);
    return r == -EOPNOTSUPP ? each_by_key(map, visit, data) : r;
}

int maps_synchronize(const BpfLedger *ledger)
{
    const uint32_t zero = 0;

    return map_put(ledger, MAP_FENCE, &zero, &ledger->maps[MAP_CONFIG].fd);
}

int program_run(const BpfLedger *ledger, ProgramId program, void *args, size_t size)
{
    LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = args, .ctx_size_in = size);

    if (ledger->programs[program] < 0)
        return -EOPNOTSUPP;
    if (bpf_prog_test_run_opts(ledger->programs[program], &opts))
        return -errno;
    return (int)opts.retval;
}
