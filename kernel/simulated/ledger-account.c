/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/simulated/ledger-account.h"

#include "kernel/simulated/faults.h"
#include "kernel/simulated/iommufd.h"
#include "kernel/simulated/ledger-owners.h"
#include "kernel/simulated/ledger-promises.h"

#include <string.h>
#include <sys/epoll.h>

/* Memory of a machine that is mapped, as often as refs says. */
typedef struct {
    uint64_t source, offset, bytes;
    uint32_t tenant;
    uint32_t machine; /* 0: of another process of the tenant */
    uint32_t refs;
} SimExtent;

static guint extent_hash(const void *key)
{
    const SimExtent *extent = key;
    uint64_t mixed = (extent->source * 31 + extent->offset) * 31 + extent->bytes;
    return ((guint)(mixed ^ mixed >> 32) * 31 + extent->tenant) * 31 + extent->machine;
}

static gboolean extent_equal(const void *a, const void *b)
{
    const SimExtent *x = a, *y = b;
    return x->source == y->source && x->offset == y->offset && x->bytes == y->bytes &&
           x->tenant == y->tenant && x->machine == y->machine;
}

/* ---- sums ---- */

SimUsage *sim_account_usage(SimLedger *ledger, const SimKnownContext *context, uint32_t owner)
{
    uint64_t key = (uint64_t)context->context_id << 32 | owner;
    SimUsage *usage = sim_store_get(ledger, SIM_USAGE, key);
    if (!usage)
        usage = sim_store_add(ledger, SIM_USAGE, key);
    if (usage)
        usage->tenant = context->tenant;
    else
        sim_store_counters(ledger)->lost_usage++;
    return usage;
}

static void add_pinned(SimLedger *ledger, const SimKnownContext *context,
                       const SimKnownRange *range, uint64_t added, uint64_t taken)
{
    SimUsage *usage = sim_account_usage(ledger, context, range->owner);
    SimTenant *tenant = sim_store_get(ledger, SIM_TENANTS, range->tenant);
    if (usage) {
        usage->pinned += added - taken;
        usage->peak = MAX(usage->peak, usage->pinned);
    }
    if (tenant) {
        tenant->pinned += added - taken;
        tenant->peak = MAX(tenant->peak, tenant->pinned);
    }
}

static SimExtent *find_extent(SimLedger *ledger, const SimKnownRange *range)
{
    const SimExtent wanted = {range->source, range->offset,  range->bytes,
                              range->tenant, range->machine, 0};
    return g_hash_table_lookup(ledger->extents, &wanted);
}

uint64_t sim_account_cost(SimLedger *ledger, const SimKnownRange *range)
{
    const SimTenant *tenant = sim_store_get(ledger, SIM_TENANTS, range->tenant);
    bool once = tenant && tenant->count == LEDGER_COUNT_MODE_UNIQUE && find_extent(ledger, range);
    return once ? 0 : range->bytes;
}

static void count_range(SimLedger *ledger, const SimKnownRange *range)
{
    SimExtent *extent = find_extent(ledger, range);
    sim_promise_count(ledger, range->tenant, range->machine, sim_account_cost(ledger, range));
    if (!extent) {
        extent = g_new0(SimExtent, 1);
        *extent = (SimExtent){range->source, range->offset,  range->bytes,
                              range->tenant, range->machine, 0};
        g_hash_table_add(ledger->extents, extent);
    }
    extent->refs++;
}

static void uncount_range(SimLedger *ledger, const SimKnownRange *range)
{
    SimExtent *extent = find_extent(ledger, range);
    if (extent && --extent->refs == 0)
        g_hash_table_remove(ledger->extents, extent);
    sim_promise_uncount(ledger, range->tenant, range->machine, sim_account_cost(ledger, range));
}

/* The tenant counts in another way: what is mapped more than once, once or each time. */
static void count_again(SimLedger *ledger, SimTenant *tenant, LedgerCountMode count)
{
    GHashTableIter iter;
    void *key;
    tenant->count = count;
    g_hash_table_iter_init(&iter, ledger->extents);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        const SimExtent *extent = key;
        uint64_t further = extent->bytes * (extent->refs - 1);
        if (extent->tenant != tenant->key)
            continue;
        if (count == LEDGER_COUNT_MODE_UNIQUE)
            sim_promise_uncount(ledger, extent->tenant, extent->machine, further);
        else
            sim_promise_count(ledger, extent->tenant, extent->machine, further);
    }
}

