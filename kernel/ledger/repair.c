/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Making the books what the kernel's own structures say. Every entry is changed in the kernel, and
 * only if it still is what was read here.
 */
#include "kernel/ledger/snapshot.h"

#include <errno.h>
#include <string.h>

static const struct ledger_pages *known_range(const View *view, const Row *row)
{
    return g_hash_table_lookup(view->known_pages, &row->row.address);
}

/* Whether the ledger's entry is about a range that was at the address before. */
static bool is_another(const Row *row, const struct ledger_pages *known)
{
    return known->bytes != row->row.npages << LEDGER_PAGE_SHIFT;
}

/* Whether the ledger has the range otherwise than the kernel. */
static bool range_differs(const View *view, const Row *row)
{
    const struct ledger_pages *known = known_range(view, row);

    return !known || is_another(row, known) || LEDGER_CHARGED(known->charge) != row->row.charged ||
           known->context != row->context || known->tenant != row->tenant;
}

/* The ledger's entry of the same id, if it has one. */
static const struct ledger_object *known_object(const View *view, const Row *row)
{
    const struct ledger_object_key key = {.context = row->context, .id = row->row.id};

    return g_hash_table_lookup(view->known_objects, &key);
}

/* 0: it is not among those that were found. */
static uint64_t context_address(const View *view, uint32_t serial)
{
    for (guint i = 0; i < view->contexts->len; i++)
        if (g_array_index(view->contexts, Context, i).context.id == serial)
            return g_array_index(view->contexts, Context, i).address;
    return 0;
}

/*
 * Whose an object is that the ledger did not see being made: an address space is whose memory is
 * mapped there, a page table goes with its address space, a device is whose file it is.
 */
static void guess_owner(const View *view, const Row *object, struct control_adopt_object *seed)
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

        if (opened->context != context_address(view, object->context) ||
            object->row.type != LEDGER_OBJECT_DEVICE || opened->device != object->row.id)
            continue;
        seed->tgid = opened->tgid;
        seed->start = opened->start;
    }
}

/* Whether the ledger has another object under the id than the kernel, or none, or does not know
 * whose it is and could. An id that the kernel has only reserved is that of an object in the
 * making, or in its last moments. */
static bool object_differs(const View *view, const Row *row)
{
    const struct ledger_object *known = known_object(view, row);
    struct control_adopt_object guess = {};

    if (row->row.kind != LEDGER_RECORD_OBJECT)
        return false;
    if (!known || known->object != row->row.address)
        return true;
    if (!known->owner)
        guess_owner(view, row, &guess);
    return guess.tgid;
}

/* Whether the kernel has nothing where the ledger has an object. */
static bool object_is_gone(const View *view, gconstpointer key)
{
    return !g_hash_table_contains(view->by_id, key);
}

bool view_differs(const View *view)
{
    GHashTableIter iter;
    gpointer key, value;

    if (g_hash_table_size(view->taken) || !view_is_balanced(view))
        return true;
    g_hash_table_iter_init(&iter, view->ranges);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        if (range_differs(view, value))
            return true;
    g_hash_table_iter_init(&iter, view->known_pages);
    while (g_hash_table_iter_next(&iter, &key, NULL))
        if (!g_hash_table_contains(view->ranges, key))
            return true;
    for (guint i = 0; i < view->objects->len; i++)
        if (object_differs(view, &g_array_index(view->objects, Row, i)))
            return true;
    g_hash_table_iter_init(&iter, view->known_objects);
    while (g_hash_table_iter_next(&iter, &key, NULL))
        if (object_is_gone(view, key))
            return true;
    for (guint i = 0; i < view->owners->len; i++) {
        const Count *count = &g_array_index(view->owners, Count, i);

        if (count->objects != count->objects_said || count->pages != count->pages_said)
            return true;
    }
    for (guint i = 0; i < view->contexts->len; i++)
        if (!g_array_index(view->contexts, Context, i).opened)
            return true;
    return view->ended->len;
}

static void count(int r, uint64_t by, LedgerDrift *drift)
{
    if (r) {
        drift->unstable++;
        return;
    }
    drift->repaired++;
    drift->drift += by << LEDGER_PAGE_SHIFT;
}

/* Whether both looks have seen the same difference. */
static bool differed(const View *first, const Row *row, const struct ledger_pages *known)
{
    const Row *before = g_hash_table_lookup(first->ranges, &row->row.address);
    const struct ledger_pages *was = known_range(first, row);

    return before && before->row.charged == row->row.charged &&
           before->row.npages == row->row.npages && before->context == row->context &&
           before->tenant == row->tenant && !was == !known &&
           (!known || was->charge == known->charge);
}

