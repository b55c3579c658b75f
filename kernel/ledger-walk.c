/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reconciling the books with the kernel's own structures.
 *
 * The walk takes no locks, so one look proves nothing: what differs is looked at again, and only
 * what differs in the same way both times is mended, each entry by a compare-and-swap in the
 * kernel against what was read here.
 */
#include "kernel/ledger-internal.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <unistd.h>

#include "kernel/cleanup.h"

/* One context never takes more calls than this: a torn structure could lead in circles. */
#define MAX_CALLS 100000

typedef struct {
    uint64_t address;
    struct ledger_context context;
} Context;

typedef struct {
    uint32_t context; /* serial */
    uint32_t tenant;
    struct ledger_row row;
} Row;

/* One look at everything. */
typedef struct {
    GArray *contexts;          /* Context */
    GArray *opened;            /* struct ledger_opened */
    GArray *objects;           /* Row */
    GArray *areas;             /* Row, of which several can be of one range */
    GHashTable *pending;       /* serials of contexts in which something is being mapped */
    GHashTable *ranges;        /* address -> Row in areas */
    GHashTable *known_objects; /* struct ledger_object_key -> struct ledger_object */
    GHashTable *known_pages;   /* address -> struct ledger_pages */
} View;

static void view_free(View *view)
{
    g_clear_pointer(&view->contexts, g_array_unref);
    g_clear_pointer(&view->opened, g_array_unref);
    g_clear_pointer(&view->objects, g_array_unref);
    g_clear_pointer(&view->areas, g_array_unref);
    g_clear_pointer(&view->pending, g_hash_table_unref);
    g_clear_pointer(&view->ranges, g_hash_table_unref);
    g_clear_pointer(&view->known_objects, g_hash_table_unref);
    g_clear_pointer(&view->known_pages, g_hash_table_unref);
    g_free(view);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(View, view_free)

static int take_context(const void *key, const void *value, void *data)
{
    Context context = {.address = *(const uint64_t *)key,
                       .context = *(const struct ledger_context *)value};

    g_array_append_val((GArray *)data, context);
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
    g_hash_table_insert(data, g_memdup2(key, sizeof(uint64_t)),
                        g_memdup2(value, sizeof(struct ledger_pages)));
    return 0;
}

/* Runs the iterator over all files, which also makes unknown contexts known. */
static int find_opened(Ledger *ledger, GArray *opened)
{
    autoclose int fd = bpf_iter_create(ledger->walk_files);
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

static void take_rows(Ledger *ledger, View *view, const Context *context, uint32_t n)
{
    for (uint32_t i = 0; i < n && i < LEDGER_WALK_ROWS; i++) {
        Row row = {
            .context = context->context.serial,
            .tenant = context->context.tenant,
            .row = ledger->rows[i],
        };

        if (row.row.kind == LEDGER_ROW_OBJECT)
            g_array_append_val(view->objects, row);
        else if (row.row.kind == LEDGER_ROW_AREA)
            g_array_append_val(view->areas, row);
        else if (row.row.kind == LEDGER_ROW_PENDING)
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
        take_rows(ledger, view, context, args.ret_rows);
    }
    /* Closed meanwhile: whatever was read there may have been anything. */
    if (ledger_get(ledger, MAP_CONTEXTS, &context->address, &now) ||
        now.serial != context->context.serial) {
        g_array_set_size(view->objects, objects);
        g_array_set_size(view->areas, areas);
    }
    return 0;
}

static int look(Ledger *ledger, View **ret_view)
{
    g_autoptr(View) view = g_new0(View, 1);
    int r;

    view->contexts = g_array_new(FALSE, FALSE, sizeof(Context));
    view->pending = g_hash_table_new(NULL, NULL);
    view->opened = g_array_new(FALSE, FALSE, sizeof(struct ledger_opened));
    view->objects = g_array_new(FALSE, FALSE, sizeof(Row));
    view->areas = g_array_new(FALSE, FALSE, sizeof(Row));
    view->ranges = g_hash_table_new(g_int64_hash, g_int64_equal);
    view->known_objects = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    view->known_pages = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    r = find_opened(ledger, view->opened);
    if (!r)
        r = ledger_each(ledger, MAP_CONTEXTS, take_context, view->contexts);
    for (guint i = 0; !r && i < view->contexts->len; i++)
        r = walk(ledger, view, &g_array_index(view->contexts, Context, i));
    if (!r)
        r = ledger_each(ledger, MAP_OBJECTS, take_object, view->known_objects);
    if (!r)
        r = ledger_each(ledger, MAP_PAGES, take_pages, view->known_pages);
    if (r)
        return r;
    for (guint i = 0; i < view->areas->len; i++) {
        Row *row = &g_array_index(view->areas, Row, i);

        g_hash_table_insert(view->ranges, &row->row.address, row);
    }
    *ret_view = g_steal_pointer(&view);
    return 0;
}

/* Whether the ledger has the range otherwise than the kernel; *ret_was: what it has. */
static bool range_differs(const View *view, const Row *row, uint64_t *ret_was)
{
    const struct ledger_pages *known = g_hash_table_lookup(view->known_pages, &row->row.address);

    *ret_was = known ? known->charged : 0;
    return !known || known->charged != row->row.charged;
}

/* An object's key as the map has it. */
static uint64_t object_key(const Row *row)
{
    struct ledger_object_key key = {.context = row->context, .id = row->row.id};
    uint64_t number;

    memcpy(&number, &key, sizeof(number));
    return number;
}

static bool object_is_known(const View *view, const Row *row)
{
    uint64_t key = object_key(row);

    return g_hash_table_contains(view->known_objects, &key);
}

static bool differs(const View *view)
{
    GHashTableIter iter;
    gpointer key, value;
    uint64_t was;

    g_hash_table_iter_init(&iter, view->ranges);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        if (range_differs(view, value, &was))
            return true;
    g_hash_table_iter_init(&iter, view->known_pages);
    while (g_hash_table_iter_next(&iter, &key, NULL))
        if (!g_hash_table_contains(view->ranges, key))
            return true;
    for (guint i = 0; i < view->objects->len; i++)
        if (!object_is_known(view, &g_array_index(view->objects, Row, i)))
            return true;
    for (guint i = 0; i < view->contexts->len; i++)
        if (!(g_array_index(view->contexts, Context, i).context.flags & LEDGER_CONTEXT_COMPLETE))
            return true;
    return false;
}

static void count(int r, uint64_t by, LedgerDrift *drift)
{
    if (r) {
        drift->unstable++;
        return;
    }
    drift->mended++;
    drift->drift += by;
}

static void mend_ranges(Ledger *ledger, const View *first, const View *second, LedgerDrift *drift)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, second->ranges);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Row *row = value, *before = g_hash_table_lookup(first->ranges, &row->row.address);
        struct ledger_mend args = {
            .pages = row->row.address,
            .bytes = row->row.npages << LEDGER_PAGE_SHIFT,
            .is = row->row.charged,
            .start = row->row.start,
            .tgid = row->row.tgid,
            .context = row->context,
            .tenant = row->tenant,
        };
        uint64_t was, known;

        if (!range_differs(second, row, &known))
            continue;
        args.was = known;
        if (!before || !range_differs(first, before, &was) || was != args.was ||
            before->row.charged != args.is) {
            drift->unstable++;
            continue;
        }
        count(ledger_run(ledger, CONTROL_MEND, &args, sizeof(args)),
              args.is > was ? args.is - was : was - args.is, drift);
    }
}

