/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/ledger/audit/repair.h"

typedef struct {
    const Snapshot *first, *second;
    GArray *repairs;
    uint64_t unstable;
} Plan;

static void add(Plan *plan, const Repair *repair)
{
    g_array_append_vals(plan->repairs, repair, 1);
}

/* ---- sums: one that moves between the snapshots is left alone, and is not unstable ---- */

static bool same_count(const OwnerCount *a, const OwnerCount *b)
{
    return a->objects == b->objects && a->recorded_objects == b->recorded_objects &&
           a->pages == b->pages && a->recorded_pages == b->recorded_pages;
}

/* Their drift is 0: no figure depends on these counts, only whether an owner's entry can go. */
static void plan_counts(Plan *plan)
{
    for (guint i = 0; i < plan->second->owners->len; i++) {
        const OwnerCount *count = &g_array_index(plan->second->owners, OwnerCount, i);
        const OwnerCount *before =
            g_hash_table_lookup(plan->first->by_owner, GUINT_TO_POINTER(count->owner));
        const Repair repair = {.kind = REPAIR_SET_COUNTS,
                               .set_counts = {
                                   .owner = count->owner,
                                   .expected_objects = count->recorded_objects,
                                   .objects = count->objects,
                                   .expected_pages = count->recorded_pages,
                                   .pages = count->pages,
                               }};

        if ((count->objects != count->recorded_objects || count->pages != count->recorded_pages) &&
            before && same_count(before, count))
            add(plan, &repair);
    }
}

static bool same_total(const Total *a, const Total *b)
{
    return a->moves == b->moves && a->recorded_pinned == b->recorded_pinned &&
           a->pinned == b->pinned && a->recorded_mapped == b->recorded_mapped &&
           a->mapped == b->mapped;
}

static void plan_totals(Plan *plan)
{
    GHashTableIter iter;
    gpointer key;

    g_hash_table_iter_init(&iter, plan->second->totals);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        const Total *total = key, *before = g_hash_table_lookup(plan->first->totals, total);
        const Repair repair = {
            .kind = REPAIR_SET_TOTALS,
            .drift = total->tenant ? 0 : (uint64_t)ABS(total->pinned - total->recorded_pinned),
            .set_totals = {
                .expected_moves = total->moves,
                .expected_pinned = total->recorded_pinned,
                .pinned = total->pinned,
                .expected_mapped = total->recorded_mapped,
                .mapped = total->mapped,
                .context = total->account.context,
                .owner = total->account.owner,
                .tenant = total->tenant,
            }};

        if (!total_is_right(total) && before && same_total(before, total))
            add(plan, &repair);
    }
}

/* ---- ranges ---- */

/* Whether the ledger's entry is about a range that was at the address before. */
static bool is_another(const WalkRecord *area, const struct ledger_pages *recorded)
{
    return recorded->bytes != area->record.npages << LEDGER_PAGE_SHIFT;
}

static bool range_differs(const WalkRecord *area, const struct ledger_pages *recorded)
{
    return !recorded || is_another(area, recorded) ||
           LEDGER_CHARGED(recorded->charge) != area->record.charged ||
           recorded->context != area->context || recorded->tenant != area->tenant;
}

/* Whether the first snapshot has the same difference. */
static bool range_differed(const Snapshot *first, const WalkRecord *area,
                           const struct ledger_pages *recorded)
{
    const WalkRecord *before = g_hash_table_lookup(first->ranges, &area->record.address);
    const struct ledger_pages *was = snapshot_recorded_range(first, area->record.address);

    return before && before->record.charged == area->record.charged &&
           before->record.npages == area->record.npages && before->context == area->context &&
           before->tenant == area->tenant && !was == !recorded &&
           (!recorded || was->charge == recorded->charge);
}

static Repair remove_range(uint64_t address, const struct ledger_pages *recorded)
{
    return (Repair){.kind = REPAIR_REMOVE_RANGE,
                    .drift = LEDGER_CHARGED(recorded->charge),
                    .remove_range = {.pages = address, .expected_charge = recorded->charge}};
}

static Repair set_range(const WalkRecord *area, const struct ledger_pages *recorded)
{
    const struct ledger_record *record = &area->record;
    uint64_t was = recorded ? LEDGER_CHARGED(recorded->charge) : 0;

    return (Repair){.kind = REPAIR_SET_RANGE,
                    .drift = record->charged > was ? record->charged - was : was - record->charged,
                    .set_range = {
                        .pages = record->address,
                        .bytes = record->npages << LEDGER_PAGE_SHIFT,
                        .expected_charge = recorded ? recorded->charge : 0,
                        .charged = record->charged,
                        .start = record->start,
                        .tgid = record->tgid,
                        .context = area->context,
                        .tenant = area->tenant,
                        .known = recorded != NULL,
                    }};
}

