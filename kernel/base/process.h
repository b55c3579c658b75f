/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Processes by pidfd, so that a recycled pid is never taken for the process it once was. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/* pidfd_open(2). The caller owns the descriptor. -ESRCH: no such process; -EINVAL: pid <= 0. */
int process_open(pid_t pid, int *ret_pidfd);

/* The pid behind a pidfd, from /proc/self/fdinfo. -ESRCH: it is dead and reaped; -EBADF: not a
 * pidfd. */
int process_pid(int pidfd, pid_t *ret_pid);

/* Whether the process behind pidfd has not exited yet: 1, 0, or a negative errno. */
int process_alive(int pidfd);

/* Start time in clock ticks since boot (field 22 of /proc/PID/stat): with the pid it names a
 * process for ever. -ESRCH. */
int process_start_time(pid_t pid, uint64_t *ret_ticks);
/* Bytes of locked memory (VmLck in /proc/PID/status), which is where VFIO's own containers (type1)
 * count what they have pinned; what the process has locked itself is in it, too. -ESRCH. */
int process_locked(pid_t pid, uint64_t *ret_bytes);

/* The limit of what it may lock (RLIMIT_MEMLOCK, the hard one; UINT64_MAX: none), and the same set,
 * both hard and soft. -ESRCH, -EPERM. */
int process_lock_limit(pid_t pid, uint64_t *ret_bytes);
int process_set_lock_limit(pid_t pid, uint64_t bytes);

/* The UUID that a QEMU command line names ("-uuid UUID" or "--uuid UUID", see lookup_opt() in
 * QEMU's system/vl.c), in lower case, to be freed with g_free(). -ENXIO: the command line names
 * none; -ESRCH: no such process. It is looked up by number: whoever has a pidfd asks
 * process_alive() afterwards. */
int process_qemu_uuid(pid_t pid, char **ret_uuid);

/* Whether the process has the very open file that fd is here (KCMP_FILE): 0, -ENXIO when not,
 * -ESRCH. root stands before /proc, "" for the real one. */
int process_holds_file(const char *root, pid_t pid, int fd);

/* The same for any open file of the character device, where the link in /proc/PID/fd contains
 * name. The name keeps us from asking about files of, say, a network share that hangs. */
int process_holds_device(const char *root, pid_t pid, const char *name, dev_t device);
