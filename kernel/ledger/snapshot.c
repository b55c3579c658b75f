/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Looking at the books and at the kernel's own structures. */
#include "kernel/ledger/snapshot.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "kernel/base/cleanup.h"
#include "kernel/base/process.h"

/* One context never takes more calls than this: a torn structure could lead in circles. */
#define MAX_CALLS 100000

void view_free(View *view)
{
    g_clear_pointer(&view->tenants, g_hash_table_unref);
    g_clear_pointer(&view->balances, g_hash_table_unref);
    g_clear_pointer(&view->contexts, g_array_unref);
    g_clear_pointer(&view->opened, g_array_unref);
    g_clear_pointer(&view->objects, g_array_unref);
    g_clear_pointer(&view->areas, g_array_unref);
    g_clear_pointer(&view->pending, g_hash_table_unref);
    g_clear_pointer(&view->ranges, g_hash_table_unref);
    g_clear_pointer(&view->known_objects, g_hash_table_unref);
    g_clear_pointer(&view->known_pages, g_hash_table_unref);
    g_clear_pointer(&view->taken, g_hash_table_unref);
    g_clear_pointer(&view->by_id, g_hash_table_unref);
    g_clear_pointer(&view->ended, g_array_unref);
    g_clear_pointer(&view->owners, g_array_unref);
    g_free(view);
}

static int take_context(const void *key, const void *value, void *data)
{
    Context context = {.address = *(const uint64_t *)key,
                       .context = *(const struct ledger_context *)value};

    g_array_append_val((GArray *)data, context);
    return 0;
}

static int take_tenant(const void *key, const void *value, void *data)
{
    g_hash_table_insert(data, GUINT_TO_POINTER(*(const uint32_t *)key),
                        g_memdup2(value, sizeof(struct ledger_tenant)));
    return 0;
}

static int take_object(const void *key, const void *value, void *data)
{
    const struct ledger_object *object = value;

    if (object->object)
        g_hash_table_insert(data, g_memdup2(key, sizeof(uint64_t)),
                            g_memdup2(object, sizeof(*object)));
    return 0;
}

static int take_pages(const void *key, const void *value, void *data)
{
    const struct ledger_pages *range = value;
    View *view = data;

    if (LEDGER_IS_TAKEN(range->charge))
        g_hash_table_insert(view->taken, g_memdup2(key, sizeof(uint64_t)),
                            g_memdup2(&range->charge, sizeof(range->charge)));
    else
        g_hash_table_insert(view->known_pages, g_memdup2(key, sizeof(uint64_t)),
                            g_memdup2(range, sizeof(*range)));
    return 0;
}

/* Who has been seen with an open file need not be looked for in /proc. */
typedef struct {
    GHashTable *seen; /* tgid -> its start time */
    GArray *ended;
} Living;

static int take_ended(const void *key, const void *value, void *data)
{
    Ended process = {.tgid = *(const uint32_t *)key,
                     .start = ((const struct ledger_process *)value)->start};
    Living *living = data;
    const uint64_t *seen = g_hash_table_lookup(living->seen, GUINT_TO_POINTER(process.tgid));
    uint64_t start = 0;
    int r = 0;

    if (seen && *seen == process.start)
        return 0;
    r = process_start_time(process.tgid, &start);
    if (r == -ESRCH || (!r && start != process.start))
        g_array_append_val(living->ended, process);
    return 0;
}

static int find_ended(Ledger *ledger, View *view)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    Living living = {seen, view->ended};

    for (guint i = 0; i < view->opened->len; i++) {
        struct ledger_opened *file = &g_array_index(view->opened, struct ledger_opened, i);

        g_hash_table_insert(seen, GUINT_TO_POINTER(file->tgid), &file->start);
    }
    return ledger_each(ledger, MAP_PROCESSES, take_ended, &living);
}

static int take_owner(const void *key, const void *value, void *data)
{
    const struct ledger_owner *owner = value;
    Count count = {
        .owner = *(const uint32_t *)key,
        .objects_said = owner->objects,
        .pages_said = owner->pages,
    };

    g_array_append_val((GArray *)data, count);
    return 0;
}

int view_find_opened(Ledger *ledger, GArray *opened)
{
    autoclose int fd = bpf_iter_create(bpf_ledger(ledger)->walk_files);
    struct ledger_opened records[128];
    int r = fd < 0 ? -errno : 0;
    ssize_t n;

    while (!r && (n = read(fd, records, sizeof(records)))) {
        if (n > 0)
            g_array_append_vals(opened, records, n / sizeof(records[0]));
        else if (errno != EAGAIN && errno != EINTR)
            r = -errno;
    }
    return r;
}

/* The end of one that nobody has open was missed: its structure may be anything by now. */
static void mark_opened(View *view)
{
    g_autoptr(GHashTable) opened = g_hash_table_new(g_int64_hash, g_int64_equal);

    for (guint i = 0; i < view->opened->len; i++)
        g_hash_table_add(opened, &g_array_index(view->opened, struct ledger_opened, i).context);
    for (guint i = 0; i < view->contexts->len; i++) {
        Context *context = &g_array_index(view->contexts, Context, i);

        context->opened = g_hash_table_contains(opened, &context->address);
    }
}

