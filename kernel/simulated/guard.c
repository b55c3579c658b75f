/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/simulated/guard.h"

#include "kernel/base/pci-address.h"
#include "kernel/simulated/faults.h"
#include "kernel/simulated/ledger-account.h"
#include "kernel/simulated/ledger-owners.h"
#include "kernel/simulated/ledger-promises.h"
#include "kernel/uapi/iommufd.h"
#include "kernel/uapi/vfio.h"

#include <errno.h>

static bool is_guarded(const SimTable *table)
{
    return sim_ledger && sim_ledger->ledger.status.guarding &&
           table->known.ledger == sim_store_id(sim_ledger) &&
           (table->known.flags & LEDGER_CONTEXT_FLAG_GUARDED);
}

static bool is_service(const SimOwner *process)
{
    const SimProcess *entry = sim_process(sim_ledger, process);
    return entry && entry->role == SIM_ROLE_SERVICE;
}

static void count_refusal(const SimTable *table, uint32_t owner)
{
    SimUsage *usage = sim_account_usage(sim_ledger, &table->known, owner);
    if (usage)
        usage->refused++;
}

static uint32_t machine_of_object(const SimTable *table, uint32_t id)
{
    if (id == 0 || id >= SIM_OBJECTS_MAX || table->known_objects[id].type == 0)
        return 0;
    return sim_owner_machine(sim_ledger, table->known_objects[id].owner);
}

static int refuse(SimTable *table, const SimOwner *process, uint32_t command, uint32_t id,
                  int error)
{
    uint32_t owner = sim_owner_for(sim_ledger, process);
    LedgerEvent event = {
        .kind = LEDGER_EVENT_KIND_REFUSED,
        .error = error,
        .tenant = table->known.tenant,
        .context = table->known.context_id,
        .command = command,
        .id = id,
        .object_machine = machine_of_object(table, id),
    };
    /* QEMU asks for this at each of its starts, and goes on without. */
    if (command != IOMMU_IOAS_CHANGE_PROCESS)
        count_refusal(table, owner);
    sim_report(sim_ledger, process, owner, &event);
    return error;
}

/* ---- processes ---- */

int sim_guard_receive(SimTable *table, const SimOwner *process)
{
    if (!is_guarded(table) || !(table->known.flags & LEDGER_CONTEXT_FLAG_RESTRICTED))
        return 0;
    const SimProcess *entry = sim_process(sim_ledger, process);
    const SimLedgerOwner *owner = entry ? sim_owner(sim_ledger, entry->owner) : NULL;
    /* Who is not known inherited it from who started it. */
    if (!owner || owner->tenant == 0 || owner->tenant == table->known.tenant)
        return 0;
    return refuse(table, process, 0, 0, -EACCES);
}

/* ---- devices ---- */

uint64_t sim_guard_device_key(const char *address)
{
    PciAddress parsed;
    if (!pci_address_is_canonical(address) || !pci_address_parse(address, &parsed))
        return 0;
    return UINT64_C(1) << 63 | (uint64_t)parsed.domain << 16 | (uint64_t)parsed.bus << 8 |
           (uint64_t)parsed.slot << 3 | parsed.function;
}

/* A process that has no machine yet becomes the one that the device was admitted for, if nobody has
 * before: QEMU binds its devices long before iommud learns its pid. */
static bool claim_machine(SimLedgerOwner *owner, uint32_t id, uint32_t number)
{
    SimMachine *machine = sim_store_get(sim_ledger, SIM_MACHINES, number);
    if (owner->machine != 0)
        return owner->machine == number;
    if (!machine || (machine->owner != 0 && machine->owner != id))
        return false;
    machine->owner = id;
    owner->machine = number;
    sim_account_join(sim_ledger, id, number);
    return true;
}

static bool claim_device(SimLedgerDevice *device, uint32_t tenant, uint32_t id)
{
    SimLedgerOwner *owner = sim_owner(sim_ledger, id);
    if (!owner || device->tenant != tenant)
        return false;
    if (device->machine == 0 ? device->owner != 0 && device->owner != id
                             : !claim_machine(owner, id, device->machine))
        return false;
    device->owner = id;
    return true;
}

