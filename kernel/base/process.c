/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/base/process.h"

#include "kernel/base/cleanup.h"
#include "kernel/base/file.h"
#include "kernel/base/uuid.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <limits.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* A longer command line is cut; libvirt's stay below 64 KiB and name the UUID near their start. */
#define COMMAND_LINE_MAX (1024 * 1024)
#define STATUS_MAX 32768

G_DEFINE_AUTOPTR_CLEANUP_FUNC(DIR, closedir)

int process_open(pid_t pid, int *ret_pidfd)
{
    int fd = pidfd_open(pid, 0);
    if (fd < 0)
        return -errno;
    *ret_pidfd = fd;
    return 0;
}

int process_pid(int pidfd, pid_t *ret_pid)
{
    char path[64], text[1024];
    if (pidfd < 0)
        return -EBADF;
    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
    ssize_t n = file_read(path, text, sizeof(text));
    if (n < 0)
        return n == -ENOENT ? -EBADF : (int)n;
    const char *line = strstr(text, "\nPid:");
    if (!line)
        return -EBADF;
    /* -1: dead and reaped; 0: not visible from our PID namespace. */
    long pid = strtol(line + strlen("\nPid:"), NULL, 10);
    if (pid <= 0)
        return -ESRCH;
    *ret_pid = (pid_t)pid;
    return 0;
}

int process_alive(int pidfd)
{
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    int r;
    if (pidfd < 0)
        return -EBADF;
    do {
        r = poll(&p, 1, 0);
    } while (r < 0 && errno == EINTR);
    if (r < 0)
        return -errno;
    if (p.revents & POLLNVAL)
        return -EBADF;
    return p.revents == 0;
}

int process_start_time(pid_t pid, uint64_t *ret_ticks)
{
    char path[64], text[1024];
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    ssize_t n = file_read(path, text, sizeof(text));
    if (n < 0)
        return n == -ENOENT ? -ESRCH : (int)n;
    /* The name in field 2 may hold anything, parentheses and spaces too. */
    const char *field = strrchr(text, ')');
    for (int i = 2; field && i < 22; i++)
        field = strchr(field + 1, ' ');
    if (!field)
        return -EIO;
    *ret_ticks = g_ascii_strtoull(field + 1, NULL, 10);
    return 0;
}

int process_locked(pid_t pid, uint64_t *ret_bytes)
{
    char path[64], text[STATUS_MAX];
    uint64_t kib = 0;
    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    ssize_t n = file_read(path, text, sizeof(text));
    if (n < 0)
        return n == -ENOENT ? -ESRCH : (int)n;
    /* A process that is dead or a thread of the kernel has no memory, and no such line. */
    if (text_find_number(text, "VmLck:", &kib) < 0 || kib > INT64_MAX / 1024)
        kib = 0;
    *ret_bytes = kib * 1024;
    return 0;
}

int process_lock_limit(pid_t pid, uint64_t *ret_bytes)
{
    struct rlimit limit;

    if (prlimit(pid, RLIMIT_MEMLOCK, NULL, &limit) < 0)
        return -errno;
    *ret_bytes = limit.rlim_max == RLIM_INFINITY ? UINT64_MAX : limit.rlim_max;
    return 0;
}

int process_set_lock_limit(pid_t pid, uint64_t bytes)
{
    const struct rlimit limit = {bytes, bytes};

    return prlimit(pid, RLIMIT_MEMLOCK, &limit, NULL) < 0 ? -errno : 0;
}

int process_qemu_uuid(pid_t pid, char **ret_uuid)
{
    char path[64], chunk[4096];
    snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? -ESRCH : -errno;

    g_autoptr(GString) line = g_string_new(NULL);
    ssize_t n = 1;
    while (n > 0 && line->len < COMMAND_LINE_MAX) {
        n = read(fd, chunk, sizeof(chunk));
        if (n < 0)
            return -errno;
        g_string_append_len(line, chunk, n);
    }

    /* As QEMU's lookup_opt() reads options: a second dash is skipped, the value is the argument
     * after it ("-uuid=..." is no option), and of several the last counts. Arguments end with a NUL
     * each; GString adds one for a last that was cut. */
    g_autofree char *uuid = NULL;
    bool is_value = false;
    for (const char *p = line->str; p < line->str + line->len; p += strlen(p) + 1) {
        char *value = is_value ? uuid_canonicalize(p) : NULL;
        if (value) {
            g_free(uuid);
            uuid = value;
        }
        is_value = strcmp(p, "-uuid") == 0 || strcmp(p, "--uuid") == 0;
    }
    if (!uuid)
        return -ENXIO;
    *ret_uuid = g_steal_pointer(&uuid);
    return 0;
}

/* 1 when this is the file, 0 when not, or a negative errno. */
typedef int (*FileMatch)(int dir, const char *name, const void *data);

/* Asks match about each descriptor of a process. */
static int process_find_file(const char *root, pid_t pid, FileMatch match, const void *data)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/proc/%d/fd", root, pid);
    g_autoptr(DIR) dir = opendir(path);
    if (!dir)
        return errno == ENOENT ? -ESRCH : -errno;

    const struct dirent *entry;
    while ((errno = 0, entry = readdir(dir))) {
        if (!g_ascii_isdigit(entry->d_name[0]))
            continue;
        int r = match(dirfd(dir), entry->d_name, data);
        if (r != 0)
            return r < 0 ? r : 0;
    }
    /* A process that dies meanwhile has an empty folder or none. */
    return errno == 0 || errno == ENOENT ? -ENXIO : -errno;
}

typedef struct {
    pid_t pid;
    int fd;
} SameFile;

static int match_same_file(int dir, const char *name, const void *data)
{
    const SameFile *same = data;
    long number = strtol(name, NULL, 10);
    long r =
        syscall(SYS_kcmp, (long)getpid(), (long)same->pid, (long)KCMP_FILE, (long)same->fd, number);
    if (r < 0)
        return errno == EBADF ? 0 : -errno; /* closed meanwhile */
    return r == 0;
}

int process_holds_file(const char *root, pid_t pid, int fd)
{
    if (fcntl(fd, F_GETFD) < 0)
        return -EBADF;
    SameFile same = {.pid = pid, .fd = fd};
    return process_find_file(root, pid, match_same_file, &same);
}

typedef struct {
    const char *name;
    dev_t device;
} DeviceFile;

static int match_device(int dir, const char *name, const void *data)
{
    const DeviceFile *wanted = data;
    char target[PATH_MAX];
    struct stat st;
    ssize_t n = readlinkat(dir, name, target, sizeof(target) - 1);
    if (n < 0)
        return 0;
    target[n] = '\0';
    return strstr(target, wanted->name) && fstatat(dir, name, &st, 0) == 0 && S_ISCHR(st.st_mode) &&
           st.st_rdev == wanted->device;
}

int process_holds_device(const char *root, pid_t pid, const char *name, dev_t device)
{
    DeviceFile wanted = {.name = name, .device = device};
    return process_find_file(root, pid, match_device, &wanted);
}
