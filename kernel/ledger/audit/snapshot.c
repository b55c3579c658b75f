/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/ledger/audit/snapshot.h"

static guint hash_total(gconstpointer key)
{
    const Total *total = key;

    return total->account.owner * 31 + total->account.context * 17 + total->tenant;
}

static gboolean same_total(gconstpointer a, gconstpointer b)
{
    const Total *x = a, *y = b;

    return x->account.owner == y->account.owner && x->account.context == y->account.context &&
           x->tenant == y->tenant;
}

/* Keys of 64 bits, which may be addresses or struct ledger_object_key. */
static GHashTable *new_table(GDestroyNotify free_value)
{
    return g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, free_value);
}

G_STATIC_ASSERT(sizeof(struct ledger_object_key) == sizeof(gint64));

Snapshot *snapshot_new(void)
{
    Snapshot *snapshot = g_new0(Snapshot, 1);

    snapshot->tenants = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    snapshot->totals = g_hash_table_new_full(hash_total, same_total, g_free, NULL);
    snapshot->opened = g_array_new(FALSE, FALSE, sizeof(struct ledger_opened));
    snapshot->contexts = g_array_new(FALSE, FALSE, sizeof(Context));
    snapshot->objects = g_array_new(FALSE, FALSE, sizeof(WalkRecord));
    snapshot->areas = g_array_new(FALSE, FALSE, sizeof(WalkRecord));
    snapshot->pending = g_hash_table_new(NULL, NULL);
    snapshot->recorded_objects = new_table(g_free);
    snapshot->recorded_ranges = new_table(g_free);
    snapshot->taken = new_table(g_free);
    snapshot->ended = g_array_new(FALSE, FALSE, sizeof(EndedProcess));
    snapshot->owners = g_array_new(FALSE, FALSE, sizeof(OwnerCount));
    snapshot->ranges = g_hash_table_new(g_int64_hash, g_int64_equal);
    snapshot->by_id = new_table(NULL);
    snapshot->by_context = g_hash_table_new(NULL, NULL);
    snapshot->by_owner = g_hash_table_new(NULL, NULL);
    snapshot->mapped_into = new_table(NULL);
    snapshot->opened_device = new_table(NULL);
    return snapshot;
}

void snapshot_free(Snapshot *snapshot)
{
    if (!snapshot)
        return;

    GHashTable *const tables[] = {
        snapshot->tenants,          snapshot->totals,          snapshot->pending,
        snapshot->recorded_objects, snapshot->recorded_ranges, snapshot->taken,
        snapshot->ranges,           snapshot->by_id,           snapshot->by_context,
        snapshot->by_owner,         snapshot->mapped_into,     snapshot->opened_device,
    };
    GArray *const arrays[] = {snapshot->opened, snapshot->contexts, snapshot->objects,
                              snapshot->areas,  snapshot->ended,    snapshot->owners};
    for (size_t i = 0; i < G_N_ELEMENTS(tables); i++)
        g_hash_table_unref(tables[i]);
    for (size_t i = 0; i < G_N_ELEMENTS(arrays); i++)
        g_array_unref(arrays[i]);
    g_free(snapshot);
}

void snapshot_add_tenant(Snapshot *snapshot, uint32_t id, const struct ledger_tenant *tenant)
{
    const Total total = {.tenant = id, .moves = tenant->moves, .recorded_pinned = tenant->pinned};

    g_hash_table_insert(snapshot->tenants, GUINT_TO_POINTER(id),
                        g_memdup2(tenant, sizeof(*tenant)));
    g_hash_table_add(snapshot->totals, g_memdup2(&total, sizeof(total)));
}

void snapshot_add_account(Snapshot *snapshot, const struct ledger_account_key *key,
                          const struct ledger_account *account)
{
    const Total total = {.account = *key,
                         .moves = account->moves,
                         .recorded_pinned = account->pinned,
                         .recorded_mapped = account->mapped};

    g_hash_table_add(snapshot->totals, g_memdup2(&total, sizeof(total)));
}

void snapshot_add_record(Snapshot *snapshot, const struct ledger_context *context,
                         const struct ledger_record *record)
{
    const WalkRecord entry = {.context = context->id, .tenant = context->tenant, .record = *record};

    if (record->kind == LEDGER_RECORD_OBJECT || record->kind == LEDGER_RECORD_RESERVED)
        g_array_append_val(snapshot->objects, entry);
    else if (record->kind == LEDGER_RECORD_AREA)
        g_array_append_val(snapshot->areas, entry);
    else if (record->kind == LEDGER_RECORD_PENDING)
        g_hash_table_add(snapshot->pending, GUINT_TO_POINTER(context->id));
}

void snapshot_add_object(Snapshot *snapshot, const struct ledger_object_key *key,
                         const struct ledger_object *object)
{
    if (object->object)
        g_hash_table_insert(snapshot->recorded_objects, g_memdup2(key, sizeof(*key)),
                            g_memdup2(object, sizeof(*object)));
}

void snapshot_add_range(Snapshot *snapshot, uint64_t address, const struct ledger_pages *range)
{
    if (LEDGER_IS_TAKEN(range->charge))
        g_hash_table_insert(snapshot->taken, g_memdup2(&address, sizeof(address)),
                            g_memdup2(&range->charge, sizeof(range->charge)));
    else
        g_hash_table_insert(snapshot->recorded_ranges, g_memdup2(&address, sizeof(address)),
                            g_memdup2(range, sizeof(*range)));
}

void snapshot_add_owner(Snapshot *snapshot, uint32_t id, const struct ledger_owner *owner)
{
    const OwnerCount count = {.owner = id,
                              .machine = owner->machine,
                              .recorded_objects = owner->objects,
                              .recorded_pages = owner->pages};

    g_array_append_val(snapshot->owners, count);
}

