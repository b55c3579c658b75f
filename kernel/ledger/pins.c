/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/ledger/pins.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int get_pinned(const char *folder, const char *kind, const char *name)
{
    g_autofree char *path = g_build_filename(folder, kind, name, NULL);

    return bpf_obj_get(path);
}

static int open_hooks(BpfLedger *ledger, const char *version)
{
    g_autofree char *path = g_build_filename(version, "hooks", NULL);
    g_autoptr(GDir) folder = g_dir_open(path, 0, NULL);
    const char *name;

    while (folder && (name = g_dir_read_name(folder))) {
        int fd = get_pinned(version, "hooks", name);

        if (fd < 0)
            return -errno;
        g_array_append_val(ledger->hooks, fd);
    }
    return 0;
}

int pins_open(BpfLedger *ledger, const char *version)
{
    const uint32_t zero = 0;
    int r;

    for (int i = 0; i < N_MAPS; i++) {
        r = map_open(get_pinned(version, "maps", map_names[i]), &ledger->maps[i]);
        if (r < 0)
            return r;
    }
    for (int i = 0; i < N_PROGRAMS; i++) {
        ledger->programs[i] = get_pinned(version, "programs", program_names[i]);
        if (ledger->programs[i] < 0)
            return -errno;
    }
    ledger->walk_files = get_pinned(version, "programs", "walk_files");
    if (ledger->walk_files < 0)
        return -errno;
    r = open_hooks(ledger, version);
    return r < 0 ? r : map_get(ledger, MAP_LOADED, &zero, &ledger->report);
}

int pins_remove(const char *path)
{
    g_autoptr(GDir) folder = g_dir_open(path, 0, NULL);
    const char *name;
    int r = 0;

    if (!folder)
        return errno == ENOENT ? 0 : -errno;
    while ((name = g_dir_read_name(folder))) {
        g_autofree char *child = g_build_filename(path, name, NULL);

        if (g_file_test(child, G_FILE_TEST_IS_DIR) ? pins_remove(child) : unlink(child))
            r = -errno;
    }
    return rmdir(path) ? -errno : r;
}

int pins_remove_others(const char *folder, const char *version)
{
    g_autoptr(GDir) versions = g_dir_open(folder, 0, NULL);
    const char *name;
    int r = 0;

    while (versions && (name = g_dir_read_name(versions))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);

        if (strcmp(path, version) && pins_remove(path) < 0)
            r = -EIO;
    }
    return r;
}

static int pin_as(int fd, const char *folder, const char *kind, const char *name)
{
    g_autofree char *path = g_build_filename(folder, kind, name, NULL);

    return bpf_obj_pin(fd, path) ? -errno : 0;
}

static int pin_all(const BpfLedger *ledger, const GPtrArray *names, const char *folder)
{
    int r = pin_as(ledger->walk_files, folder, "programs", "walk_files");

    for (int i = 0; r >= 0 && i < N_MAPS; i++)
        r = pin_as(ledger->maps[i].fd, folder, "maps", map_names[i]);
    for (int i = 0; r >= 0 && i < N_PROGRAMS; i++)
        r = pin_as(ledger->programs[i], folder, "programs", program_names[i]);
    for (guint i = 0; r >= 0 && i < names->len; i++) {
        r = pin_as(g_array_index(ledger->hooks, int, i), folder, "hooks", names->pdata[i]);
        if (r >= 0)
            r = pin_as(g_array_index(ledger->links, int, i), folder, "links", names->pdata[i]);
    }
    return r;
}

int pins_write(const BpfLedger *ledger, const GPtrArray *names, const char *version)
{
    static const char *const kinds[] = {"maps", "programs", "hooks", "links"};
    g_autofree char *folder = g_path_get_dirname(version);
    g_autofree char *building = g_build_filename(folder, "building", NULL);
    int r = pins_remove(building);

    for (size_t i = 0; r >= 0 && i < G_N_ELEMENTS(kinds); i++) {
        g_autofree char *kind = g_build_filename(building, kinds[i], NULL);

        if (g_mkdir_with_parents(kind, 0700))
            r = -errno;
    }
    if (r >= 0)
        r = pin_all(ledger, names, building);
    if (r >= 0 && rename(building, version))
        r = -errno;
    return r;
}
