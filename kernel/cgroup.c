/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/cgroup.h"

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

/* It is the inode number of its folder. */
int cgroup_id(const char *path, uint64_t *ret_id)
{
    g_autofree char *folder = g_build_filename(CGROUP_DIR, path, NULL);
    struct stat st;
    if (stat(folder, &st) < 0)
        return -errno;
    *ret_id = st.st_ino;
    return 0;
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

char *cgroup_machine(const char *path)
{
    g_autofree char *unit = unit_of(path);
    if (!unit || !g_str_has_prefix(unit, MACHINE_SLICE) || !g_str_has_suffix(unit, ".scope"))
        return NULL;
    return g_steal_pointer(&unit);
}
