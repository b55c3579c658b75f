/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/base/cgroup.h"

#include <errno.h>
#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define CGROUP_DIR "/sys/fs/cgroup"
#define UNIFIED "0::/"
#define MACHINE_SLICE "machine.slice/"

int cgroup_of(pid_t pid, char **ret_path)
{
    char file[64];
    g_autofree char *text = NULL;
    snprintf(file, sizeof(file), "/proc/%d/cgroup", (int)pid);
    if (!g_file_get_contents(file, &text, NULL, NULL))
        return -ENOENT;
    const char *line = g_str_has_prefix(text, UNIFIED) ? text : strstr(text, "\n" UNIFIED);
    if (!line)
        return -ENOENT;
    line = strchr(line, '/') + 1;
    *ret_path = g_strndup(line, strcspn(line, "\n"));
    return 0;
}

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

/* The slices at its beginning, which several share, and the unit in them; NULL when it has none. */
static char *unit_of(const char *path)
{
    const char *end = path;
    for (;;) {
        size_t length = strcspn(end, "/");
        g_autofree char *name = g_strndup(end, length);
        end += length;
        if (!g_str_has_suffix(name, ".slice"))
            return *name ? g_strndup(path, (size_t)(end - path)) : NULL;
        if (*end++ == '\0')
            return NULL;
    }
}

char *cgroup_unit(const char *path)
{
    g_autofree char *unit = unit_of(path);
    return unit ? g_path_get_basename(unit) : NULL;
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

char *cgroup_machine(const char *path)
{
    g_autofree char *unit = unit_of(path);
    if (!unit || !g_str_has_prefix(unit, MACHINE_SLICE) || !g_str_has_suffix(unit, ".scope"))
        return NULL;
    return g_steal_pointer(&unit);
}
