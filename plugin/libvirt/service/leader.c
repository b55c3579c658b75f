/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/libvirt/service/leader.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

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

/* The argument after "-uuid" of a command line, or NULL. */
static const char *uuid_argument(const char *cmdline, size_t length)
{
    const char *end = cmdline + length;
    bool next = false;

    for (const char *arg = cmdline; arg < end; arg += strlen(arg) + 1) {
        if (next)
            return arg;
        next = strcmp(arg, "-uuid") == 0;
    }
    return NULL;
}

static bool check_uuid(pid_t pid, const char *name, const char *uuid, GError **error)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", pid);
    g_autofree char *cmdline = NULL;
    g_autoptr(GError) why = NULL;
    gsize length;

    if (!g_file_get_contents(path, &cmdline, &length, &why))
        return fail(error, name, why->message);
    const char *found = uuid_argument(cmdline, length);
    if (!found || g_ascii_strcasecmp(found, uuid) != 0) {
        g_autofree char *wrong =
            g_strdup_printf("the command line of process %d does not say -uuid %s", pid, uuid);
        return fail(error, name, wrong);
    }
    return true;
}

int leader_open(const char *name, const char *uuid, GError **error)
{
    pid_t pid = 0;

    if (!read_pid(name, &pid, error))
        return -1;
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0) {
        fail(error, name, g_strerror(errno));
        return -1;
    }
    /* The command line is looked up by number: it is the pidfd's only if that still lives. */
    struct pollfd alive = {.fd = pidfd, .events = POLLIN};
    if (!check_uuid(pid, name, uuid, error) ||
        (poll(&alive, 1, 0) != 0 && !fail(error, name, "it has exited"))) {
        close(pidfd);
        return -1;
    }
    return pidfd;
}
