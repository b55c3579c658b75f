/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/libvirt/service/leader.h"

#include "kernel/base/cleanup.h"
#include "kernel/base/process.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

static bool fail(GError **error, const char *name, const char *why)
{
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED,
                "The QEMU process of the machine %s can't be found: %s.", name, why);
    return false;
}

static bool read_pid(const char *name, pid_t *ret_pid, GError **error)
{
    const char *dir = g_getenv(LEADER_DIR_VARIABLE);
    g_autofree char *path = g_strdup_printf("%s/%s.pid", dir ? dir : LEADER_DIR, name);
    g_autofree char *text = NULL;
    g_autoptr(GError) why = NULL;
    gint64 pid;

    /* libvirt allows no slash in a name; nothing else may lead out of the folder. */
    if (strchr(name, '/'))
        return fail(error, name, "its name has a slash");
    if (!g_file_get_contents(path, &text, NULL, &why))
        return fail(error, name, why->message);
    if (!g_ascii_string_to_signed(g_strstrip(text), 10, 1, G_MAXINT32, &pid, NULL)) {
        g_autofree char *wrong = g_strdup_printf("%s holds no process id", path);
        return fail(error, name, wrong);
    }
    *ret_pid = (pid_t)pid;
    return true;
}

/* The command line must name the machine: a pid file of libvirt can be left over, and its number be
 * another process's by now. iommud can't tell that: it also takes leaders that name no UUID. */
static bool check_uuid(pid_t pid, const char *name, const char *uuid, GError **error)
{
    g_autofree char *found = NULL;
    int r = process_qemu_uuid(pid, &found);

    if (r >= 0 && g_str_equal(found, uuid))
        return true;
    if (r < 0 && r != -ENXIO)
        return fail(error, name, g_strerror(-r));
    g_autofree char *wrong =
        g_strdup_printf("the command line of process %d does not say -uuid %s", pid, uuid);
    return fail(error, name, wrong);
}

int leader_open(const char *name, const char *uuid, GError **error)
{
    autoclose int pidfd = -EBADF;
    pid_t pid = 0;

    if (!read_pid(name, &pid, error))
        return -1;
    int r = process_open(pid, &pidfd);
    if (r < 0) {
        fail(error, name, g_strerror(-r));
        return -1;
    }
    if (!check_uuid(pid, name, uuid, error))
        return -1;
    /* The command line was looked up by number: it is the pidfd's only if that still lives. */
    if (process_alive(pidfd) != 1) {
        fail(error, name, "it has exited");
        return -1;
    }
    return TAKE_FD(pidfd);
}
