/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One process, for certain: a pid alone is given to the next one when its process is gone. Named
 * after systemd's struct PidRef.
 */
#pragma once

#include "kernel/base/cleanup.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct {
    pid_t pid;      /* 0: none */
    int fd;         /* pidfd, owned; -EBADF: none */
    uint64_t start; /* process_start_time() */
} PidRef;

#define PIDREF_NULL ((PidRef){.fd = -EBADF})

static inline bool pidref_is_set(const PidRef *ref)
{
    return ref->pid > 0;
}

/* Takes pidfd, also when it fails; *ret_ref is to be cleared with pidref_clear(). -ESRCH: its
 * process is gone; -EBADF: it is not a pidfd. */
int pidref_from_pidfd(int pidfd, PidRef *ret_ref);
/* The process that has that pid now, if it began at that time (0: whichever it is). -ESRCH. */
int pidref_from_pid(pid_t pid, uint64_t start, PidRef *ret_ref);
/* Closes the pidfd: *ref is PIDREF_NULL afterwards. */
void pidref_clear(PidRef *ref);
/* Whether its process has not exited yet; false for none. */
bool pidref_is_alive(const PidRef *ref);

static inline PidRef pidref_take(PidRef *ref)
{
    PidRef taken = *ref;
    *ref = PIDREF_NULL;
    return taken;
}

/* The variable's pidfd is closed when it goes out of scope. */
#define autopidref __attribute__((cleanup(pidref_clear)))