int sim_account_set_limit(SimLedger *ledger, uint32_t number, uint64_t limit, LedgerCountMode count)
{
    SimTenant *tenant = sim_store_get(ledger, SIM_TENANTS, number);
    if (!tenant)
        tenant = sim_store_add(ledger, SIM_TENANTS, number);
    if (!tenant)
        return -E2BIG;
    tenant->limit = limit;
    if (tenant->count != count)
        count_again(ledger, tenant, count);
    return 0;
}

typedef struct {
    SimLedger *ledger;
    uint32_t owner;
    uint32_t machine;
    uint32_t tenant;
} Join;

static bool visit_join(SimTable *table, void *data)
{
    const Join *join = data;
    for (uint32_t i = 1; i <= table->known.n_ranges; i++) {
        SimKnownRange *range = &table->known_ranges[i];
        if (table->known.ledger != sim_store_id(join->ledger) || !range->known ||
            range->owner != join->owner || range->tenant != join->tenant || range->machine != 0)
            continue;
        uncount_range(join->ledger, range);
        range->machine = join->machine;
        count_range(join->ledger, range);
    }
    return false;
}

void sim_account_join(SimLedger *ledger, uint32_t owner, uint32_t number)
{
    const SimMachine *machine = sim_store_get(ledger, SIM_MACHINES, number);
    Join join = {ledger, owner, number, machine ? machine->tenant : 0};
    const SimLedgerOwner *entry = sim_owner(ledger, owner);
    if (machine && entry && entry->ranges > 0)
        sim_iommufd_any(visit_join, &join);
}

/* ---- contexts ---- */

SimKnownContext *sim_account_context(SimLedger *ledger, SimTable *table)
{
    SimKnownContext *known = &table->known;
    if (known->ledger == sim_store_id(ledger))
        return known;
    memset(table->known_objects, 0, sizeof(table->known_objects[0]) * (known->n_objects + 1));
    memset(table->known_ranges, 0, sizeof(table->known_ranges[0]) * (known->n_ranges + 1));
    *known = (SimKnownContext){.ledger = sim_store_id(ledger),
                               .context_id = sim_store_next_context(ledger)};
    return known;
}

void sim_account_set_tenant(SimLedger *ledger, SimTable *table, uint32_t tenant)
{
    SimKnownContext *known = sim_account_context(ledger, table);
    if (known->tenant == tenant)
        return;
    known->tenant = tenant;
    g_autoptr(GPtrArray) list = sim_store_list(ledger, SIM_USAGE);
    for (guint i = 0; i < list->len; i++) {
        SimUsage *usage = list->pdata[i];
        if (usage->key >> 32 == known->context_id)
            usage->tenant = tenant;
    }
    for (uint32_t i = 1; i <= known->n_ranges; i++) {
        SimKnownRange *range = &table->known_ranges[i];
        if (!range->known || range->tenant == tenant)
            continue;
        SimTenant *from = sim_store_get(ledger, SIM_TENANTS, range->tenant);
        SimTenant *to = sim_store_get(ledger, SIM_TENANTS, tenant);
        uncount_range(ledger, range);
        if (from)
            from->pinned -= range->charged;
        range->tenant = tenant;
        range->machine = sim_owner_machine_of(ledger, range->owner, tenant);
        count_range(ledger, range);
        if (!to)
            continue;
        to->pinned += range->charged;
        to->peak = MAX(to->peak, to->pinned);
    }
}

/* ---- what there is ---- */

void sim_account_add_object(SimLedger *ledger, SimTable *table, uint32_t id, uint32_t owner)
{
    SimKnownContext *known = sim_account_context(ledger, table);
    SimLedgerOwner *entry = sim_owner(ledger, owner);
    if (*sim_store_objects(ledger) >= ledger->max_objects) {
        sim_store_counters(ledger)->lost_objects++;
        return;
    }
    table->known_objects[id] = (SimKnownObject){
        .type = table->objects[id].type,
        .owner = owner,
        .maker = table->objects[id].owner,
    };
    known->n_objects = MAX(known->n_objects, id);
    ++*sim_store_objects(ledger);
    if (entry)
        entry->objects++;
}