int sim_guard_bind(SimTable *table, const SimOwner *process, const char *address)
{
    if (!sim_ledger || !sim_ledger->ledger.status.guarding)
        return 0;
    (void)sim_account_context(sim_ledger, table);
    SimLedgerDevice *device = sim_store_get(sim_ledger, SIM_DEVICES, sim_guard_device_key(address));
    if (is_service(process))
        return 0;
    /* A device that was admitted for a machine goes nowhere but into its tenant's IOMMUFD. */
    if (!is_guarded(table))
        return device ? refuse(table, process, VFIO_DEVICE_BIND_IOMMUFD, 0, -EACCES) : 0;
    uint32_t id = sim_owner_for(sim_ledger, process);
    return device && claim_device(device, table->known.tenant, id)
               ? 0
               : refuse(table, process, VFIO_DEVICE_BIND_IOMMUFD, 0, -EACCES);
}

int sim_guard_reset(SimTable *table, const SimOwner *process, const char *address)
{
    if (!is_guarded(table) || is_service(process))
        return 0;
    uint32_t id = sim_owner_for(sim_ledger, process);
    uint32_t machine = sim_owner_machine(sim_ledger, id);
    const SimLedgerDevice *device =
        sim_store_get(sim_ledger, SIM_DEVICES, sim_guard_device_key(address));
    bool is_own = device && device->tenant == table->known.tenant && id != SIM_OWNER_NONE &&
                  (device->owner == id || (device->machine != 0 && device->machine == machine));
    return is_own && !(device->flags & LEDGER_DEVICE_FLAG_RESET_SHARED)
               ? 0
               : refuse(table, process, VFIO_DEVICE_PCI_HOT_RESET, 0, -EACCES);
}

/* ---- ioctls ---- */

/* Whether the owner may name what iommud made, which is for all machines of the context, or what
 * itself or another process of its machine made. */
static bool owner_may_name(const SimKnownObject *object, uint32_t owner)
{
    if (owner == SIM_OWNER_NONE || object->owner == SIM_OWNER_NONE)
        return false;
    if (object->owner == SIM_OWNER_SERVICE || object->owner == owner)
        return true;
    uint32_t machine = sim_owner_machine(sim_ledger, owner);
    return machine != 0 && machine == sim_owner_machine(sim_ledger, object->owner);
}

/* An id that is free is left to the kernel to answer. */
static bool owner_may_name_id(const SimTable *table, uint32_t id, uint32_t owner)
{
    const SimKnownObject *known = &table->known_objects[id];
    if (id >= SIM_OBJECTS_MAX || table->objects[id].type == 0)
        return true;
    return known->type != 0 && owner_may_name(known, owner);
}

/* What no single machine may do to an IOMMUFD that others use as well. */
static int check_global(const SimTable *table, uint32_t command)
{
    switch (command) {
    case IOMMU_IOAS_CHANGE_PROCESS:
        return table->known.flags & LEDGER_CONTEXT_FLAG_SHARED ? -EPERM : 0;
    case IOMMU_OPTION: /* RLIMIT_MODE, to be set */
        return -EPERM;
    case IOMMU_DESTROY:
    case IOMMU_IOAS_ALLOC:
    case IOMMU_IOAS_MAP:
    case IOMMU_IOAS_MAP_FILE:
    case IOMMU_IOAS_UNMAP:
        return 0;
    }
    sim_store_counters(sim_ledger)->unknown_ioctls++;
    return sim_ledger->guard == LEDGER_GUARD_MODE_STRICT ? -EPERM : 0;
}

int sim_guard_ioctl(SimTable *table, const SimOwner *process, uint32_t command, uint32_t id)
{
    if (!is_guarded(table) || is_service(process))
        return 0;
    uint32_t owner = sim_owner_for(sim_ledger, process);
    if (owner == SIM_OWNER_NONE)
        return refuse(table, process, command, 0, -EACCES);
    int r = check_global(table, command);
    if (r < 0)
        return refuse(table, process, command, 0, r);
    return owner_may_name_id(table, id, owner) ? 0 : refuse(table, process, command, id, -EACCES);
}

