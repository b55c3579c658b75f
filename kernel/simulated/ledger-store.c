/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/simulated/ledger-store.h"

#include "kernel/base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define STORE_MAGIC UINT64_C(0x327265676465736c) /* "lsedger2" */
#define STORE_NAME "ledger-simulated"
#define OWNERS_MAX 65536
#define TENANTS_MAX 65536
#define USAGE_MAX 131072

struct SimState {
    uint64_t magic;
    uint64_t id;
    uint32_t owners;             /* given out */
    uint32_t contexts;           /* given out */
    uint32_t used[SIM_N_TABLES]; /* the highest slot that was ever used, from 1 on */
    uint64_t objects, ranges;
    SimBudget host;
    LedgerCounters counters;
    uint32_t first_event, n_events;
    LedgerEvent events[SIM_EVENTS_MAX];
    SimProcess processes[OWNERS_MAX];
    SimLedgerOwner owner_entries[OWNERS_MAX];
    SimMachine machines[OWNERS_MAX];
    SimLedgerDevice devices[OWNERS_MAX];
    SimTenant tenants[TENANTS_MAX];
    SimUsage usage[USAGE_MAX];
};

static const struct {
    size_t offset, size;
    uint32_t max;
} layout[SIM_N_TABLES] = {
    [SIM_PROCESSES] = {offsetof(SimState, processes), sizeof(SimProcess), OWNERS_MAX},
    [SIM_OWNERS] = {offsetof(SimState, owner_entries), sizeof(SimLedgerOwner), OWNERS_MAX},
    [SIM_MACHINES] = {offsetof(SimState, machines), sizeof(SimMachine), OWNERS_MAX},
    [SIM_DEVICES] = {offsetof(SimState, devices), sizeof(SimLedgerDevice), OWNERS_MAX},
    [SIM_TENANTS] = {offsetof(SimState, tenants), sizeof(SimTenant), TENANTS_MAX},
    [SIM_USAGE] = {offsetof(SimState, usage), sizeof(SimUsage), USAGE_MAX},
};

SimLedger *sim_ledger;

/* ---- begin and end ---- */

