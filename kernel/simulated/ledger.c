/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/simulated/ledger.h"

#include "kernel/ledger/order.h"
#include "kernel/simulated/faults.h"
#include "kernel/simulated/guard.h"
#include "kernel/simulated/iommufd.h"
#include "kernel/simulated/ledger-account.h"
#include "kernel/simulated/ledger-owners.h"
#include "kernel/simulated/ledger-promises.h"
#include "kernel/simulated/ledger-reconcile.h"

#include <errno.h>

static SimLedger *sim(Ledger *ledger)
{
    return (SimLedger *)ledger;
}

/* Whether the ledger takes what it is told now. */
static int accepts(const Ledger *ledger)
{
    if (!ledger->status.counting)
        return -EOPNOTSUPP;
    return sim_fault_take(SIM_FAULT_FAILING_CALL) ? -ENOMEM : 0;
}

static int answers(Ledger *ledger)
{
    if (!ledger->status.counting)
        return -EOPNOTSUPP;
    sim_account_settle(sim(ledger));
    return 0;
}

/* ---- begin and end ---- */

static void simulated_free(Ledger *ledger)
{
    SIM_LOCKED;
    if (sim_ledger == sim(ledger)) {
        sim_account_end();
        sim_ledger = NULL;
    }
    sim_store_close(sim(ledger));
}

static int simulated_reconcile(Ledger *ledger, LedgerDrift *ret_drift,
                               LedgerMeasurement **ret_measurements, size_t *ret_n)
{
    LedgerDrift drift;
    if (!ledger->status.counting)
        return -EOPNOTSUPP;
    g_mutex_lock(&sim_lock);
    uint64_t slow = sim_fault_value(SIM_FAULT_SLOW_RECONCILE);
    bool fails = sim_fault_take(SIM_FAULT_FAILING_RECONCILE);
    g_mutex_unlock(&sim_lock);
    g_usleep(slow * 1000);
    if (fails)
        return -EAGAIN;
    SIM_LOCKED;
    sim_reconcile(sim(ledger), &drift);
    if (ret_drift)
        *ret_drift = drift;
    if (ret_measurements) {
        GArray *measurements = sim_measure(sim(ledger));
        *ret_n = measurements->len;
        *ret_measurements = (LedgerMeasurement *)(void *)g_array_free(measurements, FALSE);
    }
    return 0;
}

/* There is one version only. */
static int simulated_finish_upgrade(Ledger *ledger)
{
    return simulated_reconcile(ledger, NULL, NULL, NULL);
}

static int simulated_descriptor(Ledger *ledger)
{
    return ledger->status.counting ? sim(ledger)->descriptor : -EBADF;
}

/* ---- who is who ---- */

static int simulated_register_iommufd(Ledger *ledger, int fd, uint32_t tenant, unsigned flags,
                                      uint32_t *ret_context)
{
    SIM_LOCKED;
    SimTable *table;
    int r = accepts(ledger);
    if (r < 0)
        return r;
    r = sim_iommufd_get(fd, &table);
    if (r < 0)
        return r == -ENOTTY ? -EINVAL : r;
    sim_account_set_tenant(sim(ledger), table, tenant);
    table->known.flags = flags;
    *ret_context = table->known.context_id;
    return 0;
}

static int simulated_set_limit(Ledger *ledger, uint32_t tenant, uint64_t bytes,
                               LedgerCountMode count)
{
    SIM_LOCKED;
    int r = accepts(ledger);
    return r < 0 ? r : sim_account_set_limit(sim(ledger), tenant, bytes, count);
}

static int simulated_remove_tenant(Ledger *ledger, uint32_t tenant)
{
    SIM_LOCKED;
    int r = accepts(ledger);
    if (r < 0)
        return r;
    if (!sim_store_get(sim(ledger), SIM_TENANTS, tenant))
        return -ENOENT;
    sim_store_remove(sim(ledger), SIM_TENANTS, tenant);
    return 0;
}