void sim_account_remove_object(SimLedger *ledger, SimTable *table, uint32_t id)
{
    SimKnownObject object = table->known_objects[id];
    SimLedgerOwner *entry = sim_owner(ledger, object.owner);
    if (object.type == 0)
        return;
    table->known_objects[id] = (SimKnownObject){.type = 0};
    --*sim_store_objects(ledger);
    if (!entry)
        return;
    entry->objects--;
    sim_owner_drop_if_idle(ledger, object.owner);
}

void sim_account_add_range(SimLedger *ledger, SimTable *table, uint32_t record)
{
    SimKnownContext *known = sim_account_context(ledger, table);
    const SimRecord *pages = &table->records[record];
    const SimOwner process = {.pid = pages->pid, .start_time = pages->start_time};
    SimKnownRange range = {
        .known = 1,
        .owner = sim_owner_for(ledger, &process),
        .tenant = known->tenant,
        .bytes = pages->bytes,
        .source = pages->source,
        .offset = pages->offset,
    };
    if (*sim_store_ranges(ledger) >= ledger->max_ranges) {
        sim_store_counters(ledger)->lost_ranges++;
        return;
    }
    range.machine = sim_owner_machine_of(ledger, range.owner, range.tenant);
    SimLedgerOwner *owner = sim_owner(ledger, range.owner);
    SimUsage *usage = sim_account_usage(ledger, known, range.owner);
    table->known_ranges[record] = range;
    known->n_ranges = MAX(known->n_ranges, record);
    ++*sim_store_ranges(ledger);
    count_range(ledger, &range);
    if (owner)
        owner->ranges++;
    if (usage) {
        usage->mapped += range.bytes;
        usage->maps++;
    }
    if (pages->pinners > 0)
        sim_account_charge_range(ledger, table, record);
}

void sim_account_charge_range(SimLedger *ledger, SimTable *table, uint32_t record)
{
    SimKnownRange *range = &table->known_ranges[record];
    uint64_t was = range->charged;
    if (!range->known)
        return;
    range->charged = table->records[record].pinners > 0 ? range->bytes : 0;
    add_pinned(ledger, &table->known, range, range->charged, was);
}

void sim_account_remove_range(SimLedger *ledger, SimTable *table, uint32_t record)
{
    SimKnownRange range = table->known_ranges[record];
    if (!range.known)
        return;
    SimLedgerOwner *owner = sim_owner(ledger, range.owner);
    SimUsage *usage = sim_account_usage(ledger, &table->known, range.owner);
    table->known_ranges[record] = (SimKnownRange){.known = 0};
    --*sim_store_ranges(ledger);
    uncount_range(ledger, &range);
    add_pinned(ledger, &table->known, &range, 0, range.charged);
    if (usage) {
        usage->mapped -= range.bytes;
        usage->unmaps++;
    }
    if (!owner)
        return;
    owner->ranges--;
    sim_owner_drop_if_idle(ledger, range.owner);
}

/* ---- what is seen ---- */

static bool is_missed(SimLedger *ledger)
{
    if (!sim_fault_take(SIM_FAULT_MISSED_EVENT))
        return false;
    sim_store_counters(ledger)->skipped++;
    return true;
}

static void on_object_made(SimTable *table, uint32_t id)
{
    if (!is_missed(sim_ledger))
        sim_account_add_object(sim_ledger, table, id,
                               sim_owner_for(sim_ledger, &table->objects[id].owner));
}

static void on_object_freed(SimTable *table, uint32_t id)
{
    (void)sim_account_context(sim_ledger, table);
    if (!is_missed(sim_ledger))
        sim_account_remove_object(sim_ledger, table, id);
}

static void on_range_made(SimTable *table, uint32_t record)
{
    if (!is_missed(sim_ledger))
        sim_account_add_range(sim_ledger, table, record);
}

static void on_range_charged(SimTable *table, uint32_t record)
{
    (void)sim_account_context(sim_ledger, table);
    if (!is_missed(sim_ledger))
        sim_account_charge_range(sim_ledger, table, record);
}

static void on_range_freed(SimTable *table, uint32_t record)
{
    (void)sim_account_context(sim_ledger, table);
    if (!is_missed(sim_ledger))
        sim_account_remove_range(sim_ledger, table, record);
}

