/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/ledger/unit-cgroups.h"

#include <errno.h>
#include <glib.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#define CGROUP_DIR "/sys/fs/cgroup"
#define MACHINE_SLICE "/machine.slice/"

/* A cgroup's number is the inode number of its folder. */
static int folder_id(const char *folder, uint64_t *ret_id)
{
    struct stat st;
    if (stat(folder, &st) < 0)
        return -errno;
    *ret_id = st.st_ino;
    return 0;
}

int cgroup_id(const char *path, uint64_t *ret_id)
{
    g_autofree char *folder = g_build_filename(CGROUP_DIR, path, NULL);
    return folder_id(folder, ret_id);
}

/* Below slices only: what is in a unit's cgroup has the names that the unit likes. */
static int find_below(const char *slice, const char *unit, uint64_t *ret_id)
{
    g_autofree char *folder = g_build_filename(slice, unit, NULL);
    g_autoptr(GDir) dir = NULL;
    const char *name;
    int r = folder_id(folder, ret_id);
    if (r == -ENOENT)
        dir = g_dir_open(slice, 0, NULL);
    while (r == -ENOENT && dir && (name = g_dir_read_name(dir))) {
        g_autofree char *inner = g_build_filename(slice, name, NULL);
        if (g_str_has_suffix(name, ".slice"))
            r = find_below(inner, unit, ret_id);
    }
    return r;
}

int cgroup_find_unit(const char *root, const char *unit, uint64_t *ret_id)
{
    g_autofree char *top = g_strconcat(root, CGROUP_DIR, NULL);
    if (g_str_has_suffix(unit, ".slice"))
        return -ENOENT;
    return find_below(top, unit, ret_id);
}

static bool ends_with(const char *name, size_t length, const char *suffix)
{
    size_t n = strlen(suffix);
    return length > n && strncmp(name + length - n, suffix, n) == 0;
}

/* Slices are shared by several machines, the unit in them is one's. */
char *cgroup_machine(const char *path)
{
    if (!g_str_has_prefix(path, MACHINE_SLICE))
        return NULL;
    const char *name = path + strlen(MACHINE_SLICE);
    size_t length = strcspn(name, "/");
    while (name[length] == '/' && ends_with(name, length, ".slice")) {
        name += length + 1;
        length = strcspn(name, "/");
    }
    return ends_with(name, length, ".scope") ? g_strndup(path, (size_t)(name + length - path))
                                             : NULL;
}
