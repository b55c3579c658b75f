/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Owners of what GLib has no g_auto for: file descriptors. -EBADF is the empty descriptor. */
#pragma once

#include <errno.h>
#include <unistd.h>

/* Closes fd unless it is negative, keeps errno, returns -EBADF: fd = close_fd(fd). */
static inline int close_fd(int fd)
{
    if (fd >= 0) {
        int saved = errno;
        close(fd);
        errno = saved;
    }
    return -EBADF;
}

static inline void close_fdp(int *fd)
{
    *fd = close_fd(*fd);
}

static inline int take_fdp(int *fd)
{
    int taken = *fd;
    *fd = -EBADF;
    return taken;
}

/* The variable's descriptor is closed when it goes out of scope. */
#define autoclose __attribute__((cleanup(close_fdp)))
/* Gives the descriptor away: the variable becomes empty. */
#define TAKE_FD(fd) take_fdp(&(fd))