static void on_closed(SimTable *table)
{
    SimKnownContext *known = sim_account_context(sim_ledger, table);
    for (uint32_t i = 1; i <= known->n_ranges; i++)
        sim_account_remove_range(sim_ledger, table, i);
    for (uint32_t i = 1; i <= known->n_objects; i++)
        sim_account_remove_object(sim_ledger, table, i);
    known->ledger = 0;
}

/* Entries that a table has brought along count in what is summed up. */
static void on_opened(SimTable *table)
{
    const SimKnownContext *known = &table->known;
    if (known->ledger != sim_store_id(sim_ledger))
        return;
    for (uint32_t i = 1; i <= known->n_objects; i++) {
        const SimKnownObject *object = &table->known_objects[i];
        SimLedgerOwner *owner = object->type != 0 ? sim_owner(sim_ledger, object->owner) : NULL;
        *sim_store_objects(sim_ledger) += object->type != 0;
        if (owner)
            owner->objects++;
    }
    for (uint32_t i = 1; i <= known->n_ranges; i++) {
        const SimKnownRange *range = &table->known_ranges[i];
        SimLedgerOwner *owner = range->known ? sim_owner(sim_ledger, range->owner) : NULL;
        SimUsage *usage = range->known ? sim_account_usage(sim_ledger, known, range->owner) : NULL;
        *sim_store_ranges(sim_ledger) += range->known;
        if (owner)
            owner->ranges++;
        if (usage)
            usage->mapped += range->bytes;
        if (range->known) {
            count_range(sim_ledger, range);
            add_pinned(sim_ledger, known, range, range->charged, 0);
        }
    }
}

static const SimObserver observer = {
    .opened = on_opened,
    .object_made = on_object_made,
    .object_freed = on_object_freed,
    .range_made = on_range_made,
    .range_charged = on_range_charged,
    .range_freed = on_range_freed,
    .closed = on_closed,
};

/* ---- begin and end ---- */

/* What entries add up to is added up anew: IOMMUFDs may have been closed meanwhile. */
static void clear_sums(SimLedger *ledger)
{
    g_autoptr(GPtrArray) owners = sim_store_list(ledger, SIM_OWNERS);
    g_autoptr(GPtrArray) tenants = sim_store_list(ledger, SIM_TENANTS);
    g_autoptr(GPtrArray) usage = sim_store_list(ledger, SIM_USAGE);
    g_autoptr(GPtrArray) processes = sim_store_list(ledger, SIM_PROCESSES);
    *sim_store_objects(ledger) = *sim_store_ranges(ledger) = 0;
    for (guint i = 0; i < owners->len; i++) {
        SimLedgerOwner *owner = owners->pdata[i];
        owner->objects = owner->ranges = owner->processes = 0;
    }
    for (guint i = 0; i < processes->len; i++) {
        SimLedgerOwner *owner = sim_owner(ledger, ((SimProcess *)processes->pdata[i])->owner);
        if (owner)
            owner->processes++;
    }
    for (guint i = 0; i < tenants->len; i++)
        ((SimTenant *)tenants->pdata[i])->pinned = 0;
    sim_promise_begin(ledger);
    for (guint i = 0; i < usage->len; i++)
        ((SimUsage *)usage->pdata[i])->pinned = ((SimUsage *)usage->pdata[i])->mapped = 0;
}

static bool visit_context(SimTable *table, void *data)
{
    g_hash_table_add(data, GUINT_TO_POINTER(table->known.context_id));
    return false;
}

/* IOMMUFDs that this process does not hold itself are those of the processes that use them. */
static void find_others_iommufds(SimLedger *ledger)
{
    g_autoptr(GHashTable) contexts = g_hash_table_new(NULL, NULL);
    g_autoptr(GPtrArray) list = sim_store_list(ledger, SIM_USAGE);
    sim_iommufd_any(visit_context, contexts);
    for (guint i = 0; i < list->len; i++) {
        const SimUsage *usage = list->pdata[i];
        const SimLedgerOwner *owner = sim_owner(ledger, (uint32_t)usage->key);
        if (owner && !g_hash_table_contains(contexts, GUINT_TO_POINTER(usage->key >> 32)))
            sim_iommufd_find_of(owner->process.pid);
    }
}