static int simulated_set_budget(Ledger *ledger, uint64_t bytes)
{
    SIM_LOCKED;
    int r = accepts(ledger);
    if (r == 0)
        sim_promise_set_budget(sim(ledger), bytes);
    return r;
}

static int simulated_add_machine(Ledger *ledger, uint32_t number, uint32_t tenant)
{
    SIM_LOCKED;
    int r = accepts(ledger);
    if (r < 0)
        return r;
    if (number == 0)
        return -EINVAL;
    SimMachine *machine = sim_store_get(sim(ledger), SIM_MACHINES, number);
    if (machine)
        return machine->tenant == tenant ? 0 : -EEXIST;
    machine = sim_store_add(sim(ledger), SIM_MACHINES, number);
    if (!machine)
        return -E2BIG;
    machine->tenant = tenant;
    return 0;
}

static int simulated_remove_machine(Ledger *ledger, uint32_t machine)
{
    SIM_LOCKED;
    int r = accepts(ledger);
    return r < 0 ? r : sim_forget_machine(sim(ledger), machine);
}

static int simulated_reserve_machine(Ledger *ledger, uint32_t machine, uint64_t bytes, bool again,
                                     LedgerShortage *ret_shortage)
{
    SIM_LOCKED;
    int r = accepts(ledger);
    return r < 0 ? r : sim_promise_set(sim(ledger), machine, bytes, again, ret_shortage);
}

static int simulated_follow_limit(Ledger *ledger, uint32_t number, uint64_t limit,
                                  uint64_t reserved)
{
    SIM_LOCKED;
    int r = accepts(ledger);
    if (r < 0)
        return r;
    SimMachine *machine = sim_store_get(sim(ledger), SIM_MACHINES, number);
    if (!machine)
        return -ENOENT;
    machine->plug_limit = limit;
    machine->plug_reserved = reserved;
    return 0;
}

static int simulated_name_process(Ledger *ledger, pid_t pid, uint64_t start, uint32_t machine,
                                  uint32_t tenant)
{
    SIM_LOCKED;
    const SimOwner process = {.pid = pid, .start_time = start};
    int r = accepts(ledger);
    if (r < 0)
        return r;
    if (!sim_owner_alive(&process))
        return -ESRCH;
    if (machine == 0)
        return sim_name_client(sim(ledger), &process, tenant);
    r = sim_name_machine(sim(ledger), &process, machine, tenant);
    if (r == 0)
        sim_account_join(sim(ledger), sim_owner_for(sim(ledger), &process), machine);
    return r;
}

static int simulated_machine(Ledger *ledger, uint32_t number, LedgerMachine *ret_machine)
{
    SIM_LOCKED;
    int r = answers(ledger);
    if (r < 0)
        return r;
    const SimMachine *machine = sim_store_get(sim(ledger), SIM_MACHINES, number);
    if (!machine)
        return -ENOENT;
    const SimLedgerOwner *owner = sim_owner(sim(ledger), machine->owner);
    *ret_machine = (LedgerMachine){
        .pid = owner ? owner->process.pid : 0,
        .reserved = machine->reserved,
        .borrowed = machine->borrowed,
        .mapped = machine->reserved + machine->borrowed - machine->room,
    };
    if (owner) {
        ret_machine->start = owner->process.start_time;
        g_strlcpy(ret_machine->comm, owner->comm, sizeof(ret_machine->comm));
    }
    return 0;
}

static int simulated_admit_device(Ledger *ledger, const char *address, const LedgerClaim *claim,
                                  uint32_t *ret_machine)
{
    SIM_LOCKED;
    uint64_t key = sim_guard_device_key(address);
    uint32_t holder = 0;
    int r = accepts(ledger);
    if (r < 0)
        return r;
    if (key == 0 || (claim->unit != 0 && claim->machine == 0))
        return -EINVAL;
    r = sim_claim_device(sim(ledger), key, claim, &holder);
    if (r == -EBUSY && ret_machine)
        *ret_machine = holder;
    return r;
}