/* As many as are left for all others: nobody keeps the others from having some. */
static bool has_capacity(uint64_t entries, uint32_t max, uint64_t own)
{
    return !sim_fault_take(SIM_FAULT_FULL_TABLE) && own + entries < max;
}

static int say_full(SimTable *table, const SimOwner *process, uint32_t command, uint64_t bytes)
{
    LedgerEvent event = {
        .kind = LEDGER_EVENT_KIND_FULL,
        .error = -ENOMEM,
        .tenant = table->known.tenant,
        .context = table->known.context_id,
        .command = command,
        .requested = bytes,
    };
    sim_report(sim_ledger, process, sim_owner_for(sim_ledger, process), &event);
    return -ENOMEM;
}

int sim_guard_make(SimTable *table, const SimOwner *process, uint32_t command, uint32_t n)
{
    if (!is_guarded(table))
        return 0;
    const SimLedgerOwner *owner = sim_owner(sim_ledger, sim_owner_for(sim_ledger, process));
    return has_capacity(*sim_store_objects(sim_ledger) + n - 1, sim_ledger->max_objects,
                        owner ? owner->objects : 0)
               ? 0
               : say_full(table, process, command, 0);
}

int sim_guard_map(SimTable *table, const SimOwner *process, uint32_t command, uint64_t source,
                  uint64_t offset, uint64_t bytes)
{
    if (!is_guarded(table))
        return 0;
    uint32_t id = sim_owner_for(sim_ledger, process);
    const SimLedgerOwner *owner = sim_owner(sim_ledger, id);
    if (!has_capacity(*sim_store_ranges(sim_ledger), sim_ledger->max_ranges,
                      owner ? owner->ranges : 0))
        return say_full(table, process, command, bytes);
    SimKnownRange range = {.tenant = table->known.tenant,
                           .source = source,
                           .offset = offset,
                           .bytes = bytes,
                           .machine = sim_owner_machine_of(sim_ledger, id, table->known.tenant)};
    LedgerShortage shortage;
    /* A tenant that is not known any more has nothing. */
    if (range.tenant == 0 ||
        sim_promise_check(sim_ledger, range.tenant, range.machine,
                          sim_account_cost(sim_ledger, &range), &shortage) == 0)
        return 0;
    LedgerEvent event = {
        .kind = LEDGER_EVENT_KIND_LIMIT,
        .error = -EDQUOT,
        .tenant = table->known.tenant,
        .context = table->known.context_id,
        .command = command,
        .requested = bytes,
        .left = shortage.left,
        .host_is_short = shortage.host,
    };
    count_refusal(table, id);
    sim_report(sim_ledger, process, id, &event);
    return -EDQUOT;
}

/* ---- plugs ---- */

int sim_guard_setrlimit(const SimOwner *process, uint64_t limit)
{
    uint32_t id = sim_ledger ? sim_owner_for(sim_ledger, process) : 0;
    uint32_t number = sim_ledger ? sim_owner_machine(sim_ledger, id) : 0;
    SimMachine *machine = number ? sim_store_get(sim_ledger, SIM_MACHINES, number) : NULL;
    LedgerShortage shortage = {0};
    if (!machine || machine->plug_limit == 0 || limit == LEDGER_UNLIMITED)
        return 0;
    uint64_t more = limit > machine->plug_limit ? limit - machine->plug_limit : 0;
    uint64_t promise = machine->plug_reserved + more, before = machine->reserved;
    int r = promise > before ? sim_promise_set(sim_ledger, number, promise, false, &shortage) : 0;
    LedgerEvent event = {
        .kind = r < 0 ? LEDGER_EVENT_KIND_PLUG_REFUSED : LEDGER_EVENT_KIND_PLUG,
        .error = r,
        .machine = number,
        .tenant = machine->tenant,
        .requested = promise > before ? promise - before : 0,
        .left = shortage.left,
        .host_is_short = shortage.host,
    };
    sim_report(sim_ledger, process, id, &event);
    return r;
}