static void drop_range(Ledger *ledger, View *view, uint64_t address,
                       const struct ledger_pages *known, LedgerDrift *drift)
{
    struct control_remove_range args = {.pages = address, .expected_charge = known->charge};
    uint64_t taken = known->charge | LEDGER_CHARGE_TAKEN;
    int r = ledger_run(ledger, CONTROL_REMOVE_RANGE, &args, sizeof(args));

    if (!r)
        g_hash_table_insert(view->taken, g_memdup2(&address, sizeof(address)),
                            g_memdup2(&taken, sizeof(taken)));
    count(r, LEDGER_CHARGED(known->charge), drift);
}

static void mend_ranges(Ledger *ledger, const View *first, View *second, LedgerDrift *drift)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, second->ranges);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Row *row = value;
        const struct ledger_pages *known = known_range(second, row);
        const uint64_t was = known ? LEDGER_CHARGED(known->charge) : 0;
        struct control_set_range args = {
            .pages = row->row.address,
            .bytes = row->row.npages << LEDGER_PAGE_SHIFT,
            .expected_charge = known ? known->charge : 0,
            .charged = row->row.charged,
            .start = row->row.start,
            .tgid = row->row.tgid,
            .context = row->context,
            .tenant = row->tenant,
            .known = known != NULL,
        };

        if (!range_differs(second, row))
            continue;
        if (!differed(first, row, known))
            drift->unstable++;
        else if (known && is_another(row, known))
            /* The range itself is added once the entry is removed. */
            drop_range(ledger, second, args.pages, known, drift);
        else
            count(ledger_run(ledger, CONTROL_SET_RANGE, &args, sizeof(args)),
                  args.charged > was ? args.charged - was : was - args.charged, drift);
    }
}

static bool is_pending(const View *view, const struct ledger_pages *known)
{
    return g_hash_table_contains(view->pending, GUINT_TO_POINTER(known->context));
}

/* Whether both looks have missed the range that the entry is about. */
static bool was_missed(const View *first, const View *second, gconstpointer key,
                       const struct ledger_pages *known)
{
    const struct ledger_pages *before = g_hash_table_lookup(first->known_pages, key);

    /* What is being mapped is counted before the walk can reach it. */
    return before && !g_hash_table_contains(first->ranges, key) && !is_pending(first, known) &&
           !is_pending(second, known) && before->charge == known->charge;
}

/* A range whose end both looks have just been in time for goes out of the books by itself, and is
 * not there any more once all programs have run to their ends. */
static void drop_ranges(Ledger *ledger, const View *first, View *second, LedgerDrift *drift)
{
    bool fenced = false;
    GHashTableIter iter;
    gpointer key, value;

    g_hash_table_iter_init(&iter, second->known_pages);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        const struct ledger_pages *known = value;
        struct ledger_pages now;

        if (g_hash_table_contains(second->ranges, key))
            continue;
        if (!was_missed(first, second, key, known) || (!fenced && ledger_fence(ledger))) {
            drift->unstable++;
            continue;
        }
        fenced = true;
        if (!ledger_get(ledger, MAP_PAGES, key, &now) && now.charge == known->charge)
            drop_range(ledger, second, *(uint64_t *)key, known, drift);
    }
}

/*
 * Removes the entries that are out of the books: those that this look has taken, and what others
 * could not remove. The fence: whoever has found an entry before it was taken is done with it then,
 * and whoever finds it afterwards leaves it alone.
 */
static void remove_taken(Ledger *ledger, View *view, LedgerDrift *drift)
{
    GHashTableIter iter;
    gpointer key, charge;

    if (!g_hash_table_size(view->taken))
        return;
    if (ledger_fence(ledger)) {
        drift->unstable++;
        return;
    }
    g_hash_table_iter_init(&iter, view->taken);
    while (g_hash_table_iter_next(&iter, &key, &charge)) {
        struct ledger_pages range;

        if (!ledger_get(ledger, MAP_PAGES, key, &range) && range.charge == *(uint64_t *)charge)
            ledger_drop(ledger, MAP_PAGES, key);
    }
}

static void free_object(Ledger *ledger, const View *view, const struct ledger_object_key *key,
                        uint64_t object, LedgerDrift *drift)
{
    struct control_remove_object args = {
        .context = key->context,
        .ictx = context_address(view, key->context),
        .id = key->id,
        .object = object,
    };

    count(ledger_run(ledger, CONTROL_REMOVE_OBJECT, &args, sizeof(args)), 0, drift);
}