static bool is_pending(const View *view, const struct ledger_pages *known)
{
    return g_hash_table_contains(view->pending, GUINT_TO_POINTER(known->context));
}

static void drop_ranges(Ledger *ledger, const View *first, const View *second, LedgerDrift *drift)
{
    GHashTableIter iter;
    gpointer key, value;

    g_hash_table_iter_init(&iter, second->known_pages);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        const struct ledger_pages *known = value,
                                  *before = g_hash_table_lookup(first->known_pages, key);
        struct ledger_drop args = {.pages = *(uint64_t *)key, .was = known->charged};

        if (g_hash_table_contains(second->ranges, key))
            continue;
        /* What is being mapped is counted before the walk can reach it. */
        if (!before || g_hash_table_contains(first->ranges, key) || is_pending(first, known) ||
            is_pending(second, known) || before->charged != known->charged) {
            drift->unstable++;
            continue;
        }
        count(ledger_run(ledger, CONTROL_DROP, &args, sizeof(args)), known->charged, drift);
    }
}

/*
 * Whose an object is that is older than the ledger: an address space is whose memory is mapped
 * there, a page table goes with its address space, a device is whose file it is.
 */
static void guess_owner(const View *view, const Row *object, struct ledger_seed *seed)
{
    uint32_t ioas =
        object->row.type == LEDGER_OBJECT_HWPT_PAGING ? object->row.under : object->row.id;

    for (guint i = 0; i < view->areas->len && !seed->tgid; i++) {
        const Row *area = &g_array_index(view->areas, Row, i);

        if (area->context != object->context || area->row.id != ioas ||
            object->row.type == LEDGER_OBJECT_DEVICE)
            continue;
        seed->tgid = area->row.tgid;
        seed->start = area->row.start;
    }
    for (guint i = 0; i < view->opened->len && !seed->tgid; i++) {
        const struct ledger_opened *opened = &g_array_index(view->opened, struct ledger_opened, i);
        const Context *context = NULL;

        for (guint j = 0; j < view->contexts->len; j++)
            if (g_array_index(view->contexts, Context, j).address == opened->context)
                context = &g_array_index(view->contexts, Context, j);
        if (!context || context->context.serial != object->context ||
            object->row.type != LEDGER_OBJECT_DEVICE || opened->device != object->row.id)
            continue;
        seed->tgid = opened->tgid;
        seed->start = opened->start;
    }
}