static bool visit_opened(SimTable *table, void *data)
{
    on_opened(table);
    return false;
}

/* ---- processes that have ended ---- */

typedef struct {
    GHashTable *pids;
    bool closed; /* an IOMMUFD may be */
} Dead;

/* Devices of the dead go with them; and with who had it open alone, the IOMMUFD. */
static bool visit_remove_dead(SimTable *table, void *data)
{
    Dead *dead = data;
    if (sim_table_remove_dead(table, dead->pids) &&
        !(table->known.flags & LEDGER_CONTEXT_FLAG_SHARED))
        dead->closed = true;
    return false;
}

static void remove_dead(SimLedger *ledger, GHashTable *pids)
{
    Dead dead = {pids, false};
    GHashTableIter iter;
    void *pid;
    if (g_hash_table_size(pids) == 0)
        return;
    g_hash_table_iter_init(&iter, pids);
    while (g_hash_table_iter_next(&iter, &pid, NULL))
        sim_process_end(ledger, GPOINTER_TO_INT(pid));
    sim_iommufd_any(visit_remove_dead, &dead);
    if (dead.closed)
        sim_iommufd_refresh();
}

void sim_account_find_ended(SimLedger *ledger)
{
    g_autoptr(GPtrArray) processes = sim_store_list(ledger, SIM_PROCESSES);
    g_autoptr(GHashTable) dead = g_hash_table_new(NULL, NULL);
    for (guint i = 0; i < processes->len; i++) {
        const SimProcess *process = processes->pdata[i];
        const SimOwner known = {.pid = (int32_t)process->key, .start_time = process->start};
        if (g_hash_table_contains(ledger->pidfds, GINT_TO_POINTER(known.pid)))
            continue;
        if (sim_owner_alive(&known))
            sim_process_watch(ledger, known.pid);
        else
            g_hash_table_add(dead, GINT_TO_POINTER(known.pid));
    }
    remove_dead(ledger, dead);
}

void sim_account_begin(SimLedger *ledger)
{
    ledger->extents = g_hash_table_new_full(extent_hash, extent_equal, g_free, NULL);
    sim_iommufd_refresh();
    find_others_iommufds(ledger);
    clear_sums(ledger);
    sim_iommufd_any(visit_opened, NULL);
    sim_table_observe(&observer);
    sim_account_find_ended(ledger);
}

void sim_account_end(void)
{
    sim_table_observe(NULL);
}

/* ---- the end of usage and processes ---- */

void sim_account_close_idle(SimLedger *ledger)
{
    g_autoptr(GHashTable) contexts = g_hash_table_new(NULL, NULL);
    g_autoptr(GPtrArray) list = sim_store_list(ledger, SIM_USAGE);
    sim_iommufd_any(visit_context, contexts);
    for (guint i = 0; i < list->len; i++) {
        const SimUsage *usage = list->pdata[i];
        uint32_t context = (uint32_t)(usage->key >> 32), owner = (uint32_t)usage->key;
        bool open = g_hash_table_contains(contexts, GUINT_TO_POINTER(context));
        if (usage->pinned > 0 || usage->mapped > 0 ||
            (open && (owner == SIM_OWNER_SERVICE || sim_owner(ledger, owner))))
            continue;
        SimTenant *tenant = sim_store_get(ledger, SIM_TENANTS, usage->tenant);
        if (tenant) {
            tenant->maps += usage->maps;
            tenant->unmaps += usage->unmaps;
            tenant->refused += usage->refused;
        }
        sim_store_remove(ledger, SIM_USAGE, usage->key);
    }
}

void sim_account_settle(SimLedger *ledger)
{
    g_autoptr(GHashTable) pids = g_hash_table_new(NULL, NULL);
    struct epoll_event events[64];
    int n, ended;
    do {
        n = epoll_wait(ledger->epoll, events, G_N_ELEMENTS(events), 0);
        ended = 0;
        for (int i = 0; i < n; i++) {
            if (events[i].data.u64 == 0)
                continue;
            ended += g_hash_table_add(pids, GINT_TO_POINTER((int)events[i].data.u64));
            sim_process_end(ledger, (pid_t)events[i].data.u64);
        }
    } while (ended > 0);
    remove_dead(ledger, pids);
}