static void seed_objects(Ledger *ledger, const View *first, const View *second, LedgerDrift *drift)
{
    for (guint i = 0; i < second->objects->len; i++) {
        const Row *row = &g_array_index(second->objects, Row, i), *before;
        const struct ledger_object *known = known_object(second, row);
        const struct ledger_object_key key = {.context = row->context, .id = row->row.id};
        struct control_adopt_object seed = {
            .object = row->row.address,
            .ictx = context_address(second, row->context),
            .context = row->context,
            .id = row->row.id,
            .type = row->row.type,
        };

        if (!object_differs(second, row))
            continue;
        before = g_hash_table_lookup(first->by_id, &key);
        if (!before || before->row.address != row->row.address || !object_differs(first, before)) {
            drift->unstable++;
            continue;
        }
        if (known && known->object != row->row.address)
            free_object(ledger, second, &key, known->object, drift);
        guess_owner(second, row, &seed);
        if (!ledger_run(ledger, CONTROL_ADOPT_OBJECT, &seed, sizeof(seed)))
            drift->adopted++;
    }
}

/* Objects whose end was missed. */
static void free_objects(Ledger *ledger, const View *first, const View *second, LedgerDrift *drift)
{
    GHashTableIter iter;
    gpointer key, value;

    g_hash_table_iter_init(&iter, second->known_objects);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        const struct ledger_object *known = value,
                                   *before = g_hash_table_lookup(first->known_objects, key);

        if (!object_is_gone(second, key))
            continue;
        if (!before || before->object != known->object || !object_is_gone(first, key))
            drift->unstable++;
        else
            free_object(ledger, second, key, known->object, drift);
    }
}

static void close_contexts(Ledger *ledger, const View *first, const View *second,
                           LedgerDrift *drift)
{
    for (guint i = 0; i < second->contexts->len; i++) {
        const Context *context = &g_array_index(second->contexts, Context, i);
        struct control_remove_context args = {.context = context->address,
                                              .id = context->context.id};
        bool before = false;

        for (guint j = 0; !before && j < first->contexts->len && !context->opened; j++) {
            const Context *was = &g_array_index(first->contexts, Context, j);

            before = was->context.id == context->context.id && !was->opened;
        }
        if (before)
            count(ledger_run(ledger, CONTROL_REMOVE_CONTEXT, &args, sizeof(args)), 0, drift);
    }
}

static void bury_ended(Ledger *ledger, const View *first, const View *second, LedgerDrift *drift)
{
    for (guint i = 0; i < second->ended->len; i++) {
        const Ended *process = &g_array_index(second->ended, Ended, i);
        struct control_remove_process args = {.tgid = process->tgid, .start = process->start};
        bool before = false;

        for (guint j = 0; !before && j < first->ended->len; j++)
            before = g_array_index(first->ended, Ended, j).tgid == process->tgid &&
                     g_array_index(first->ended, Ended, j).start == process->start;
        if (before)
            count(ledger_run(ledger, CONTROL_REMOVE_PROCESS, &args, sizeof(args)), 0, drift);
    }
}

static bool same_count(const Count *a, const Count *b)
{
    return a->objects == b->objects && a->objects_said == b->objects_said && a->pages == b->pages &&
           a->pages_said == b->pages_said;
}

/* What owners are said to have. No drift: nothing but an owner's end depends on it. */
static void recount_owners(Ledger *ledger, const View *first, const View *second)
{
    g_autoptr(GHashTable) before = g_hash_table_new(NULL, NULL);

    for (guint i = 0; i < first->owners->len; i++) {
        Count *said = &g_array_index(first->owners, Count, i);

        g_hash_table_insert(before, GUINT_TO_POINTER(said->owner), said);
    }
    for (guint i = 0; i < second->owners->len; i++) {
        const Count *said = &g_array_index(second->owners, Count, i);
        const Count *was = g_hash_table_lookup(before, GUINT_TO_POINTER(said->owner));
        struct control_set_counts args = {
            .owner = said->owner,
            .expected_objects = said->objects_said,
            .objects = said->objects,
            .expected_pages = said->pages_said,
            .pages = said->pages,
        };

        if ((said->objects == said->objects_said && said->pages == said->pages_said) || !was ||
            !same_count(was, said))
            continue;
        ledger_run(ledger, CONTROL_SET_COUNTS, &args, sizeof(args));
    }
}

void view_mend(Ledger *ledger, const View *first, View *second, LedgerDrift *drift)
{
    /* Before entries are mended, which counts them as well. */
    recount_owners(ledger, first, second);
    view_balance(ledger, first, second, drift);
    mend_ranges(ledger, first, second, drift);
    drop_ranges(ledger, first, second, drift);
    remove_taken(ledger, second, drift);
    seed_objects(ledger, first, second, drift);
    free_objects(ledger, first, second, drift);
    close_contexts(ledger, first, second, drift);
    bury_ended(ledger, first, second, drift);
}