static void seed_objects(Ledger *ledger, const View *first, const View *second, LedgerDrift *drift)
{
    g_autoptr(GHashTable) before = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);

    for (guint i = 0; i < first->objects->len; i++) {
        const Row *row = &g_array_index(first->objects, Row, i);
        uint64_t key = object_key(row);

        g_hash_table_insert(before, g_memdup2(&key, sizeof(key)), (void *)row->row.address);
    }
    for (guint i = 0; i < second->objects->len; i++) {
        const Row *row = &g_array_index(second->objects, Row, i);
        struct ledger_seed seed = {
            .object = row->row.address,
            .context = row->context,
            .id = row->row.id,
            .type = row->row.type,
        };
        uint64_t key = object_key(row);

        if (object_is_known(second, row))
            continue;
        if (g_hash_table_lookup(before, &key) != (void *)row->row.address) {
            drift->unstable++;
            continue;
        }
        guess_owner(second, row, &seed);
        if (!ledger_run(ledger, CONTROL_SEED, &seed, sizeof(seed)))
            drift->seeded++;
    }
}

/* From here on an id that the ledger does not have is free. */
static void complete_contexts(Ledger *ledger, const View *view)
{
    for (guint i = 0; i < view->contexts->len; i++) {
        const Context *context = &g_array_index(view->contexts, Context, i);
        struct ledger_complete args = {
            .context = context->address,
            .serial = context->context.serial,
        };
        bool complete = true;

        if (context->context.flags & LEDGER_CONTEXT_COMPLETE)
            continue;
        for (guint j = 0; complete && j < view->objects->len; j++) {
            const Row *row = &g_array_index(view->objects, Row, j);

            complete = row->context != context->context.serial || object_is_known(view, row);
        }
        if (complete)
            ledger_run(ledger, CONTROL_COMPLETE, &args, sizeof(args));
    }
}

/* Books of owners and contexts that are gone, in which nothing is left. */
typedef struct {
    Ledger *ledger;
    GHashTable *contexts;
    GArray *idle;
} Sweep;

static int find_idle_book(const void *key, const void *value, void *data)
{
    const struct ledger_book_key *place = key;
    const struct ledger_book *book = value;
    struct ledger_owner owner;
    Sweep *sweep = data;

    if (book->pinned || book->mapped)
        return 0;
    if (!g_hash_table_contains(sweep->contexts, GUINT_TO_POINTER(place->context)) ||
        ledger_get(sweep->ledger, MAP_OWNERS, &place->owner, &owner))
        g_array_append_val(sweep->idle, *place);
    return 0;
}

static void sweep_books(Ledger *ledger, const View *view)
{
    g_autoptr(GHashTable) contexts = g_hash_table_new(NULL, NULL);
    g_autoptr(GArray) idle = g_array_new(FALSE, FALSE, sizeof(struct ledger_book_key));
    Sweep sweep = {ledger, contexts, idle};

    for (guint i = 0; i < view->contexts->len; i++)
        g_hash_table_add(
            contexts, GUINT_TO_POINTER(g_array_index(view->contexts, Context, i).context.serial));
    ledger_each(ledger, MAP_BOOKS, find_idle_book, &sweep);
    for (guint i = 0; i < idle->len; i++)
        ledger_drop(ledger, MAP_BOOKS, &g_array_index(idle, struct ledger_book_key, i));
}

static int compare_ranges(const void *a, const void *b)
{
    const Row *x = *(Row *const *)a, *y = *(Row *const *)b;

    if (x->context != y->context)
        return x->context < y->context ? -1 : 1;
    if (x->row.tgid != y->row.tgid)
        return x->row.tgid < y->row.tgid ? -1 : 1;
    if (x->row.start != y->row.start)
        return x->row.start < y->row.start ? -1 : 1;
    if (x->row.source != y->row.source)
        return x->row.source < y->row.source ? -1 : 1;
    return x->row.offset < y->row.offset ? -1 : x->row.offset > y->row.offset;
}

