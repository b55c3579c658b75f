/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A child that does nothing: a machine's process, or anybody's. */
#pragma once

#include <glib.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Ends with the test, too. */
static inline pid_t child_new(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    g_assert_cmpint(pid, >, 0);
    return pid;
}

static inline void child_kill(pid_t pid)
{
    g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
    g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
}

/* The same, for one that may be dead already: *pid is 0 then. */
static inline void child_end(pid_t *pid)
{
    if (*pid > 0)
        child_kill(*pid);
    *pid = 0;
}
