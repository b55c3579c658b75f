/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/reaper/orphans.h"

/* The highest layer first: each of these may use those after it. */
static const LedgerObjectType layers[] = {
    LEDGER_OBJECT_TYPE_HW_QUEUE, LEDGER_OBJECT_TYPE_VEVENTQ,     LEDGER_OBJECT_TYPE_VDEVICE,
    LEDGER_OBJECT_TYPE_OTHER,    LEDGER_OBJECT_TYPE_HWPT_NESTED, LEDGER_OBJECT_TYPE_VIOMMU,
    LEDGER_OBJECT_TYPE_FAULT,    LEDGER_OBJECT_TYPE_HWPT_PAGING, LEDGER_OBJECT_TYPE_IOAS,
};

G_STATIC_ASSERT(G_N_ELEMENTS(layers) <= DESTROY_LAYERS);

/* Its layer, or -1: it never goes by hand. */
static int layer_of(LedgerObjectType type)
{
    for (size_t i = 0; i < G_N_ELEMENTS(layers); i++) {
        if (layers[i] == type)
            return (int)i;
    }
    return -1;
}

bool orphans_has_live(const Tenant *tenant)
{
    GHashTableIter iter;
    void *value;
    g_hash_table_iter_init(&iter, tenant->policy.machines);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Machine *machine = value;
        if (machine_is_live(machine) && machine->shares)
            return true;
    }
    return false;
}

static bool is_dead_machines(const Tenant *tenant, const LedgerObject *object)
{
    const Machine *owner = manager_find_machine_by_id(tenant->manager, object->machine);
    return owner && machine_is_dead(owner);
}

static bool may_go(const Tenant *tenant, bool live, const LedgerObject *object)
{
    if (object->owner_kind == LEDGER_OWNER_KIND_SERVICE)
        return false;
    if (object->owner_kind == LEDGER_OWNER_KIND_UNKNOWN)
        return !live;
    return !object->alive || is_dead_machines(tenant, object);
}

void orphans_choose(const Tenant *tenant, const LedgerObject *objects, size_t n, DestroyJob *job)
{
    bool live = orphans_has_live(tenant);
    for (size_t i = 0; i < n; i++) {
        int layer = layer_of(objects[i].type);
        if (layer < 0 || !may_go(tenant, live, &objects[i]))
            continue;
        destroy_job_add(job, (DestroyCandidate){
                                 .id = objects[i].id,
                                 .layer = (unsigned)layer,
                                 .owner = objects[i].owner,
                                 .machine = objects[i].machine,
                                 .of_dead_machine = is_dead_machines(tenant, &objects[i]),
                                 .unmap = objects[i].type == LEDGER_OBJECT_TYPE_IOAS,
                             });
    }
}

GHashTable *orphans_owners(const LedgerObject *objects, size_t n)
{
    GHashTable *owners = g_hash_table_new(NULL, NULL);
    for (size_t i = 0; i < n; i++) {
        if (objects[i].machine != 0)
            g_hash_table_add(owners, GUINT_TO_POINTER(objects[i].machine));
    }
    return owners;
}
