/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A command that gets descriptors as a service gets its sockets (sd_listen_fds(3)): from 3 on,
 * with LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES in its environment.
 *
 * command_fork() makes the process, which waits until command_start() has it execute the command:
 * so iommud can be told of its pid first. If this program ends before that, the process ends, too.
 */
#pragma once

#include "dbus/iommuctl/base/signals.h"

#include <sys/types.h>

/* Exit statuses of env(1), timeout(1) and the like, beside those of the command. */
enum {
    COMMAND_FAILED = 125,    /* this program could not start it */
    COMMAND_NOT_RUN = 126,   /* it was found, and could not be run */
    COMMAND_NOT_FOUND = 127, /* there is no such command */
    COMMAND_SIGNALLED = 128, /* and the number of the signal that ended it */
};

typedef struct {
    pid_t pid; /* <= 0: none */
    int pidfd;
    int line; /* socket: a byte from command_start() starts it, an errno comes back when it can't be
               */
} Command;

#define COMMAND_NONE ((Command){.pidfd = -EBADF, .line = -EBADF})

/* The file that runs when somebody types name. -ENOENT; -EACCES: it can't be run. Freed with
 * g_free(). */
int command_find(const char *name, char **ret_path);
/* What the shell's exit status would be for such an error. */
int command_status(int error);

/* Forks a process that waits. It holds fds, and no one but the command gets them from it; names
 * are what LISTEN_FDNAMES says of them, without ':'. signals: as signals_hold() left them, undone
 * for the command. */
int command_fork(const int *fds, const char *const *names, size_t n, const char *path,
                 char *const *arguments, const Signals *signals, Command *ret_command);
/* Has the process execute the command. 0 when it runs, else the negative errno of execve() or of
 * what comes before it. */
int command_start(Command *command);
/* Waits for its end; until then it gets the signals that are held back. Its exit status, or
 * COMMAND_SIGNALLED + number. */
int command_wait(Command *command, Signals *signals);
/* Ends one that has not been started. */
void command_clear(Command *command);
