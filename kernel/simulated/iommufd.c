/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/simulated/iommufd.h"

#include "kernel/base/cleanup.h"
#include "kernel/base/process.h"
#include "kernel/simulated/ioas.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define SIM_MAGIC UINT64_C(0x3164662d756d6f69) /* "iomu-fd1" */
#define SIM_NAME "iommufd-simulated"
#define SIM_LINK "/memfd:" SIM_NAME

G_DEFINE_AUTOPTR_CLEANUP_FUNC(DIR, closedir)

/* A mapped table. Its mapping keeps the memfd's inode, so the number can't be reused. */
typedef struct {
    dev_t device;
    SimTable *table;
    bool open; /* seen by sim_iommufd_refresh() */
} KnownTable;

/* Inode number -> KnownTable, of every IOMMUFD that this process came across. */
static GHashTable *known_tables;

static void known_table_free(void *data)
{
    KnownTable *known = data;
    munmap(known->table, sizeof(*known->table));
    g_free(known);
}

int sim_iommufd_create(HostAccounting mode, int *ret_fd)
{
    autoclose int fd = memfd_create(SIM_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, sizeof(SimTable)) < 0)
        return -errno;
    /* Whoever gets a copy of the descriptor can't make our mapping end before the table does. */
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return -errno;
    uint64_t magic = SIM_MAGIC;
    if (pwrite(fd, &magic, sizeof(magic), 0) < 0)
        return -errno;
    SimTable *table;
    int r = sim_iommufd_get(fd, &table);
    if (r < 0)
        return r;
    table->mode = mode;
    table->lowest_free = 1;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int sim_iommufd_get(int fd, SimTable **ret_table)
{
    struct stat st;
    uint64_t magic = 0;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!known_tables)
        known_tables = g_hash_table_new_full(NULL, NULL, NULL, known_table_free);
    KnownTable *known = g_hash_table_lookup(known_tables, GSIZE_TO_POINTER(st.st_ino));
    if (known && known->device == st.st_dev) {
        *ret_table = known->table;
        return 0;
    }
    if (known || !S_ISREG(st.st_mode) || (size_t)st.st_size != sizeof(SimTable) ||
        pread(fd, &magic, sizeof(magic), 0) != sizeof(magic) || magic != SIM_MAGIC)
        return -ENOTTY;

    void *map = mmap(NULL, sizeof(SimTable), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return -errno;
    known = g_new0(KnownTable, 1);
    known->device = st.st_dev;
    known->table = map;
    g_hash_table_insert(known_tables, GSIZE_TO_POINTER(st.st_ino), known);
    *ret_table = map;
    return 0;
}

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

static bool owner_equal(const SimOwner *a, const SimOwner *b)
{
    return a->pid == b->pid && a->start_time == b->start_time;
}

static bool owner_alive(const SimOwner *owner)
{
    SimOwner now;
    return sim_owner_of(owner->pid, &now) == 0 && owner_equal(owner, &now);
}

static bool table_has_living_owner(const SimTable *table)
{
    SimOwner dead = {.pid = 0};
    for (uint32_t id = 1; id <= table->n_objects; id++) {
        const SimObject *object = &table->objects[id];
        if (object->type == 0 || owner_equal(&object->owner, &dead))
            continue;
        if (owner_alive(&object->owner))
            return true;
        dead = object->owner;
    }
    return false;
}

static gboolean known_table_is_closed(void *key, void *value, void *data)
{
    KnownTable *known = value;
    bool closed = !known->open && !table_has_living_owner(known->table);
    known->open = false;
    return closed;
}

void sim_iommufd_refresh(void)
{
    g_autoptr(DIR) dir = opendir("/proc/self/fd");
    const struct dirent *entry;
    if (!dir)
        return;
    while ((entry = readdir(dir))) {
        char target[64];
        struct stat st;
        SimTable *table;
        ssize_t n = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);
        target[n > 0 ? n : 0] = '\0';
        int fd = (int)strtol(entry->d_name, NULL, 10);
        if (!g_str_has_prefix(target, SIM_LINK) || fstat(fd, &st) < 0 ||
            sim_iommufd_get(fd, &table) < 0)
            continue;
        KnownTable *known = g_hash_table_lookup(known_tables, GSIZE_TO_POINTER(st.st_ino));
        known->open = true;
    }
    if (known_tables)
        g_hash_table_foreach_remove(known_tables, known_table_is_closed, NULL);
}

void sim_iommufd_forget(void)
{
    g_clear_pointer(&known_tables, g_hash_table_unref);
}

bool sim_iommufd_any(bool (*visit)(SimTable *table, void *data), void *data)
{
    GHashTableIter iter;
    void *value;
    if (!known_tables)
        return false;
    g_hash_table_iter_init(&iter, known_tables);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        if (visit(((KnownTable *)value)->table, data))
            return true;
    return false;
}