/* Ranges that the kernel has, and the ledger has not, or otherwise. */
static void plan_ranges(Plan *plan)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, plan->second->ranges);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const WalkRecord *area = value;
        const struct ledger_pages *recorded =
            snapshot_recorded_range(plan->second, area->record.address);
        Repair repair;

        if (!range_differs(area, recorded))
            continue;
        if (!range_differed(plan->first, area, recorded)) {
            plan->unstable++;
            continue;
        }
        /* The range itself is added by a later reconciliation, when the entry is gone. */
        repair = recorded && is_another(area, recorded)
                     ? remove_range(area->record.address, recorded)
                     : set_range(area, recorded);
        add(plan, &repair);
    }
}

static bool is_pending(const Snapshot *snapshot, const struct ledger_pages *recorded)
{
    return g_hash_table_contains(snapshot->pending, GUINT_TO_POINTER(recorded->context));
}

/* Whether both snapshots have missed the range of the entry. One that is being mapped has its entry
 * before the walk can reach it. */
static bool was_missed(const Plan *plan, gconstpointer address, const struct ledger_pages *recorded)
{
    const struct ledger_pages *before = g_hash_table_lookup(plan->first->recorded_ranges, address);

    return before && before->charge == recorded->charge &&
           !g_hash_table_contains(plan->first->ranges, address) &&
           !is_pending(plan->first, recorded) && !is_pending(plan->second, recorded);
}

/* Entries of ranges that the kernel has not. */
static void plan_gone_ranges(Plan *plan)
{
    GHashTableIter iter;
    gpointer address, value;

    g_hash_table_iter_init(&iter, plan->second->recorded_ranges);
    while (g_hash_table_iter_next(&iter, &address, &value)) {
        Repair repair = remove_range(*(uint64_t *)address, value);

        repair.may_end_by_itself = true;
        if (g_hash_table_contains(plan->second->ranges, address))
            continue;
        if (was_missed(plan, address, value))
            add(plan, &repair);
        else
            plan->unstable++;
    }
}

/* Entries that are out of all sums, and that nobody could remove. */
static void plan_taken(Plan *plan)
{
    GHashTableIter iter;
    gpointer address, charge;

    g_hash_table_iter_init(&iter, plan->second->taken);
    while (g_hash_table_iter_next(&iter, &address, &charge)) {
        const Repair repair = {.kind = REPAIR_DELETE_ENTRY,
                               .remove_range = {.pages = *(uint64_t *)address,
                                                .expected_charge = *(uint64_t *)charge}};

        add(plan, &repair);
    }
}

/* ---- objects ---- */

/*
 * Whose an object is that the ledger did not see being made: an address space belongs to who has
 * mapped its memory there, a page table goes with its address space, a device belongs to who has
 * its file. 0: it can't be told.
 */
static uint32_t guess_owner(const Snapshot *snapshot, const WalkRecord *object, uint64_t *ret_start)
{
    const struct ledger_record *record = &object->record;
    const struct ledger_object_key key = {
        .context = object->context,
        .id = record->type == LEDGER_OBJECT_HWPT_PAGING ? record->under : record->id,
    };

    if (record->type == LEDGER_OBJECT_DEVICE) {
        const struct ledger_opened *file = g_hash_table_lookup(snapshot->opened_device, &key);

        *ret_start = file ? file->start : 0;
        return file ? file->tgid : 0;
    }
    const WalkRecord *area = g_hash_table_lookup(snapshot->mapped_into, &key);
    *ret_start = area ? area->record.start : 0;
    return area ? area->record.tgid : 0;
}

/* Whether the ledger has another object under the id than the kernel, or none, or does not know
 * whose it is and could. An id that the kernel has only reserved is that of an object in the
 * making, or in its last moments. */
static bool object_differs(const Snapshot *snapshot, const WalkRecord *object)
{
    const struct ledger_object *recorded =
        snapshot_recorded_object(snapshot, object->context, object->record.id);
    uint64_t start;

    if (object->record.kind != LEDGER_RECORD_OBJECT)
        return false;
    if (!recorded || recorded->object != object->record.address)
        return true;
    return !recorded->owner && guess_owner(snapshot, object, &start);
}

static Repair remove_object(const Snapshot *snapshot, const struct ledger_object_key *key,
                            uint64_t object)
{
    return (Repair){.kind = REPAIR_REMOVE_OBJECT,
                    .remove_object = {
                        .object = object,
                        .ictx = snapshot_context_address(snapshot, key->context),
                        .context = key->context,
                        .id = key->id,
                    }};
}

