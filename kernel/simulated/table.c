/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/simulated/table.h"

#include "kernel/base/cleanup.h"
#include "kernel/base/process.h"

#include <errno.h>
#include <string.h>

GMutex sim_lock;

/* ---- observer ---- */

static const SimObserver nobody;
static const SimObserver *observer = &nobody;

void sim_table_observe(const SimObserver *new)
{
    observer = new ? new : &nobody;
}

static void tell(void (*function)(SimTable *, uint32_t), SimTable *table, uint32_t index)
{
    if (function)
        function(table, index);
}

void sim_table_note_opened(SimTable *table)
{
    if (observer->opened)
        observer->opened(table);
}

void sim_table_note_closed(SimTable *table)
{
    if (observer->closed)
        observer->closed(table);
}

/* ---- owners ---- */

int sim_owner_of(pid_t pid, SimOwner *ret_owner)
{
    autoclose int pidfd = -EBADF;
    SimOwner owner = {.pid = pid};
    int r = process_open(pid, &pidfd);
    if (r < 0)
        return r;
    r = process_start_time(pid, &owner.start_time);
    if (r < 0)
        return r;
    /* The pidfd is the process whose start time was read only if that one still lives. */
    if (process_alive(pidfd) <= 0)
        return -ESRCH;
    *ret_owner = owner;
    return 0;
}

bool sim_owner_equal(const SimOwner *a, const SimOwner *b)
{
    return a->pid == b->pid && a->start_time == b->start_time;
}

bool sim_owner_alive(const SimOwner *owner)
{
    SimOwner now;
    return sim_owner_of(owner->pid, &now) == 0 && sim_owner_equal(owner, &now);
}

/* ---- objects ---- */

uint32_t sim_object_new(SimTable *table, LedgerObjectType type, const SimOwner *owner)
{
    uint32_t id = table->lowest_free;
    while (table->objects[id].type != 0)
        id++;
    table->objects[id] = (SimObject){.type = type, .owner = *owner};
    table->lowest_free = id + 1;
    table->n_objects = MAX(table->n_objects, id);
    tell(observer->object_made, table, id);
    return id;
}

void sim_object_free(SimTable *table, uint32_t id)
{
    tell(observer->object_freed, table, id);
    table->objects[id].type = 0;
    table->lowest_free = MIN(table->lowest_free, id);
    while (table->n_objects > 0 && table->objects[table->n_objects].type == 0)
        table->n_objects--;
}

SimObject *sim_table_object(SimTable *table, uint32_t id, LedgerObjectType type)
{
    if (id == 0 || id > table->n_objects || table->objects[id].type != type)
        return NULL;
    return &table->objects[id];
}

bool sim_table_has_capacity(const SimTable *table, uint32_t objects, uint32_t records)
{
    uint32_t room = SIM_OBJECTS_MAX - 1 - table->n_objects;
    for (uint32_t id = table->lowest_free; room < objects && id <= table->n_objects; id++)
        room += table->objects[id].type == 0;
    if (room < objects)
        return false;
    room = SIM_RECORDS_MAX - 1 - table->n_records;
    for (uint32_t i = table->free_records; room < records && i != 0; i = table->records[i].next)
        room++;
    return room >= records;
}

/* ---- records ---- */

uint32_t sim_record_new(SimTable *table, SimRecordKind kind)
{
    uint32_t i = table->free_records;
    if (i != 0)
        table->free_records = table->records[i].next;
    else
        i = ++table->n_records;
    table->records[i] = (SimRecord){.kind = kind};
    return i;
}

void sim_record_free(SimTable *table, uint32_t record)
{
    table->records[record].kind = SIM_RECORD_FREE;
    table->records[record].next = table->free_records;
    table->free_records = record;
}

uint32_t sim_pages_new(SimTable *table, const SimOwner *owner, uint64_t source, uint64_t offset,
                       uint64_t bytes)
{
    uint32_t i = sim_record_new(table, SIM_RECORD_PAGES);
    SimRecord *pages = &table->records[i];
    pages->pid = owner->pid;
    pages->start_time = owner->start_time;
    pages->bytes = bytes;
    pages->source = source;
    pages->offset = offset;
    tell(observer->range_made, table, i);
    return i;
}

void sim_pages_pin(SimTable *table, uint32_t pages)
{
    if (table->records[pages].pinners++ > 0)
        return;
    table->pinned += table->records[pages].bytes;
    tell(observer->range_charged, table, pages);
}

void sim_pages_unpin(SimTable *table, uint32_t pages)
{
    if (--table->records[pages].pinners > 0)
        return;
    table->pinned -= table->records[pages].bytes;
    tell(observer->range_charged, table, pages);
}

void sim_pages_hold(SimTable *table, uint32_t pages)
{
    table->records[pages].refs++;
}

void sim_pages_drop(SimTable *table, uint32_t pages)
{
    if (--table->records[pages].refs > 0)
        return;
    tell(observer->range_freed, table, pages);
    sim_record_free(table, pages);
}

/* ---- repair ---- */

