/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sums over a view: what is mapped and pinned, and how much of it more than once. */
#include "kernel/ledger/snapshot.h"

#include <errno.h>
#include <string.h>

static int compare_by_process(const void *a, const void *b)
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

/* Sums in the making, from ranges that come sorted: what has been counted of one source is all that
 * lies below a mark. */
typedef struct {
    GArray *truths;      /* LedgerMeasurement */
    GHashTable *extents; /* context and process -> 1 + its index there */
    const Row *last;
    uint64_t mapped_mark, pinned_mark; /* pages */
} Sum;

static uint64_t place_of(const Row *row)
{
    return (uint64_t)row->context << 32 | row->row.tgid;
}

/* The process's sum, which is the last one. */
static LedgerMeasurement *truth_of(Sum *sum, const Row *row, const View *view, const Ledger *ledger)
{
    const Row *last = sum->last;
    uint64_t place = place_of(row);

    if (!last || last->context != row->context || last->row.tgid != row->row.tgid ||
        last->row.start != row->row.start) {
        const LedgerMeasurement new = {.context = row->context,
                                       .tenant = row->tenant,
                                       .machine = machine_of(ledger, view, row->row.address),
                                       .pid = row->row.tgid,
                                       .start = row->row.start};

        g_array_append_val(sum->truths, new);
        g_hash_table_insert(sum->extents, g_memdup2(&place, sizeof(place)),
                            GUINT_TO_POINTER(sum->truths->len));
        sum->last = NULL;
    }
    return &g_array_index(sum->truths, LedgerMeasurement, sum->truths->len - 1);
}

static void sum_range(Sum *sum, const Row *row, LedgerMeasurement *truth)
{
    uint64_t begin = row->row.offset >> LEDGER_PAGE_SHIFT, end = begin + row->row.npages;

    if (!sum->last || sum->last->row.source != row->row.source)
        sum->mapped_mark = sum->pinned_mark = 0;
    sum->last = row;
    truth->pinned += row->row.pinned << LEDGER_PAGE_SHIFT;
    truth->charged += row->row.charged << LEDGER_PAGE_SHIFT;
    truth->mapped += row->row.npages << LEDGER_PAGE_SHIFT;
    if (end > sum->mapped_mark)
        truth->mapped_unique += (end - MAX(begin, sum->mapped_mark)) << LEDGER_PAGE_SHIFT;
    sum->mapped_mark = MAX(sum->mapped_mark, end);
    if (row->row.pinned != row->row.npages) {
        /* Which of its pages are pinned is not known: none is taken for another's. */
        truth->unique += row->row.pinned << LEDGER_PAGE_SHIFT;
        return;
    }
    if (end > sum->pinned_mark)
        truth->unique += (end - MAX(begin, sum->pinned_mark)) << LEDGER_PAGE_SHIFT;
    sum->pinned_mark = MAX(sum->pinned_mark, end);
}

GArray *view_sum_up(const View *view, const Ledger *ledger)
{
    g_autoptr(GPtrArray) ranges = g_ptr_array_new();
    g_autoptr(GHashTable) extents =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    Sum sum = {.truths = g_array_new(FALSE, TRUE, sizeof(LedgerMeasurement)), .extents = extents};
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, view->ranges);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        g_ptr_array_add(ranges, value);
    g_ptr_array_sort(ranges, compare_by_process);
    for (guint i = 0; i < ranges->len; i++) {
        const Row *row = ranges->pdata[i];

        sum_range(&sum, row, truth_of(&sum, row, view, ledger));
    }
    for (guint i = 0; i < view->areas->len; i++) {
        uint64_t place = place_of(&g_array_index(view->areas, Row, i));
        guint index = GPOINTER_TO_UINT(g_hash_table_lookup(extents, &place));

        if (index)
            g_array_index(sum.truths, LedgerMeasurement, index - 1).areas++;
    }
    return sum.truths;
}

static int compare_by_tenant(const void *a, const void *b)
{
    const Row *x = *(Row *const *)a, *y = *(Row *const *)b;

    if (x->tenant != y->tenant)
        return x->tenant < y->tenant ? -1 : 1;
    if (x->row.source != y->row.source)
        return x->row.source < y->row.source ? -1 : 1;
    return x->row.offset < y->row.offset ? -1 : x->row.offset > y->row.offset;
}

/* Of one tenant: what counts against its limit, and what there is. */
typedef struct {
    const struct ledger_tenant *before;
    uint64_t mapped;
    uint64_t counted;
    uint64_t unique;
    uint64_t source; /* of the last range, */
    uint64_t mark;   /* and the page up to which it has been added */
    GHashTable *extents;
} Credit;

static void add_range(Credit *credit, const Row *row, const struct ledger_pages *known)
{
    uint64_t begin = row->row.offset >> LEDGER_PAGE_SHIFT, end = begin + row->row.npages;

    if (credit->source != row->row.source)
        credit->mark = 0;
    credit->source = row->row.source;
    if (end > credit->mark)
        credit->unique += (end - MAX(begin, credit->mark)) << LEDGER_PAGE_SHIFT;
    credit->mark = MAX(credit->mark, end);
    credit->mapped += known->bytes;
    /* Those that hold one place count once. */
    if (!known->extent || g_hash_table_add(credit->extents, GUINT_TO_POINTER(known->extent)))
        credit->counted += known->bytes;
}

/*
 * Too little credit harms nobody, and the next walk comes: when something was given back since the
 * view began, the kernel does not take it. What was put at an address after it was mapped looks the
 * same: no more copies than the kernel itself takes for the same memory are.
 */
static void end_credit(Credit *credit, const Ledger *ledger, uint32_t tenant)
{
    struct control_set_dedup_credit args = {.tenant = tenant};
    uint64_t unique;

    if (credit->before && credit->before->count == LEDGER_COUNT_UNIQUE) {
        unique = MAX(credit->unique, credit->mapped / LEDGER_EXTENT_MAX_REFS);
        args.expected_releases = credit->before->releases;
        args.credit = credit->counted > unique ? credit->counted - unique : 0;
        ledger_run(ledger, CONTROL_SET_DEDUP_CREDIT, &args, sizeof(args));
    }
    g_hash_table_remove_all(credit->extents);
    *credit = (Credit){.extents = credit->extents};
}

void view_give_credit(const View *view, const Ledger *ledger)
{
    g_autoptr(GPtrArray) ranges = g_ptr_array_new();
    g_autoptr(GHashTable) extents = g_hash_table_new(NULL, NULL);
    Credit credit = {.extents = extents};
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, view->ranges);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        g_ptr_array_add(ranges, value);
    g_ptr_array_sort(ranges, compare_by_tenant);
    for (guint i = 0; i < ranges->len; i++) {
        const Row *row = ranges->pdata[i],
                  *next = i + 1 < ranges->len ? ranges->pdata[i + 1] : NULL;
        const struct ledger_pages *known =
            g_hash_table_lookup(view->known_pages, &row->row.address);

        credit.before = g_hash_table_lookup(view->tenants, GUINT_TO_POINTER(row->tenant));
        if (known && known->tenant == row->tenant)
            add_range(&credit, row, known);
        if (!next || next->tenant != row->tenant)
            end_credit(&credit, ledger, row->tenant);
    }
}