/* The machine of the owner that the books have for the range. */
static uint32_t machine_of(const Ledger *ledger, const View *view, uint64_t range)
{
    const struct ledger_pages *known = g_hash_table_lookup(view->known_pages, &range);
    struct ledger_owner owner;

    if (!known || ledger_get(ledger, MAP_OWNERS, &known->owner, &owner) < 0)
        return 0;
    return owner.machine;
}

/* Sums ranges up, each page of an address space or file once for `unique`: the ranges come sorted,
 * so that what has been counted of one source is all that lies below a mark. */
static GArray *sum_up(const Ledger *ledger, const View *view)
{
    g_autoptr(GPtrArray) ranges = g_ptr_array_new();
    g_autoptr(GHashTable) places = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    GArray *truths = g_array_new(FALSE, TRUE, sizeof(LedgerTruth));
    uint64_t mapped_mark = 0, pinned_mark = 0;
    const Row *last = NULL;
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, view->ranges);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        g_ptr_array_add(ranges, value);
    g_ptr_array_sort(ranges, compare_ranges);
    for (guint i = 0; i < ranges->len; i++) {
        const Row *row = ranges->pdata[i];
        uint64_t begin = row->row.offset >> LEDGER_PAGE_SHIFT, end = begin + row->row.npages;
        LedgerTruth *truth;

        if (!last || last->context != row->context || last->row.tgid != row->row.tgid ||
            last->row.start != row->row.start) {
            LedgerTruth new = {.context = row->context,
                               .tenant = row->tenant,
                               .machine = machine_of(ledger, view, row->row.address),
                               .pid = row->row.tgid,
                               .start = row->row.start};

            uint64_t place = (uint64_t)row->context << 32 | row->row.tgid;

            g_array_append_val(truths, new);
            g_hash_table_insert(places, g_memdup2(&place, sizeof(place)),
                                GUINT_TO_POINTER(truths->len));
            last = NULL;
        }
        truth = &g_array_index(truths, LedgerTruth, truths->len - 1);
        if (!last || last->row.source != row->row.source)
            mapped_mark = pinned_mark = 0;
        truth->pinned += row->row.pinned;
        truth->charged += row->row.charged;
        truth->mapped += row->row.npages << LEDGER_PAGE_SHIFT;
        if (end > mapped_mark)
            truth->mapped_unique += (end - MAX(begin, mapped_mark)) << LEDGER_PAGE_SHIFT;
        mapped_mark = MAX(mapped_mark, end);
        if (row->row.pinned == row->row.npages) {
            if (end > pinned_mark)
                truth->unique += end - MAX(begin, pinned_mark);
            pinned_mark = MAX(pinned_mark, end);
        } else {
            /* Which of its pages are pinned is not known: none is taken for another's. */
            truth->unique += row->row.pinned;
        }
        last = row;
    }
    for (guint i = 0; i < view->areas->len; i++) {
        const Row *area = &g_array_index(view->areas, Row, i);
        uint64_t place = (uint64_t)area->context << 32 | area->row.tgid;
        guint index = GPOINTER_TO_UINT(g_hash_table_lookup(places, &place));

        if (index)
            g_array_index(truths, LedgerTruth, index - 1).areas++;
    }
    return truths;
}

int ledger_reconcile(Ledger *ledger, LedgerDrift *ret_drift, LedgerTruth **ret_truths,
                     size_t *ret_n)
{
    g_autoptr(View) first = NULL, second = NULL;
    LedgerDrift drift = {0};
    const View *view;
    int r;

    if (!ledger->report.active)
        return -EOPNOTSUPP;
    r = look(ledger, &first);
    if (!r && differs(first)) {
        r = look(ledger, &second);
        if (r)
            return r;
        mend_ranges(ledger, first, second, &drift);
        drop_ranges(ledger, first, second, &drift);
        seed_objects(ledger, first, second, &drift);
        g_clear_pointer(&first, view_free);
        r = look(ledger, &first);
        if (!r)
            complete_contexts(ledger, first);
    }
    if (r)
        return r;
    view = first;
    sweep_books(ledger, view);
    drift.contexts = view->contexts->len;
    drift.ranges = g_hash_table_size(view->ranges);
    if (ret_drift)
        *ret_drift = drift;
    if (ret_truths) {
        GArray *truths = sum_up(ledger, view);

        *ret_n = truths->len;
        *ret_truths = (LedgerTruth *)g_array_free(truths, FALSE);
    }
    return 0;
}
