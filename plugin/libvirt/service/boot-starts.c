/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/libvirt/service/boot-starts.h"

#include "plugin/libvirt/service/leader.h"

#include <fcntl.h>
#include <glib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* By then the agent is there, and what is tried later can start. */
#define BOOT_SECONDS 600

static char *mark_path(const char *uuid)
{
    const char *dir = g_getenv(BOOT_STARTS_VARIABLE);
    return g_build_filename(dir ? dir : BOOT_STARTS_DIR, uuid, NULL);
}

/* When a file of libvirt's QEMU driver was written. */
static bool written(const char *name, time_t *ret_time)
{
    const char *dir = g_getenv(LEADER_DIR_VARIABLE);
    g_autofree char *path = g_build_filename(dir ? dir : LEADER_DIR, name, NULL);
    struct stat status;

    if (stat(path, &status) < 0)
        return false;
    *ret_time = status.st_mtime;
    return true;
}

/* Each libvirtd writes its pid when its driver begins, and the first one marks the boot then. */
static bool is_boot(void)
{
    time_t began, marked;

    return written("driver.pid", &began) && written("autostarted", &marked) && marked >= began &&
           marked + BOOT_SECONDS > time(NULL);
}

void boot_start_refused(const char *uuid)
{
    g_autofree char *path = mark_path(uuid);
    g_autofree char *dir = g_path_get_dirname(path);

    if (!is_boot() || g_mkdir_with_parents(dir, 0755) < 0)
        return;
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd >= 0)
        close(fd);
}

bool boot_start_was_refused(const char *uuid)
{
    g_autofree char *path = mark_path(uuid);
    return g_file_test(path, G_FILE_TEST_EXISTS);
}
