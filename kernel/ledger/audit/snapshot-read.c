/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/ledger/audit/snapshot-read.h"

#include <errno.h>

#include "kernel/base/process.h"
#include "kernel/ledger/audit/walk.h"

static int add_tenant(const void *key, const void *value, void *data)
{
    snapshot_add_tenant(data, *(const uint32_t *)key, value);
    return 0;
}

static int add_account(const void *key, const void *value, void *data)
{
    snapshot_add_account(data, key, value);
    return 0;
}

static int add_context(const void *key, const void *value, void *data)
{
    const Context context = {.address = *(const uint64_t *)key,
                             .context = *(const struct ledger_context *)value};
    Snapshot *snapshot = data;

    g_array_append_val(snapshot->contexts, context);
    return 0;
}

static int add_object(const void *key, const void *value, void *data)
{
    snapshot_add_object(data, key, value);
    return 0;
}

static int add_range(const void *key, const void *value, void *data)
{
    snapshot_add_range(data, *(const uint64_t *)key, value);
    return 0;
}

static int add_owner(const void *key, const void *value, void *data)
{
    snapshot_add_owner(data, *(const uint32_t *)key, value);
    return 0;
}

/* A process that has been seen with an open file need not be looked for in /proc. */
typedef struct {
    GHashTable *seen; /* tgid -> its start time */
    GArray *ended;
} Living;

static int add_ended(const void *key, const void *value, void *data)
{
    const EndedProcess process = {.tgid = *(const uint32_t *)key,
                                  .start = ((const struct ledger_process *)value)->start};
    Living *living = data;
    const uint64_t *seen = g_hash_table_lookup(living->seen, GUINT_TO_POINTER(process.tgid));
    uint64_t start = 0;

    if (seen && *seen == process.start)
        return 0;
    int r = process_start_time((pid_t)process.tgid, &start);
    if (r == -ESRCH || (r >= 0 && start != process.start))
        g_array_append_val(living->ended, process);
    return 0;
}

static int find_ended(const BpfLedger *ledger, Snapshot *snapshot)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    Living living = {seen, snapshot->ended};

    for (guint i = 0; i < snapshot->opened->len; i++) {
        struct ledger_opened *file = &g_array_index(snapshot->opened, struct ledger_opened, i);

        g_hash_table_insert(seen, GUINT_TO_POINTER(file->tgid), &file->start);
    }
    return map_each(ledger, MAP_PROCESSES, add_ended, &living);
}

typedef struct {
    Snapshot *snapshot;
    const struct ledger_context *context;
} Walk;

static void add_record(const struct ledger_record *record, void *data)
{
    const Walk *walk = data;

    snapshot_add_record(walk->snapshot, walk->context, record);
}

static int walk_context(const BpfLedger *ledger, Snapshot *snapshot, const Context *context)
{
    Walk walk = {snapshot, &context->context};
    guint objects = snapshot->objects->len, areas = snapshot->areas->len;
    struct ledger_context now;

    int r = walk_records(ledger, WALK_CONTEXT, context->address, add_record, &walk);
    if (r < 0)
        return r;
    /* Closed meanwhile: whatever was read there may have been anything. */
    if (map_get(ledger, MAP_CONTEXTS, &context->address, &now) < 0 ||
        now.id != context->context.id) {
        g_array_set_size(snapshot->objects, objects);
        g_array_set_size(snapshot->areas, areas);
    }
    return 0;
}

/* Only those that somebody has open: the structure of one whose end was missed may be anything. */
static int walk_contexts(const BpfLedger *ledger, Snapshot *snapshot)
{
    int r = 0;

    for (guint i = 0; r >= 0 && i < snapshot->contexts->len; i++) {
        const Context *context = &g_array_index(snapshot->contexts, Context, i);

        if (context->opened)
            r = walk_context(ledger, snapshot, context);
    }
    return r;
}

/* Sums before the ranges' entries that they are compared with, and these after the walk: what is
 * mapped meanwhile has an entry that the walk has not seen, never the other way round. */
int snapshot_read(const BpfLedger *ledger, Snapshot **ret_snapshot)
{
    g_autoptr(Snapshot) snapshot = snapshot_new();

    int r = map_each(ledger, MAP_ACCOUNTS, add_account, snapshot);
    if (r >= 0)
        r = map_each(ledger, MAP_TENANTS, add_tenant, snapshot);
    if (r >= 0)
        r = walk_files(ledger, snapshot->opened);
    if (r >= 0)
        r = map_each(ledger, MAP_CONTEXTS, add_context, snapshot);
    if (r < 0)
        return r;
    snapshot_mark_opened(snapshot);
    r = walk_contexts(ledger, snapshot);
    if (r >= 0)
        r = map_each(ledger, MAP_OBJECTS, add_object, snapshot);
    if (r >= 0)
        r = map_each(ledger, MAP_PAGES, add_range, snapshot);
    if (r >= 0)
        r = find_ended(ledger, snapshot);
    if (r >= 0)
        r = map_each(ledger, MAP_OWNERS, add_owner, snapshot);
    if (r < 0)
        return r;
    snapshot_index(snapshot);
    *ret_snapshot = g_steal_pointer(&snapshot);
    return 0;
}
