/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/libvirt/agent/autostart.h"

#include "dbus/base/journal.h"
#include "plugin/libvirt/service/boot-starts.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

struct Autostart {
    char *dir;
};

Autostart *autostart_new(const char *dir)
{
    Autostart *autostart = g_new0(Autostart, 1);

    autostart->dir = g_strdup(dir);
    return autostart;
}

void autostart_free(Autostart *autostart)
{
    if (!autostart)
        return;
    g_free(autostart->dir);
    g_free(autostart);
}

static bool has_run(const Autostart *autostart, const char *uuid)
{
    g_autofree char *path = g_build_filename(autostart->dir, uuid, NULL);
    return g_file_test(path, G_FILE_TEST_EXISTS);
}

static bool write_mark(const Autostart *autostart, const char *uuid)
{
    g_autofree char *path = g_build_filename(autostart->dir, uuid, NULL);

    (void)g_mkdir_with_parents(autostart->dir, 0755);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) {
        journal_write(LOG_WARNING, NULL, NULL,
                      "%s can't be written (%s): the domain %s is not started by autostart.", path,
                      g_strerror(errno), uuid);
        return false;
    }
    close(fd);
    return true;
}

void autostart_ran(Autostart *autostart, const char *uuid)
{
    (void)write_mark(autostart, uuid);
}

bool autostart_take(Autostart *autostart, const char *uuid)
{
    return boot_start_was_refused(uuid) && !has_run(autostart, uuid) && write_mark(autostart, uuid);
}