static int make_memfd(int *ret_fd)
{
    autoclose int fd = memfd_create(STORE_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    uint64_t head[2] = {STORE_MAGIC, 0};
    if (fd < 0 || ftruncate(fd, sizeof(SimState)) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0 ||
        getrandom(&head[1], sizeof(head[1]), 0) < 0 ||
        pwrite(fd, head, sizeof(head), 0) != sizeof(head))
        return -errno;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static bool is_store(int fd)
{
    uint64_t magic = 0;
    struct stat st;
    return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
           (size_t)st.st_size == sizeof(SimState) &&
           pread(fd, &magic, sizeof(magic), 0) == sizeof(magic) && magic == STORE_MAGIC;
}

static int map_state(SimLedger *ledger, int descriptor)
{
    int r = 0;
    if (is_store(descriptor))
        ledger->descriptor = fcntl(descriptor, F_DUPFD_CLOEXEC, 3);
    else
        r = make_memfd(&ledger->descriptor);
    if (r == 0 && ledger->descriptor < 0)
        r = -errno;
    if (r < 0)
        return r;
    void *map =
        mmap(NULL, sizeof(SimState), PROT_READ | PROT_WRITE, MAP_SHARED, ledger->descriptor, 0);
    if (map == MAP_FAILED)
        return -errno;
    ledger->state = map;
    return 0;
}

static void *slot_at(SimLedger *ledger, SimTableName table, uint32_t slot)
{
    return (char *)ledger->state + layout[table].offset + slot * layout[table].size;
}

static void index_table(SimLedger *ledger, SimTableName table)
{
    ledger->found[table] = g_hash_table_new(g_int64_hash, g_int64_equal);
    ledger->free_slots[table] = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    for (uint32_t slot = 0; slot < ledger->state->used[table]; slot++) {
        uint64_t *key = slot_at(ledger, table, slot);
        if (*key != 0)
            g_hash_table_insert(ledger->found[table], key, key);
        else
            g_array_append_val(ledger->free_slots[table], slot);
    }
}

static int make_epoll(SimLedger *ledger)
{
    struct epoll_event event = {.events = EPOLLIN};
    ledger->epoll = epoll_create1(EPOLL_CLOEXEC);
    ledger->wakeup = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (ledger->epoll < 0 || ledger->wakeup < 0 ||
        epoll_ctl(ledger->epoll, EPOLL_CTL_ADD, ledger->wakeup, &event) < 0)
        return -errno;
    return 0;
}

static void set_room(SimLedger *ledger, const LedgerOptions *options)
{
    for (int table = 0; table < SIM_N_TABLES; table++)
        ledger->room[table] = layout[table].max;
    if (options->max_owners > 0)
        for (int table = SIM_PROCESSES; table <= SIM_DEVICES; table++)
            ledger->room[table] = MIN(options->max_owners, layout[table].max);
    if (options->max_contexts > 0)
        ledger->room[SIM_TENANTS] = MIN(options->max_contexts, TENANTS_MAX);
    ledger->max_objects = options->max_objects > 0 ? options->max_objects : UINT32_MAX;
    ledger->max_ranges = options->max_ranges > 0 ? options->max_ranges : UINT32_MAX;
}

int sim_store_open(const LedgerOptions *options, SimLedger **ret_ledger)
{
    SimLedger *ledger = g_new0(SimLedger, 1);
    struct rlimit files;
    ledger->descriptor = ledger->epoll = ledger->wakeup = -EBADF;
    ledger->pidfds = g_hash_table_new(NULL, NULL);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        ledger->max_pidfds = (unsigned)MIN(files.rlim_cur / 4, UINT32_MAX);
    set_room(ledger, options);
    int r = map_state(ledger, options->descriptor);
    if (r == 0)
        r = make_epoll(ledger);
    if (r < 0) {
        sim_store_close(ledger);
        return r;
    }
    for (int table = 0; table < SIM_N_TABLES; table++)
        index_table(ledger, table);
    if (ledger->state->n_events > 0)
        (void)eventfd_write(ledger->wakeup, 1);
    *ret_ledger = ledger;
    return 0;
}

void sim_store_close(SimLedger *ledger)
{
    GHashTableIter iter;
    void *pidfd;
    g_hash_table_iter_init(&iter, ledger->pidfds);
    while (g_hash_table_iter_next(&iter, NULL, &pidfd))
        close_fd(GPOINTER_TO_INT(pidfd));
    g_hash_table_unref(ledger->pidfds);
    for (int table = 0; table < SIM_N_TABLES; table++) {
        g_clear_pointer(&ledger->found[table], g_hash_table_unref);
        if (ledger->free_slots[table])
            g_array_unref(ledger->free_slots[table]);
    }
    g_clear_pointer(&ledger->extents, g_hash_table_unref);
    if (ledger->state)
        munmap(ledger->state, sizeof(SimState));
    close_fd(ledger->descriptor);
    close_fd(ledger->wakeup);
    close_fd(ledger->epoll);
    g_free(ledger);
}

/* ---- entries ---- */

void *sim_store_get(SimLedger *ledger, SimTableName table, uint64_t key)
{
    return key != 0 ? g_hash_table_lookup(ledger->found[table], &key) : NULL;
}

void *sim_store_add(SimLedger *ledger, SimTableName table, uint64_t key)
{
    GArray *free_slots = ledger->free_slots[table];
    uint32_t slot;
    if (g_hash_table_size(ledger->found[table]) >= ledger->room[table])
        return NULL;
    if (free_slots->len > 0) {
        slot = g_array_index(free_slots, uint32_t, free_slots->len - 1);
        g_array_set_size(free_slots, free_slots->len - 1);
    } else {
        slot = ledger->state->used[table]++;
    }
    uint64_t *entry = slot_at(ledger, table, slot);
    memset(entry, 0, layout[table].size);
    *entry = key;
    g_hash_table_insert(ledger->found[table], entry, entry);
    return entry;
}

void sim_store_remove(SimLedger *ledger, SimTableName table, uint64_t key)
{
    char *entry = sim_store_get(ledger, table, key);
    if (!entry)
        return;
    uint32_t slot =
        (uint32_t)((size_t)(entry - (char *)slot_at(ledger, table, 0)) / layout[table].size);
    g_hash_table_remove(ledger->found[table], &key);
    memset(entry, 0, layout[table].size);
    g_array_append_val(ledger->free_slots[table], slot);
}

GPtrArray *sim_store_list(SimLedger *ledger, SimTableName table)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new();
    GHashTableIter iter;
    void *entry;
    g_hash_table_iter_init(&iter, ledger->found[table]);
    while (g_hash_table_iter_next(&iter, NULL, &entry))
        g_ptr_array_add(list, entry);
    return g_steal_pointer(&list);
}

/* ---- numbers ---- */

uint64_t sim_store_id(const SimLedger *ledger)
{
    return ledger->state->id;
}

uint32_t sim_store_next_owner(SimLedger *ledger)
{
    return SIM_OWNER_FIRST + ledger->state->owners++;
}

uint32_t sim_store_next_context(SimLedger *ledger)
{
    return ++ledger->state->contexts;
}

LedgerCounters *sim_store_counters(SimLedger *ledger)
{
    return &ledger->state->counters;
}

SimBudget *sim_store_host(SimLedger *ledger)
{
    return &ledger->state->host;
}

uint64_t *sim_store_objects(SimLedger *ledger)
{
    return &ledger->state->objects;
}

uint64_t *sim_store_ranges(SimLedger *ledger)
{
    return &ledger->state->ranges;
}

/* ---- events ---- */

void sim_store_push_event(SimLedger *ledger, const LedgerEvent *event)
{
    SimState *state = ledger->state;
    if (state->n_events == SIM_EVENTS_MAX) {
        state->counters.lost_events++;
        return;
    }
    state->events[(state->first_event + state->n_events++) % SIM_EVENTS_MAX] = *event;
    (void)eventfd_write(ledger->wakeup, 1);
}

bool sim_store_pop_event(SimLedger *ledger, LedgerEvent *ret_event)
{
    SimState *state = ledger->state;
    eventfd_t count;
    if (state->n_events == 0) {
        (void)eventfd_read(ledger->wakeup, &count);
        return false;
    }
    *ret_event = state->events[state->first_event];
    state->first_event = (state->first_event + 1) % SIM_EVENTS_MAX;
    state->n_events--;
    return true;
}
