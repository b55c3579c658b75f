/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/ledger/audit/measure.h"

static int compare_u64(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

/* Of one source, by where they begin in it. */
static int compare_in_source(const WalkRecord *x, const WalkRecord *y)
{
    if (x->record.source != y->record.source)
        return compare_u64(x->record.source, y->record.source);
    return compare_u64(x->record.offset, y->record.offset);
}

static int compare_by_process(const void *a, const void *b)
{
    const WalkRecord *x = *(WalkRecord *const *)a, *y = *(WalkRecord *const *)b;

    if (x->context != y->context)
        return compare_u64(x->context, y->context);
    if (x->record.tgid != y->record.tgid)
        return compare_u64(x->record.tgid, y->record.tgid);
    if (x->record.start != y->record.start)
        return compare_u64(x->record.start, y->record.start);
    return compare_in_source(x, y);
}

static int compare_by_tenant(const void *a, const void *b)
{
    const WalkRecord *x = *(WalkRecord *const *)a, *y = *(WalkRecord *const *)b;

    if (x->tenant != y->tenant)
        return compare_u64(x->tenant, y->tenant);
    return compare_in_source(x, y);
}

static GPtrArray *sorted_ranges(const Snapshot *snapshot, GCompareFunc compare)
{
    GPtrArray *ranges = g_ptr_array_new();
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, snapshot->ranges);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        g_ptr_array_add(ranges, value);
    g_ptr_array_sort(ranges, compare);
    return ranges;
}

/* The pages of a source that have been counted: all that lie below an end, since ranges come sorted
 * by where they begin. */
typedef struct {
    uint64_t source;
    uint64_t end;
    bool begun;
} Counted;

/* How many of the range's pages have not been counted; they are now. */
static uint64_t count_pages(Counted *counted, const struct ledger_record *record)
{
    uint64_t begin = record->offset >> LEDGER_PAGE_SHIFT, end = begin + record->npages, pages = 0;

    if (!counted->begun || counted->source != record->source)
        *counted = (Counted){.source = record->source, .begun = true};
    if (end > counted->end)
        pages = end - MAX(begin, counted->end);
    counted->end = MAX(counted->end, end);
    return pages;
}

/* ---- by process ---- */

/* The machine of the owner that the ledger has for the range. */
static uint32_t machine_of(const Snapshot *snapshot, uint64_t range)
{
    const struct ledger_pages *recorded = snapshot_recorded_range(snapshot, range);
    const OwnerCount *owner =
        recorded ? g_hash_table_lookup(snapshot->by_owner, GUINT_TO_POINTER(recorded->owner))
                 : NULL;

    return owner ? owner->machine : 0;
}

/* Measurements in the making, from ranges that come sorted. */
typedef struct {
    const Snapshot *snapshot;
    GArray *measurements; /* LedgerMeasurement */
    const WalkRecord *last;
    Counted mapped, pinned;
} Sum;

static bool same_process(const WalkRecord *a, const WalkRecord *b)
{
    return a->context == b->context && a->record.tgid == b->record.tgid &&
           a->record.start == b->record.start;
}

/* The process's sum, which is the last one. */
static LedgerMeasurement *measurement_of(Sum *sum, const WalkRecord *range)
{
    if (!sum->last || !same_process(sum->last, range)) {
        const LedgerMeasurement new = {
            .context = range->context,
            .tenant = range->tenant,
            .machine = machine_of(sum->snapshot, range->record.address),
            .pid = (pid_t)range->record.tgid,
            .start = range->record.start,
        };

        g_array_append_val(sum->measurements, new);
        sum->mapped = sum->pinned = (Counted){0};
    }
    sum->last = range;
    return &g_array_index(sum->measurements, LedgerMeasurement, sum->measurements->len - 1);
}