static int simulated_dismiss_device(Ledger *ledger, const char *address, uint32_t machine)
{
    SIM_LOCKED;
    uint64_t key = sim_guard_device_key(address);
    int r = accepts(ledger);
    if (r < 0)
        return r;
    if (key == 0)
        return -EINVAL;
    const SimLedgerDevice *device = sim_store_get(sim(ledger), SIM_DEVICES, key);
    if (!device)
        return -ENOENT;
    if (device->machine != machine)
        return -EBUSY;
    sim_store_remove(sim(ledger), SIM_DEVICES, key);
    return 0;
}

static int simulated_device(Ledger *ledger, const char *address, LedgerClaim *ret_claim)
{
    SIM_LOCKED;
    uint64_t key = sim_guard_device_key(address);
    int r = answers(ledger);
    if (r < 0)
        return r;
    if (key == 0)
        return -EINVAL;
    const SimLedgerDevice *device = sim_store_get(sim(ledger), SIM_DEVICES, key);
    if (!device ||
        (device->machine != 0 && !sim_store_get(sim(ledger), SIM_MACHINES, device->machine)))
        return -ENOENT;
    *ret_claim = (LedgerClaim){.tenant = device->tenant,
                               .machine = device->machine,
                               .unit = device->unit,
                               .flags = device->flags};
    return 0;
}

/* ---- relays ---- */

static int simulated_trust_relay(Ledger *ledger, pid_t pid, uint64_t start)
{
    SIM_LOCKED;
    const SimOwner process = {.pid = pid, .start_time = start};
    int r = accepts(ledger);
    return r < 0 ? r : sim_name_role(sim(ledger), &process, SIM_ROLE_RELAY);
}

/* No unit runs here. */
static int simulated_set_relay_units(Ledger *ledger, const char *const *units)
{
    return ledger->status.guarding ? 0 : -EOPNOTSUPP;
}

static int simulated_allow_receiver(Ledger *ledger, pid_t pid, uint64_t start, uint32_t tenant)
{
    return simulated_name_process(ledger, pid, start, 0, tenant);
}

/* ---- who has what ---- */

static int simulated_tenant_usage(Ledger *ledger, uint32_t number, LedgerTenantUsage *ret_usage)
{
    SIM_LOCKED;
    int r = answers(ledger);
    if (r < 0)
        return r;
    const SimTenant *tenant = sim_store_get(sim(ledger), SIM_TENANTS, number);
    if (!tenant)
        return -ENOENT;
    *ret_usage = (LedgerTenantUsage){
        .limit = tenant->limit,
        .count = tenant->count,
        .used = tenant->used,
        .pinned = tenant->pinned,
        .peak = tenant->peak,
        .maps = tenant->maps,
        .unmaps = tenant->unmaps,
        .refused = tenant->refused,
    };
    return 0;
}

static int simulated_usage(Ledger *ledger, LedgerUsage **ret_usage, size_t *ret_n)
{
    SIM_LOCKED;
    int r = answers(ledger);
    if (r < 0)
        return r;
    g_autoptr(GPtrArray) list = sim_store_list(sim(ledger), SIM_USAGE);
    g_autoptr(GArray) rows = g_array_new(FALSE, TRUE, sizeof(LedgerUsage));
    for (guint i = 0; i < list->len; i++) {
        const SimUsage *usage = list->pdata[i];
        uint32_t id = (uint32_t)usage->key;
        const SimLedgerOwner *owner = sim_owner(sim(ledger), id);
        LedgerUsage row = {
            .context = (uint32_t)(usage->key >> 32),
            .owner = id,
            .machine = owner ? owner->machine : 0,
            .tenant = (uint32_t)usage->tenant,
            .pid = owner ? owner->process.pid : 0,
            .start = owner ? owner->process.start_time : 0,
            .alive = sim_owner_has_process(sim(ledger), id),
            .pinned = usage->pinned,
            .peak = usage->peak,
            .mapped = usage->mapped,
            .maps = usage->maps,
            .unmaps = usage->unmaps,
            .refused = usage->refused,
        };
        g_array_append_val(rows, row);
    }
    g_array_sort(rows, ledger_usage_compare);
    *ret_n = rows->len;
    *ret_usage = (LedgerUsage *)(void *)g_array_free(g_steal_pointer(&rows), FALSE);
    return 0;
}

