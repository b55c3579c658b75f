/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/base/pidref.h"

#include "kernel/base/process.h"

int pidref_from_pidfd(int pidfd, PidRef *ret_ref)
{
    autopidref PidRef ref = {.fd = pidfd};
    int r = process_pid(ref.fd, &ref.pid);
    if (r >= 0)
        r = process_start_time(ref.pid, &ref.start);
    if (r < 0)
        return r;
    /* The start time is that of whoever had the pid when it was read, which was this process if it
     * lives now. */
    if (!pidref_is_alive(&ref))
        return -ESRCH;
    *ret_ref = pidref_take(&ref);
    return 0;
}

int pidref_from_pid(pid_t pid, uint64_t start, PidRef *ret_ref)
{
    autopidref PidRef ref = PIDREF_NULL;
    int pidfd;
    int r = process_open(pid, &pidfd);
    if (r >= 0)
        r = pidref_from_pidfd(pidfd, &ref);
    if (r < 0)
        return r;
    if (start != 0 && ref.start != start)
        return -ESRCH;
    *ret_ref = pidref_take(&ref);
    return 0;
}

void pidref_clear(PidRef *ref)
{
    close_fd(ref->fd);
    *ref = PIDREF_NULL;
}

bool pidref_is_alive(const PidRef *ref)
{
    return process_alive(ref->fd) == 1;
}
