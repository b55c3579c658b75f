/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/simulated/objects.h"

#include "kernel/simulated/ioas.h"

#include <errno.h>

uint32_t sim_ioas_new(SimTable *table, const SimOwner *owner)
{
    return sim_object_new(table, LEDGER_OBJECT_TYPE_IOAS, owner);
}

uint32_t sim_hwpt_new(SimTable *table, const SimOwner *owner, uint32_t ioas)
{
    uint32_t id = sim_object_new(table, LEDGER_OBJECT_TYPE_HWPT_PAGING, owner);
    table->objects[id].parent = ioas;
    if (table->objects[ioas].users++ == 0)
        sim_ioas_set_pinned(table, &table->objects[ioas], true);
    return id;
}

uint32_t sim_device_new(SimTable *table, const SimOwner *owner, uint32_t hwpt, const char *address)
{
    uint32_t id = sim_object_new(table, LEDGER_OBJECT_TYPE_DEVICE, owner);
    g_strlcpy(table->objects[id].address, address, sizeof(table->objects[id].address));
    table->n_devices++;
    if (hwpt != 0)
        sim_device_attach(table, id, hwpt);
    return id;
}

void sim_device_attach(SimTable *table, uint32_t device, uint32_t hwpt)
{
    table->objects[device].parent = hwpt;
    table->objects[hwpt].users++;
}

int sim_table_destroy(SimTable *table, uint32_t id)
{
    SimObject *object = id <= table->n_objects ? &table->objects[id] : NULL;
    if (!object || object->type == 0)
        return -ENOENT;
    switch (object->type) {
    case LEDGER_OBJECT_TYPE_DEVICE:
        return sim_device_lives(table, id) ? -EBUSY : -ENOENT;
    case LEDGER_OBJECT_TYPE_HWPT_PAGING:
        if (object->users > 0 && sim_hwpt_attached(table, id))
            return -EBUSY;
        if (--table->objects[object->parent].users == 0)
            sim_ioas_set_pinned(table, &table->objects[object->parent], false);
        break;
    default:
        if (object->users > 0)
            return -EBUSY;
        sim_ioas_clear(table, object);
    }
    sim_object_free(table, id);
    return 0;
}