/* The lowest free id from 1 on, as xa_alloc() does. */
static uint32_t object_new(SimTable *table, HostObjectType type, const SimOwner *owner)
{
    uint32_t id = table->lowest_free;
    while (table->objects[id].type != 0)
        id++;
    table->objects[id] = (SimObject){.type = type + 1, .owner = *owner};
    table->lowest_free = id + 1;
    table->n_objects = MAX(table->n_objects, id);
    return id;
}

static void object_free(SimTable *table, uint32_t id)
{
    table->objects[id].type = 0;
    table->lowest_free = MIN(table->lowest_free, id);
    while (table->n_objects > 0 && table->objects[table->n_objects].type == 0)
        table->n_objects--;
}

static SimObject *table_object(SimTable *table, uint32_t id, HostObjectType type)
{
    if (id == 0 || id > table->n_objects || table->objects[id].type != type + 1)
        return NULL;
    return &table->objects[id];
}

SimObject *sim_table_ioas(SimTable *table, uint32_t id)
{
    return table_object(table, id, HOST_OBJECT_IOAS);
}

uint32_t sim_ioas_new(SimTable *table, const SimOwner *owner)
{
    return object_new(table, HOST_OBJECT_IOAS, owner);
}

uint32_t sim_hwpt_new(SimTable *table, const SimOwner *owner, uint32_t ioas)
{
    uint32_t id = object_new(table, HOST_OBJECT_HWPT, owner);
    table->objects[id].parent = ioas;
    if (table->objects[ioas].users++ == 0)
        sim_ioas_set_pinned(table, &table->objects[ioas], true);
    return id;
}

uint32_t sim_device_new(SimTable *table, const SimOwner *owner, uint32_t hwpt, const char *address)
{
    uint32_t id = object_new(table, HOST_OBJECT_DEVICE, owner);
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

/* A DEVICE goes with its process: the kernel unbinds it when the VFIO descriptor closes. Here
 * that is made up for whenever somebody looks. Whether the device is still there. */
static bool device_lives(SimTable *table, uint32_t id)
{
    SimObject *device = &table->objects[id];
    if (owner_alive(&device->owner))
        return true;
    if (device->parent != 0)
        table->objects[device->parent].users--;
    table->n_devices--;
    object_free(table, id);
    return false;
}

/* Calls device_lives() for devices with this address, and for those attached to this HWPT. */
static bool table_has_living_device(SimTable *table, const char *address, uint32_t hwpt)
{
    bool found = false;
    for (uint32_t id = 1; table->n_devices > 0 && id <= table->n_objects; id++) {
        const SimObject *object = table_object(table, id, HOST_OBJECT_DEVICE);
        if (object && ((address && strcmp(object->address, address) == 0) ||
                       (hwpt != 0 && object->parent == hwpt)))
            found |= device_lives(table, id);
    }
    return found;
}

bool sim_table_binds(SimTable *table, const char *address)
{
    return table_has_living_device(table, address, 0);
}

bool sim_ioas_attached(SimTable *table, uint32_t ioas)
{
    for (uint32_t id = 1; table->n_devices > 0 && id <= table->n_objects; id++) {
        const SimObject *hwpt = table_object(table, id, HOST_OBJECT_HWPT);
        if (hwpt && hwpt->parent == ioas && table_has_living_device(table, NULL, id))
            return true;
    }
    return false;
}

bool sim_table_has_owner(const SimTable *table, const SimOwner *owner)
{
    for (uint32_t id = 1; id <= table->n_objects; id++)
        if (table->objects[id].type != 0 && owner_equal(&table->objects[id].owner, owner))
            return true;
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

void sim_table_objects(SimTable *table, HostObject **ret_objects, size_t *ret_n)
{
    g_autofree HostObject *objects = g_new(HostObject, table->n_objects);
    size_t n = 0;
    for (uint32_t id = 1; id <= table->n_objects; id++) {
        uint32_t type = table->objects[id].type;
        if (type == 0 || (type == HOST_OBJECT_DEVICE + 1 && !device_lives(table, id)))
            continue;
        objects[n++] = (HostObject){.id = id, .type = type - 1};
    }
    *ret_objects = g_steal_pointer(&objects);
    *ret_n = n;
}

int sim_table_destroy(SimTable *table, uint32_t id)
{
    SimObject *object = id <= table->n_objects ? &table->objects[id] : NULL;
    if (!object || object->type == 0)
        return -ENOENT;
    switch (object->type - 1) {
    case HOST_OBJECT_DEVICE:
        return device_lives(table, id) ? -EBUSY : -ENOENT;
    case HOST_OBJECT_HWPT:
        if (object->users > 0 && table_has_living_device(table, NULL, id))
            return -EBUSY;
        if (--table->objects[object->parent].users == 0)
            sim_ioas_set_pinned(table, &table->objects[object->parent], false);
        break;
    default:
        if (object->users > 0)
            return -EBUSY;
        sim_ioas_clear(table, object);
    }
    object_free(table, id);
    return 0;
}

bool sim_table_has_room(const SimTable *table, uint32_t objects, uint32_t records)
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