static LedgerObject describe(SimLedger *ledger, const SimTable *table, uint32_t id)
{
    const SimKnownObject *known = &table->known_objects[id];
    return (LedgerObject){
        .context = table->known.context_id,
        .id = id,
        .type = known->type,
        .owner_kind = known->owner == SIM_OWNER_NONE      ? LEDGER_OWNER_KIND_UNKNOWN
                      : known->owner == SIM_OWNER_SERVICE ? LEDGER_OWNER_KIND_SERVICE
                                                          : LEDGER_OWNER_KIND_PROCESS,
        .owner = known->owner,
        .machine = sim_owner_machine(ledger, known->owner),
        .pid = known->maker.pid,
        .start = known->maker.start_time,
        .alive = sim_owner_has_process(ledger, known->owner),
    };
}

typedef struct {
    SimLedger *ledger;
    uint32_t context;
    GArray *objects; /* LedgerObject */
} Listing;

static bool visit_objects(SimTable *table, void *data)
{
    Listing *listing = data;
    if (table->known.ledger != sim_store_id(listing->ledger) ||
        (listing->context != 0 && table->known.context_id != listing->context))
        return false;
    for (uint32_t id = 1; id <= table->known.n_objects; id++) {
        if (table->known_objects[id].type == 0)
            continue;
        LedgerObject object = describe(listing->ledger, table, id);
        g_array_append_val(listing->objects, object);
    }
    return false;
}

static int simulated_objects(Ledger *ledger, uint32_t context, LedgerObject **ret_objects,
                             size_t *ret_n)
{
    SIM_LOCKED;
    int r = answers(ledger);
    if (r < 0)
        return r;
    g_autoptr(GArray) objects = g_array_new(FALSE, TRUE, sizeof(LedgerObject));
    Listing listing = {sim(ledger), context, objects};
    sim_iommufd_any(visit_objects, &listing);
    g_array_sort(objects, ledger_object_compare);
    *ret_n = objects->len;
    *ret_objects = (LedgerObject *)(void *)g_array_free(g_steal_pointer(&objects), FALSE);
    return 0;
}

typedef struct {
    SimLedger *ledger;
    uint32_t context;
    SimTable *table;
} Search;

static bool visit_search(SimTable *table, void *data)
{
    Search *search = data;
    search->table = table;
    return table->known.ledger == sim_store_id(search->ledger) &&
           table->known.context_id == search->context;
}

static int simulated_object(Ledger *ledger, uint32_t context, uint32_t id, LedgerObject *ret_object)
{
    SIM_LOCKED;
    Search search = {sim(ledger), context, NULL};
    int r = answers(ledger);
    if (r < 0)
        return r;
    if (id == 0 || id >= SIM_OBJECTS_MAX || !sim_iommufd_any(visit_search, &search) ||
        search.table->known_objects[id].type == 0)
        return -ENOENT;
    *ret_object = describe(sim(ledger), search.table, id);
    return 0;
}

/* There are no containers of VFIO's own to look into: what a process has locked tells as much. */
static int simulated_legacy(Ledger *ledger, LedgerLegacy **ret_legacy, size_t *ret_n)
{
    return -EOPNOTSUPP;
}

static int simulated_counters(Ledger *ledger, LedgerCounters *ret_counters)
{
    SIM_LOCKED;
    int r = answers(ledger);
    if (r < 0)
        return r;
    *ret_counters = *sim_store_counters(sim(ledger));
    ret_counters->corrected = sim(ledger)->corrected;
    return 0;
}

