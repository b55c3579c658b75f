/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reconciling the books with the kernel's own structures, and what these say in sum. */
#include "kernel/ledger-view.h"

#include <errno.h>
#include <string.h>

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

/* Tenants to whom something was lost, with the number of losses: before the first look. */
static int note_loss(const void *key, const void *value, void *data)
{
    const struct ledger_tenant *tenant = value;
    struct ledger_settle loss = {.tenant = *(const uint32_t *)key, .losses = tenant->losses};

    if (tenant->unsettled)
        g_array_append_val((GArray *)data, loss);
    return 0;
}

/* What no range has turned up for is given back; not while ranges are moving. */
static void settle_losses(Ledger *ledger, GArray *losses, const LedgerDrift *drift)
{
    for (guint i = 0; i < losses->len && !drift->unstable; i++)
        ledger_run(ledger, CONTROL_SETTLE, &g_array_index(losses, struct ledger_settle, i),
                   sizeof(struct ledger_settle));
}

int ledger_reconcile(Ledger *ledger, LedgerDrift *ret_drift, LedgerTruth **ret_truths,
                     size_t *ret_n)
{
    g_autoptr(GArray) losses = g_array_new(FALSE, FALSE, sizeof(struct ledger_settle));
    g_autoptr(View) first = NULL, second = NULL;
    LedgerDrift drift = {0};
    const View *view;
    int r;

    if (!ledger->report.active)
        return -EOPNOTSUPP;
    r = ledger_each(ledger, MAP_TENANTS, note_loss, losses);
    if (!r)
        r = view_take(ledger, &first);
    if (!r && view_differs(first)) {
        r = view_take(ledger, &second);
        if (r)
            return r;
        view_mend(ledger, first, second, &drift);
        g_clear_pointer(&first, view_free);
        r = view_take(ledger, &first);
    }
    if (r)
        return r;
    view = first;
    settle_losses(ledger, losses, &drift);
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