static void take_rows(Ledger *ledger, View *view, const Context *context, uint32_t n)
{
    for (uint32_t i = 0; i < n && i < LEDGER_WALK_RECORDS; i++) {
        Row row = {
            .context = context->context.id,
            .tenant = context->context.tenant,
            .row = bpf_ledger(ledger)->rows[i],
        };

        if (row.row.kind == LEDGER_RECORD_OBJECT || row.row.kind == LEDGER_RECORD_RESERVED)
            g_array_append_val(view->objects, row);
        else if (row.row.kind == LEDGER_RECORD_AREA)
            g_array_append_val(view->areas, row);
        else if (row.row.kind == LEDGER_RECORD_PENDING)
            g_hash_table_add(view->pending, GUINT_TO_POINTER(row.context));
    }
}

static int walk(Ledger *ledger, View *view, const Context *context)
{
    struct ledger_walk args = {.context = context->address};
    guint objects = view->objects->len, areas = view->areas->len;
    struct ledger_context now;
    int r;

    for (int calls = 0; !args.ret_done; calls++) {
        if (calls == MAX_CALLS)
            return -ELOOP;
        r = ledger_run(ledger, WALK_CONTEXT, &args, sizeof(args));
        if (r)
            return r;
        take_rows(ledger, view, context, args.ret_records);
    }
    /* Closed meanwhile: whatever was read there may have been anything. */
    if (ledger_get(ledger, MAP_CONTEXTS, &context->address, &now) ||
        now.id != context->context.id) {
        g_array_set_size(view->objects, objects);
        g_array_set_size(view->areas, areas);
    }
    return 0;
}

/* What every owner has by the entries of the other maps. */
static void count_entries(View *view)
{
    g_autoptr(GHashTable) places = g_hash_table_new(NULL, NULL);
    GHashTableIter iter;
    gpointer value, place;

    for (guint i = 0; i < view->owners->len; i++)
        g_hash_table_insert(places, GUINT_TO_POINTER(g_array_index(view->owners, Count, i).owner),
                            &g_array_index(view->owners, Count, i));
    g_hash_table_iter_init(&iter, view->known_objects);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        place =
            g_hash_table_lookup(places, GUINT_TO_POINTER(((struct ledger_object *)value)->owner));
        if (place)
            ((Count *)place)->objects++;
    }
    g_hash_table_iter_init(&iter, view->known_pages);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        place =
            g_hash_table_lookup(places, GUINT_TO_POINTER(((struct ledger_pages *)value)->owner));
        if (place)
            ((Count *)place)->pages++;
    }
}

static View *view_new(void)
{
    View *view = g_new0(View, 1);

    view->tenants = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    view->contexts = g_array_new(FALSE, FALSE, sizeof(Context));
    view->pending = g_hash_table_new(NULL, NULL);
    view->opened = g_array_new(FALSE, FALSE, sizeof(struct ledger_opened));
    view->objects = g_array_new(FALSE, FALSE, sizeof(Row));
    view->areas = g_array_new(FALSE, FALSE, sizeof(Row));
    view->ranges = g_hash_table_new(g_int64_hash, g_int64_equal);
    view->known_objects = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    view->known_pages = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    view->taken = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    view->by_id = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    view->ended = g_array_new(FALSE, FALSE, sizeof(Ended));
    view->owners = g_array_new(FALSE, FALSE, sizeof(Count));
    return view;
}

/* Once the rows don't move any more. */
static void index_rows(View *view)
{
    for (guint i = 0; i < view->areas->len; i++) {
        Row *row = &g_array_index(view->areas, Row, i);

        g_hash_table_insert(view->ranges, &row->row.address, row);
    }
    for (guint i = 0; i < view->objects->len; i++) {
        Row *row = &g_array_index(view->objects, Row, i);
        const struct ledger_object_key key = {.context = row->context, .id = row->row.id};

        g_hash_table_insert(view->by_id, g_memdup2(&key, sizeof(key)), row);
    }
}

int view_take(Ledger *ledger, View **ret_view)
{
    g_autoptr(View) view = view_new();
    int r;

    r = ledger_each(ledger, MAP_TENANTS, take_tenant, view->tenants);
    if (!r)
        r = view_read_balances(ledger, view);
    if (!r)
        r = view_find_opened(ledger, view->opened);
    if (!r)
        r = ledger_each(ledger, MAP_CONTEXTS, take_context, view->contexts);
    mark_opened(view);
    for (guint i = 0; !r && i < view->contexts->len; i++)
        if (g_array_index(view->contexts, Context, i).opened)
            r = walk(ledger, view, &g_array_index(view->contexts, Context, i));
    if (!r)
        r = ledger_each(ledger, MAP_OBJECTS, take_object, view->known_objects);
    if (!r)
        r = ledger_each(ledger, MAP_PAGES, take_pages, view);
    if (!r)
        r = find_ended(ledger, view);
    if (!r)
        r = ledger_each(ledger, MAP_OWNERS, take_owner, view->owners);
    if (r)
        return r;
    index_rows(view);
    count_entries(view);
    view_add_up(view);
    *ret_view = g_steal_pointer(&view);
    return 0;
}