/* ---- events ---- */

static int simulated_event_fd(Ledger *ledger)
{
    return ledger->status.counting ? sim(ledger)->epoll : -EOPNOTSUPP;
}

static bool next_event(Ledger *ledger, LedgerEvent *ret_event)
{
    SIM_LOCKED;
    return sim_store_pop_event(sim(ledger), ret_event);
}

/* The handler may call back: it is called without the lock. */
static int simulated_dispatch(Ledger *ledger, LedgerEventHandler handler, void *data)
{
    LedgerEvent event;
    g_mutex_lock(&sim_lock);
    int r = answers(ledger);
    g_mutex_unlock(&sim_lock);
    if (r < 0)
        return r;
    while (next_event(ledger, &event))
        handler(&event, data);
    return 0;
}

static const LedgerOps simulated_ops = {
    .name = "simulated",
    .free = simulated_free,
    .finish_upgrade = simulated_finish_upgrade,
    .descriptor = simulated_descriptor,
    .register_iommufd = simulated_register_iommufd,
    .set_limit = simulated_set_limit,
    .remove_tenant = simulated_remove_tenant,
    .set_budget = simulated_set_budget,
    .add_machine = simulated_add_machine,
    .remove_machine = simulated_remove_machine,
    .reserve_machine = simulated_reserve_machine,
    .follow_limit = simulated_follow_limit,
    .name_process = simulated_name_process,
    .machine = simulated_machine,
    .admit_device = simulated_admit_device,
    .dismiss_device = simulated_dismiss_device,
    .device = simulated_device,
    .trust_relay = simulated_trust_relay,
    .set_relay_units = simulated_set_relay_units,
    .allow_receiver = simulated_allow_receiver,
    .tenant_usage = simulated_tenant_usage,
    .usage = simulated_usage,
    .objects = simulated_objects,
    .object = simulated_object,
    .legacy = simulated_legacy,
    .counters = simulated_counters,
    .reconcile = simulated_reconcile,
    .event_fd = simulated_event_fd,
    .dispatch = simulated_dispatch,
};

/* ---- opening ---- */

int sim_ledger_load(SimLedgerFeatures features, const LedgerOptions *options,
                    LedgerStatus *ret_status)
{
    LedgerStatus status = {.counting = features.ledger};
    status.guarding = status.rechecking =
        features.ledger && features.guard && options->guard != LEDGER_GUARD_MODE_OFF;
    if (!features.ledger)
        g_strlcpy(status.reason, "The simulated host has no ledger (Features= in its file).",
                  sizeof(status.reason));
    if (!features.ledger)
        g_strlcpy(status.guard_reason, status.reason, sizeof(status.guard_reason));
    else if (options->guard == LEDGER_GUARD_MODE_OFF)
        g_strlcpy(status.guard_reason, "The guard is switched off by configuration (Guard=off).",
                  sizeof(status.guard_reason));
    else if (!features.guard)
        g_strlcpy(status.guard_reason, "The simulated host has no guard (Features= in its file).",
                  sizeof(status.guard_reason));
    *ret_status = status;
    return 0;
}

int sim_ledger_open(SimLedgerFeatures features, const LedgerOptions *options, Ledger **ret_ledger)
{
    SimLedger *ledger;
    LedgerDrift drift;
    SimOwner self;
    SIM_LOCKED;
    int r = sim_owner_of(getpid(), &self);
    if (r == 0)
        r = sim_store_open(options, &ledger);
    if (r < 0)
        return r;
    ledger->ledger.ops = &simulated_ops;
    ledger->guard = options->guard;
    (void)sim_ledger_load(features, options, &ledger->ledger.status);
    if (ledger->ledger.status.counting) {
        sim_ledger = ledger;
        sim_account_begin(ledger);
        (void)sim_name_role(ledger, &self, SIM_ROLE_SERVICE);
        sim_reconcile(ledger, &drift);
    }
    *ret_ledger = &ledger->ledger;
    return 0;
}
