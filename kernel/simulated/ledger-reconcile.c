/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the simulated ledger knows against what there is: what it has missed is found, and repaired.
 */
#include "kernel/simulated/ledger-reconcile.h"

#include "kernel/simulated/iommufd.h"
#include "kernel/simulated/ledger-account.h"
#include "kernel/simulated/ledger-owners.h"

#include <stdlib.h>

typedef struct {
    SimLedger *ledger;
    LedgerDrift drift;
} Reconciliation;

static SimOwner mapper_of(const SimRecord *pages)
{
    return (SimOwner){.pid = pages->pid, .start_time = pages->start_time};
}

/* ---- objects ---- */

static guint owner_hash(const void *key)
{
    const SimOwner *owner = key;
    return (guint)owner->pid * 31 + (guint)owner->start_time;
}

static gboolean owner_same(const void *a, const void *b)
{
    return sim_owner_equal(a, b);
}

/* Who has mapped something: of others it can't be told what they have made. */
static GHashTable *find_mappers(SimTable *table)
{
    GHashTable *mappers = g_hash_table_new_full(owner_hash, owner_same, g_free, NULL);
    for (uint32_t i = 1; i <= table->n_records; i++) {
        SimOwner mapper = mapper_of(&table->records[i]);
        if (table->records[i].kind == SIM_RECORD_PAGES && !g_hash_table_contains(mappers, &mapper))
            g_hash_table_add(mappers, g_memdup2(&mapper, sizeof(mapper)));
    }
    return mappers;
}

static bool object_differs(const SimTable *table, uint32_t id)
{
    const SimObject *object = &table->objects[id];
    const SimKnownObject *known = &table->known_objects[id];
    if (object->type == 0 || known->type == 0)
        return (object->type == 0) != (known->type == 0);
    return !sim_owner_equal(&object->owner, &known->maker);
}

static void reconcile_objects(Reconciliation *self, SimTable *table)
{
    g_autoptr(GHashTable) mappers = NULL;
    uint32_t last = MAX(table->n_objects, table->known.n_objects);
    for (uint32_t id = 1; id <= last; id++) {
        if (!object_differs(table, id))
            continue;
        const SimOwner *maker = &table->objects[id].owner;
        if (table->known_objects[id].type != 0) {
            sim_account_remove_object(self->ledger, table, id);
            self->drift.repaired++;
        }
        if (table->objects[id].type == 0)
            continue;
        if (!mappers)
            mappers = find_mappers(table);
        bool known = sim_process(self->ledger, maker) || g_hash_table_contains(mappers, maker);
        sim_account_add_object(self->ledger, table, id,
                               known ? sim_owner_for(self->ledger, maker) : SIM_OWNER_NONE);
        self->drift.adopted++;
    }
}

/* ---- ranges ---- */

static uint64_t charged_is(const SimTable *table, uint32_t i)
{
    const SimRecord *record = &table->records[i];
    return record->kind == SIM_RECORD_PAGES && record->pinners > 0 ? record->bytes : 0;
}

static bool is_same_range(Reconciliation *self, const SimTable *table, uint32_t i)
{
    const SimRecord *record = &table->records[i];
    const SimKnownRange *known = &table->known_ranges[i];
    if (record->kind != SIM_RECORD_PAGES || !known->known)
        return record->kind != SIM_RECORD_PAGES && !known->known;
    const SimLedgerOwner *owner = sim_owner(self->ledger, known->owner);
    SimOwner mapper = mapper_of(record);
    return known->bytes == record->bytes && known->source == record->source &&
           known->offset == record->offset &&
           (known->owner == SIM_OWNER_SERVICE || !owner ||
            sim_owner_equal(&owner->process, &mapper));
}

static void reconcile_ranges(Reconciliation *self, SimTable *table)
{
    uint32_t last = MAX(table->n_records, table->known.n_ranges);
    for (uint32_t i = 1; i <= last; i++) {
        uint64_t was = table->known_ranges[i].charged, is = charged_is(table, i);
        if (is_same_range(self, table, i)) {
            if (was == is)
                continue;
            sim_account_charge_range(self->ledger, table, i);
        } else {
            sim_account_remove_range(self->ledger, table, i);
            if (table->records[i].kind == SIM_RECORD_PAGES)
                sim_account_add_range(self->ledger, table, i);
        }
        self->drift.repaired++;
        self->drift.drift += was > is ? was - is : is - was;
    }
}

/* ---- all ---- */

