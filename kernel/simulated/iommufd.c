/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/simulated/iommufd.h"

#include "kernel/base/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdio.h>
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

int sim_iommufd_create(int *ret_fd)
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
    sim_table_repair(map);
    sim_table_note_opened(map);
    *ret_table = map;
    return 0;
}

static gboolean known_table_is_closed(void *key, void *value, void *data)
{
    KnownTable *known = value;
    bool closed = !known->open && !sim_table_has_living_owner(known->table);
    known->open = false;
    if (closed)
        sim_table_note_closed(known->table);
    return closed;
}

/* Comes across the IOMMUFDs in a process's folder of descriptors, and marks them as open. */
static void look_into(const char *folder)
{
    g_autoptr(DIR) dir = opendir(folder);
    const struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        char target[64];
        struct stat st;
        SimTable *table;
        ssize_t n = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);
        target[n > 0 ? n : 0] = '\0';
        if (!g_str_has_prefix(target, SIM_LINK))
            continue;
        autoclose int fd = openat(dirfd(dir), entry->d_name, O_RDWR | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0 || sim_iommufd_get(fd, &table) < 0)
            continue;
        KnownTable *known = g_hash_table_lookup(known_tables, GSIZE_TO_POINTER(st.st_ino));
        known->open = true;
    }
}

void sim_iommufd_find_of(pid_t pid)
{
    char folder[32];
    snprintf(folder, sizeof(folder), "/proc/%d/fd", (int)pid);
    look_into(folder);
}

void sim_iommufd_refresh(void)
{
    look_into("/proc/self/fd");
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
