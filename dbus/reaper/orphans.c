/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/reaper/orphans.h"

#include "dbus/core/machine.h"
#include "dbus/core/tenant.h"

/* The highest layer first: each of these may use those after it. */
static const LedgerObjectType layers[] = {
    LEDGER_OBJECT_TYPE_HW_QUEUE, LEDGER_OBJECT_TYPE_VEVENTQ,     LEDGER_OBJECT_TYPE_VDEVICE,
    LEDGER_OBJECT_TYPE_OTHER,    LEDGER_OBJECT_TYPE_HWPT_NESTED, LEDGER_OBJECT_TYPE_VIOMMU,
    LEDGER_OBJECT_TYPE_FAULT,    LEDGER_OBJECT_TYPE_HWPT_PAGING, LEDGER_OBJECT_TYPE_IOAS,
};

G_STATIC_ASSERT(G_N_ELEMENTS(layers) <= SWEEP_LAYERS);

/* Its layer, or -1: it never goes by hand. */
static int layer_of(LedgerObjectType type)
{
    for (size_t i = 0; i < G_N_ELEMENTS(layers); i++) {
        if (layers[i] == type)
            return (int)i;
    }
    return -1;
}

bool leftovers_known(const TenantLife *life)
{
    return books_count(life->manager->books) && life->context != 0;
}

static bool may_go(const TenantLife *life, bool alive, const LedgerObject *object)
{
    const MachineLife *owner = books_find_machine(life->manager->books, object->machine);
    if (object->owner_kind == LEDGER_OWNER_KIND_SERVICE)
        return false;
    if (object->owner_kind == LEDGER_OWNER_KIND_UNKNOWN)
        return !alive;
    return !object->alive || (owner && owner->machine->state == MACHINE_REAPING);
}

Sweep *leftovers_choose(const TenantLife *life, bool alive, const LedgerObject *objects, size_t n)
{
    Sweep *sweep = sweep_new(life->manager->host);
    sweep->ledger = books_ledger(life->manager->books);
    sweep->context = life->context;
    for (size_t i = 0; i < n; i++) {
        int layer = layer_of(objects[i].type);
        if (layer < 0 || !may_go(life, alive, &objects[i]))
            continue;
        sweep_add(sweep, (SweepCandidate){
                             .id = objects[i].id,
                             .layer = (unsigned)layer,
                             .unmap = objects[i].type == LEDGER_OBJECT_TYPE_IOAS,
                             .owner = objects[i].owner,
                             .machine = objects[i].machine,
                         });
    }
    return sweep;
}

bool leftovers_is_reaped(const MachineLife *machine, const LedgerObject *objects, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (machine->number != 0 && objects[i].machine == machine->number)
            return false;
    }
    return true;
}