static Repair adopt_object(const Snapshot *snapshot, const WalkRecord *object)
{
    Repair repair = {.kind = REPAIR_ADOPT_OBJECT,
                     .adopt_object = {
                         .object = object->record.address,
                         .ictx = snapshot_context_address(snapshot, object->context),
                         .context = object->context,
                         .id = object->record.id,
                         .type = object->record.type,
                     }};
    uint64_t start;

    repair.adopt_object.tgid = guess_owner(snapshot, object, &start);
    repair.adopt_object.start = start;
    return repair;
}

static bool object_differed(const Snapshot *first, const WalkRecord *object)
{
    const struct ledger_object_key key = {.context = object->context, .id = object->record.id};
    const WalkRecord *before = g_hash_table_lookup(first->by_id, &key);

    return before && before->record.address == object->record.address &&
           object_differs(first, before);
}

/* Objects that the kernel has, and the ledger has not, or another under their id. */
static void plan_objects(Plan *plan)
{
    for (guint i = 0; i < plan->second->objects->len; i++) {
        const WalkRecord *object = &g_array_index(plan->second->objects, WalkRecord, i);
        const struct ledger_object_key key = {.context = object->context, .id = object->record.id};
        const struct ledger_object *recorded =
            snapshot_recorded_object(plan->second, key.context, key.id);

        if (!object_differs(plan->second, object))
            continue;
        if (!object_differed(plan->first, object)) {
            plan->unstable++;
            continue;
        }
        if (recorded && recorded->object != object->record.address) {
            const Repair older = remove_object(plan->second, &key, recorded->object);

            add(plan, &older);
        }
        const Repair repair = adopt_object(plan->second, object);
        add(plan, &repair);
    }
}

/* Objects whose end was missed. */
static void plan_gone_objects(Plan *plan)
{
    GHashTableIter iter;
    gpointer key, value;

    g_hash_table_iter_init(&iter, plan->second->recorded_objects);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        const struct ledger_object *recorded = value;
        const struct ledger_object *before =
            g_hash_table_lookup(plan->first->recorded_objects, key);
        const Repair repair = remove_object(plan->second, key, recorded->object);

        if (g_hash_table_contains(plan->second->by_id, key))
            continue;
        if (before && before->object == recorded->object &&
            !g_hash_table_contains(plan->first->by_id, key))
            add(plan, &repair);
        else
            plan->unstable++;
    }
}

/* ---- contexts and processes ---- */

static void plan_contexts(Plan *plan)
{
    for (guint i = 0; i < plan->second->contexts->len; i++) {
        const Context *context = &g_array_index(plan->second->contexts, Context, i);
        const Context *before =
            g_hash_table_lookup(plan->first->by_context, GUINT_TO_POINTER(context->context.id));
        const Repair repair = {
            .kind = REPAIR_REMOVE_CONTEXT,
            .remove_context = {.context = context->address, .id = context->context.id}};

        if (!context->opened && before && !before->opened)
            add(plan, &repair);
    }
}

static bool has_ended(const Snapshot *snapshot, const EndedProcess *process)
{
    for (guint i = 0; i < snapshot->ended->len; i++) {
        const EndedProcess *other = &g_array_index(snapshot->ended, EndedProcess, i);

        if (other->tgid == process->tgid && other->start == process->start)
            return true;
    }
    return false;
}

static void plan_processes(Plan *plan)
{
    for (guint i = 0; i < plan->second->ended->len; i++) {
        const EndedProcess *process = &g_array_index(plan->second->ended, EndedProcess, i);
        const Repair repair = {.kind = REPAIR_REMOVE_PROCESS,
                               .remove_process = {.start = process->start, .tgid = process->tgid}};

        if (has_ended(plan->first, process))
            add(plan, &repair);
    }
}

GArray *repairs_plan(const Snapshot *first, const Snapshot *second, uint64_t *ret_unstable)
{
    Plan plan = {
        .first = first, .second = second, .repairs = g_array_new(FALSE, FALSE, sizeof(Repair))};

    /* The sums first: the repairs of entries change them, and their counters of moves. */
    plan_counts(&plan);
    plan_totals(&plan);
    plan_ranges(&plan);
    plan_gone_ranges(&plan);
    plan_taken(&plan);
    plan_objects(&plan);
    plan_gone_objects(&plan);
    plan_contexts(&plan);
    plan_processes(&plan);
    *ret_unstable = plan.unstable;
    return plan.repairs;
}

bool snapshot_differs(const Snapshot *snapshot)
{
    uint64_t unstable;
    g_autoptr(GArray) repairs = repairs_plan(snapshot, snapshot, &unstable);

    return repairs->len || unstable;
}