void snapshot_mark_opened(Snapshot *snapshot)
{
    g_autoptr(GHashTable) opened = g_hash_table_new(g_int64_hash, g_int64_equal);

    for (guint i = 0; i < snapshot->opened->len; i++)
        g_hash_table_add(opened, &g_array_index(snapshot->opened, struct ledger_opened, i).context);
    for (guint i = 0; i < snapshot->contexts->len; i++) {
        Context *context = &g_array_index(snapshot->contexts, Context, i);

        context->opened = g_hash_table_contains(opened, &context->address);
    }
}

/* The first of several stays. */
static void insert_first(GHashTable *table, uint32_t context, uint32_t id, gpointer value)
{
    const struct ledger_object_key key = {.context = context, .id = id};

    if (!g_hash_table_contains(table, &key))
        g_hash_table_insert(table, g_memdup2(&key, sizeof(key)), value);
}

static void index_contexts(Snapshot *snapshot)
{
    g_autoptr(GHashTable) by_address = g_hash_table_new(g_int64_hash, g_int64_equal);

    for (guint i = 0; i < snapshot->contexts->len; i++) {
        Context *context = &g_array_index(snapshot->contexts, Context, i);

        g_hash_table_insert(snapshot->by_context, GUINT_TO_POINTER(context->context.id), context);
        g_hash_table_insert(by_address, &context->address, context);
    }
    for (guint i = 0; i < snapshot->opened->len; i++) {
        struct ledger_opened *file = &g_array_index(snapshot->opened, struct ledger_opened, i);
        const Context *context = g_hash_table_lookup(by_address, &file->context);

        if (context && file->device)
            insert_first(snapshot->opened_device, context->context.id, file->device, file);
    }
}

static void index_records(Snapshot *snapshot)
{
    for (guint i = 0; i < snapshot->areas->len; i++) {
        WalkRecord *area = &g_array_index(snapshot->areas, WalkRecord, i);

        g_hash_table_insert(snapshot->ranges, &area->record.address, area);
        /* What nobody is known to have mapped says nothing of its address space. */
        if (area->record.tgid)
            insert_first(snapshot->mapped_into, area->context, area->record.id, area);
    }
    for (guint i = 0; i < snapshot->objects->len; i++) {
        WalkRecord *object = &g_array_index(snapshot->objects, WalkRecord, i);
        const struct ledger_object_key key = {.context = object->context, .id = object->record.id};

        g_hash_table_insert(snapshot->by_id, g_memdup2(&key, sizeof(key)), object);
    }
}

static OwnerCount *count_of(const Snapshot *snapshot, uint32_t owner)
{
    return g_hash_table_lookup(snapshot->by_owner, GUINT_TO_POINTER(owner));
}

static void count_entries(Snapshot *snapshot)
{
    GHashTableIter iter;
    gpointer value;

    for (guint i = 0; i < snapshot->owners->len; i++) {
        OwnerCount *count = &g_array_index(snapshot->owners, OwnerCount, i);

        g_hash_table_insert(snapshot->by_owner, GUINT_TO_POINTER(count->owner), count);
    }
    g_hash_table_iter_init(&iter, snapshot->recorded_objects);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        OwnerCount *count = count_of(snapshot, ((struct ledger_object *)value)->owner);

        if (count)
            count->objects++;
    }
    g_hash_table_iter_init(&iter, snapshot->recorded_ranges);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        OwnerCount *count = count_of(snapshot, ((struct ledger_pages *)value)->owner);

        if (count)
            count->pages++;
    }
}

/* An account that there should be and is not has recorded nothing. */
static Total *account_total(Snapshot *snapshot, const struct ledger_pages *range)
{
    const Total wanted = {.account = {.context = range->context, .owner = range->owner}};
    Total *total = g_hash_table_lookup(snapshot->totals, &wanted);

    if (!total) {
        total = g_memdup2(&wanted, sizeof(wanted));
        g_hash_table_add(snapshot->totals, total);
    }
    return total;
}

static void add_up(Snapshot *snapshot)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, snapshot->recorded_ranges);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const struct ledger_pages *range = value;
        const Total wanted = {.tenant = range->tenant};
        Total *account = account_total(snapshot, range);
        Total *tenant = range->tenant ? g_hash_table_lookup(snapshot->totals, &wanted) : NULL;

        account->pinned += LEDGER_CHARGED(range->charge);
        account->mapped += range->bytes;
        if (tenant)
            tenant->pinned += LEDGER_CHARGED(range->charge);
    }
}

void snapshot_index(Snapshot *snapshot)
{
    index_contexts(snapshot);
    index_records(snapshot);
    count_entries(snapshot);
    add_up(snapshot);
}

const struct ledger_pages *snapshot_recorded_range(const Snapshot *snapshot, uint64_t address)
{
    return g_hash_table_lookup(snapshot->recorded_ranges, &address);
}

const struct ledger_object *snapshot_recorded_object(const Snapshot *snapshot, uint32_t context,
                                                     uint32_t id)
{
    const struct ledger_object_key key = {.context = context, .id = id};

    return g_hash_table_lookup(snapshot->recorded_objects, &key);
}

uint64_t snapshot_context_address(const Snapshot *snapshot, uint32_t context)
{
    const Context *found = g_hash_table_lookup(snapshot->by_context, GUINT_TO_POINTER(context));

    return found ? found->address : 0;
}

bool total_is_right(const Total *total)
{
    return total->pinned == total->recorded_pinned && total->mapped == total->recorded_mapped;
}