static void sum_range(Sum *sum, const WalkRecord *range)
{
    const struct ledger_record *record = &range->record;
    LedgerMeasurement *measurement = measurement_of(sum, range);

    measurement->pinned += record->pinned << LEDGER_PAGE_SHIFT;
    measurement->charged += record->charged << LEDGER_PAGE_SHIFT;
    measurement->mapped += record->npages << LEDGER_PAGE_SHIFT;
    measurement->mapped_unique += count_pages(&sum->mapped, record) << LEDGER_PAGE_SHIFT;
    /* Which pages of a range are pinned is not known if not all are: then none of them is taken to
     * be another range's, too. */
    measurement->unique +=
        (record->pinned == record->npages ? count_pages(&sum->pinned, record) : record->pinned)
        << LEDGER_PAGE_SHIFT;
}

GArray *snapshot_measure(const Snapshot *snapshot)
{
    g_autoptr(GPtrArray) ranges = sorted_ranges(snapshot, compare_by_process);
    Sum sum = {.snapshot = snapshot,
               .measurements = g_array_new(FALSE, TRUE, sizeof(LedgerMeasurement))};

    for (guint i = 0; i < ranges->len; i++)
        sum_range(&sum, ranges->pdata[i]);
    return sum.measurements;
}

/* ---- by tenant ---- */

/* What counts against a tenant's limit, and what there is. */
typedef struct {
    uint64_t mapped;  /* bytes, each mapping for itself */
    uint64_t charged; /* bytes that count: those of an extent once */
    uint64_t unique;
    Counted counted;
    GHashTable *extents; /* those that have been added */
} TenantSum;

static void sum_tenant_range(TenantSum *sum, const WalkRecord *range,
                             const struct ledger_pages *recorded)
{
    uint32_t extent = LEDGER_SHARE_EXTENT(recorded->share);

    sum->unique += count_pages(&sum->counted, &range->record) << LEDGER_PAGE_SHIFT;
    sum->mapped += recorded->bytes;
    if (!extent || g_hash_table_add(sum->extents, GUINT_TO_POINTER(extent)))
        sum->charged += recorded->bytes;
}

/*
 * Too little credit only refuses too much, until the next reconciliation; one that is older than
 * the last release the kernel does not take. What was put at an address after it was mapped looks
 * the same: no more copies than the kernel itself counts once are taken for the same memory.
 */
static void add_credit(GArray *credits, const Snapshot *snapshot, const TenantSum *sum, uint32_t id)
{
    const struct ledger_tenant *tenant =
        g_hash_table_lookup(snapshot->tenants, GUINT_TO_POINTER(id));
    uint64_t unique = MAX(sum->unique, sum->mapped / LEDGER_EXTENT_MAX_REFS);

    if (!tenant || tenant->count != LEDGER_COUNT_UNIQUE)
        return;

    const struct control_set_dedup_credit credit = {
        .credit = sum->charged > unique ? (int64_t)(sum->charged - unique) : 0,
        .expected_releases = tenant->releases,
        .tenant = id,
    };
    g_array_append_val(credits, credit);
}

GArray *snapshot_dedup_credits(const Snapshot *snapshot)
{
    g_autoptr(GPtrArray) ranges = sorted_ranges(snapshot, compare_by_tenant);
    g_autoptr(GHashTable) extents = g_hash_table_new(NULL, NULL);
    GArray *credits = g_array_new(FALSE, FALSE, sizeof(struct control_set_dedup_credit));
    TenantSum sum = {.extents = extents};

    for (guint i = 0; i < ranges->len; i++) {
        const WalkRecord *range = ranges->pdata[i];
        const WalkRecord *next = i + 1 < ranges->len ? ranges->pdata[i + 1] : NULL;
        const struct ledger_pages *recorded =
            snapshot_recorded_range(snapshot, range->record.address);

        if (recorded && recorded->tenant == range->tenant)
            sum_tenant_range(&sum, range, recorded);
        if (next && next->tenant == range->tenant)
            continue;
        add_credit(credits, snapshot, &sum, range->tenant);
        g_hash_table_remove_all(extents);
        sum = (TenantSum){.extents = extents};
    }
    return credits;
}