static void repair_objects(SimTable *table)
{
    while (table->n_objects + 1 < SIM_OBJECTS_MAX && table->objects[table->n_objects + 1].type != 0)
        table->n_objects++;
    table->lowest_free = 1;
    table->n_devices = 0;
    for (uint32_t id = 1; id <= table->n_objects; id++)
        table->objects[id].users = 0;
    for (uint32_t id = 1; id <= table->n_objects; id++) {
        const SimObject *object = &table->objects[id];
        if (object->type != 0 && object->parent != 0)
            table->objects[object->parent].users++;
        table->n_devices += object->type == LEDGER_OBJECT_TYPE_DEVICE;
    }
}

/* Counts who holds PAGES, and marks all records that belong to something. */
static void find_records(SimTable *table, bool *used)
{
    for (uint32_t id = 1; id <= table->n_objects; id++) {
        const SimObject *ioas = sim_table_object(table, id, LEDGER_OBJECT_TYPE_IOAS);
        for (uint32_t i = ioas ? ioas->allowed : 0; i != 0; i = table->records[i].next)
            used[i] = true;
        for (uint32_t i = ioas ? ioas->areas : 0; i != 0; i = table->records[i].next) {
            SimRecord *pages = &table->records[table->records[i].pages];
            pages->refs++;
            pages->pinners += ioas->users > 0;
            used[i] = used[table->records[i].pages] = true;
        }
    }
}

static void repair_records(SimTable *table)
{
    while (table->n_records + 1 < SIM_RECORDS_MAX &&
           table->records[table->n_records + 1].kind != SIM_RECORD_FREE)
        table->n_records++;
    g_autofree bool *used = g_new0(bool, table->n_records + 1);
    for (uint32_t i = 1; i <= table->n_records; i++)
        if (table->records[i].kind == SIM_RECORD_PAGES)
            table->records[i].refs = table->records[i].pinners = 0;
    find_records(table, used);
    table->pinned = table->free_records = 0;
    for (uint32_t i = table->n_records; i > 0; i--) {
        const SimRecord *record = &table->records[i];
        if (!used[i])
            sim_record_free(table, i);
        else if (record->kind == SIM_RECORD_PAGES && record->pinners > 0)
            table->pinned += record->bytes;
    }
}

void sim_table_repair(SimTable *table)
{
    repair_objects(table);
    repair_records(table);
}

/* ---- devices ---- */

bool sim_device_lives(SimTable *table, uint32_t id)
{
    const SimObject *device = &table->objects[id];
    if (sim_owner_alive(&device->owner))
        return true;
    if (device->parent != 0)
        table->objects[device->parent].users--;
    table->n_devices--;
    sim_object_free(table, id);
    return false;
}

/* Calls sim_device_lives() for devices with this address, and for those attached to this HWPT. */
static bool has_living_device(SimTable *table, const char *address, uint32_t hwpt)
{
    bool found = false;
    for (uint32_t id = 1; table->n_devices > 0 && id <= table->n_objects; id++) {
        const SimObject *object = sim_table_object(table, id, LEDGER_OBJECT_TYPE_DEVICE);
        if (object && ((address && strcmp(object->address, address) == 0) ||
                       (hwpt != 0 && object->parent == hwpt)))
            found |= sim_device_lives(table, id);
    }
    return found;
}

bool sim_table_binds(SimTable *table, const char *address)
{
    return has_living_device(table, address, 0);
}

bool sim_hwpt_attached(SimTable *table, uint32_t hwpt)
{
    return has_living_device(table, NULL, hwpt);
}

bool sim_ioas_attached(SimTable *table, uint32_t ioas)
{
    for (uint32_t id = 1; table->n_devices > 0 && id <= table->n_objects; id++) {
        const SimObject *hwpt = sim_table_object(table, id, LEDGER_OBJECT_TYPE_HWPT_PAGING);
        if (hwpt && hwpt->parent == ioas && sim_hwpt_attached(table, id))
            return true;
    }
    return false;
}

bool sim_table_remove_dead(SimTable *table, GHashTable *pids)
{
    bool found = false;
    for (uint32_t id = 1; id <= table->n_objects; id++) {
        const SimObject *object = &table->objects[id];
        if (object->type == 0 || !g_hash_table_contains(pids, GINT_TO_POINTER(object->owner.pid)))
            continue;
        found = true;
        if (object->type == LEDGER_OBJECT_TYPE_DEVICE)
            (void)sim_device_lives(table, id);
    }
    return found;
}

/* ---- who has what ---- */

bool sim_table_has_owner(const SimTable *table, const SimOwner *owner)
{
    for (uint32_t id = 1; id <= table->n_objects; id++)
        if (table->objects[id].type != 0 && sim_owner_equal(&table->objects[id].owner, owner))
            return true;
    return false;
}

bool sim_table_has_living_owner(const SimTable *table)
{
    SimOwner dead = {.pid = 0};
    for (uint32_t id = 1; id <= table->n_objects; id++) {
        const SimObject *object = &table->objects[id];
        if (object->type == 0 || sim_owner_equal(&object->owner, &dead))
            continue;
        if (sim_owner_alive(&object->owner))
            return true;
        dead = object->owner;
    }
    return false;
}

uint64_t sim_table_pinned_by(const SimTable *table, const SimOwner *owner)
{
    uint64_t bytes = 0;
    for (uint32_t i = 1; i <= table->n_records; i++) {
        const SimRecord *record = &table->records[i];
        if (record->kind == SIM_RECORD_PAGES && record->pinners > 0 && record->pid == owner->pid &&
            record->start_time == owner->start_time)
            bytes += record->bytes;
    }
    return bytes;
}