static bool visit_reconcile(SimTable *table, void *data)
{
    Reconciliation *self = data;
    (void)sim_account_context(self->ledger, table);
    reconcile_objects(self, table);
    reconcile_ranges(self, table);
    self->drift.contexts++;
    self->drift.ranges += *sim_store_ranges(self->ledger);
    return false;
}

void sim_reconcile(SimLedger *ledger, LedgerDrift *ret_drift)
{
    Reconciliation self = {.ledger = ledger};
    sim_account_settle(ledger);
    sim_account_find_ended(ledger);
    sim_iommufd_refresh();
    sim_iommufd_any(visit_reconcile, &self);
    sim_account_close_idle(ledger);
    self.drift.ranges = *sim_store_ranges(ledger);
    ledger->corrected += self.drift.drift;
    *ret_drift = self.drift;
}

/* ---- measuring ---- */

static int compare_by_source(const void *a, const void *b)
{
    const SimRecord *x = *(SimRecord *const *)a, *y = *(SimRecord *const *)b;
    if (x->pid != y->pid)
        return x->pid < y->pid ? -1 : 1;
    if (x->start_time != y->start_time)
        return x->start_time < y->start_time ? -1 : 1;
    if (x->source != y->source)
        return x->source < y->source ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Ranges come sorted: what has been counted of one source is all that lies below a mark. */
typedef struct {
    const SimRecord *last;
    uint64_t mapped_mark, pinned_mark;
} Marks;

static uint64_t above(uint64_t *mark, uint64_t begin, uint64_t end)
{
    uint64_t bytes = end > *mark ? end - MAX(begin, *mark) : 0;
    *mark = MAX(*mark, end);
    return bytes;
}

static void measure_range(Marks *marks, const SimRecord *pages, LedgerMeasurement *sum)
{
    uint64_t begin = pages->offset, end = begin + pages->bytes;
    if (!marks->last || marks->last->source != pages->source)
        marks->mapped_mark = marks->pinned_mark = 0;
    marks->last = pages;
    sum->mapped += pages->bytes;
    sum->mapped_unique += above(&marks->mapped_mark, begin, end);
    if (pages->pinners == 0)
        return;
    sum->pinned += pages->bytes;
    sum->charged += pages->bytes;
    sum->unique += above(&marks->pinned_mark, begin, end);
}

static bool is_of(const LedgerMeasurement *sum, const SimRecord *pages)
{
    return sum->pid == pages->pid && sum->start == pages->start_time;
}

typedef struct {
    SimLedger *ledger;
    GArray *sums; /* LedgerMeasurement */
} Measuring;

static bool visit_measure(SimTable *table, void *data)
{
    Measuring *self = data;
    g_autoptr(GPtrArray) ranges = g_ptr_array_new();
    Marks marks = {NULL, 0, 0};
    guint first = self->sums->len;
    for (uint32_t i = 1; i <= table->n_records; i++)
        if (table->records[i].kind == SIM_RECORD_PAGES)
            g_ptr_array_add(ranges, &table->records[i]);
    g_ptr_array_sort(ranges, compare_by_source);
    for (guint i = 0; i < ranges->len; i++) {
        const SimRecord *pages = ranges->pdata[i];
        LedgerMeasurement *sum =
            self->sums->len > first
                ? &g_array_index(self->sums, LedgerMeasurement, self->sums->len - 1)
                : NULL;
        if (!sum || !is_of(sum, pages)) {
            const SimKnownRange *known = &table->known_ranges[pages - table->records];
            LedgerMeasurement new = {
                .context = table->known.context_id,
                .tenant = table->known.tenant,
                .machine = sim_owner_machine(self->ledger, known->owner),
                .pid = pages->pid,
                .start = pages->start_time,
            };
            g_array_append_val(self->sums, new);
            sum = &g_array_index(self->sums, LedgerMeasurement, self->sums->len - 1);
            marks.last = NULL;
        }
        measure_range(&marks, pages, sum);
    }
    return false;
}

static int compare_sums(const void *a, const void *b)
{
    const LedgerMeasurement *x = a, *y = b;
    if (x->context != y->context)
        return x->context < y->context ? -1 : 1;
    return x->pid < y->pid ? -1 : x->pid > y->pid;
}

GArray *sim_measure(SimLedger *ledger)
{
    Measuring self = {ledger, g_array_new(FALSE, TRUE, sizeof(LedgerMeasurement))};
    sim_iommufd_any(visit_measure, &self);
    g_array_sort(self.sums, compare_sums);
    return self.sums;
}
