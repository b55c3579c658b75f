/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/iommuctl/child-process.h"

#include "kernel/base/cleanup.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIRST_FD 3 /* SD_LISTEN_FDS_START */

/* What the new process is to become. */
typedef struct {
    const int *fds;
    const char *const *names;
    size_t n;
    const char *path;
    char *const *arguments;
    const Signals *signals;
} Plan;

int command_find(const char *name, char **ret_path)
{
    char *path = g_find_program_in_path(name);

    if (!path)
        return strchr(name, '/') && access(name, F_OK) == 0 ? -EACCES : -ENOENT;
    *ret_path = path;
    return 0;
}

int command_status(int error)
{
    return error == -ENOENT ? COMMAND_NOT_FOUND : COMMAND_NOT_RUN;
}

/* ---- in the new process ---- */

/* Copies beyond the numbers that are about to be given out: a descriptor may be in another's
 * place. */
static int move_away(int fd, size_t n)
{
    return fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FD + (int)n);
}

/* The only place where close-on-exec is cleared. */
static int place_fds(const Plan *plan)
{
    g_autofree int *away = g_new(int, plan->n);

    for (size_t i = 0; i < plan->n; i++) {
        away[i] = move_away(plan->fds[i], plan->n);
        if (away[i] < 0)
            return -errno;
    }
    for (size_t i = 0; i < plan->n; i++) {
        if (dup2(away[i], FIRST_FD + (int)i) < 0)
            return -errno;
    }
    return 0;
}

static void set_environment(const Plan *plan)
{
    g_autofree char *pid = g_strdup_printf("%d", (int)getpid());
    g_autofree char *count = g_strdup_printf("%zu", plan->n);
    g_autoptr(GString) names = g_string_new(NULL);

    for (size_t i = 0; i < plan->n; i++)
        g_string_append_printf(names, "%s%s", i > 0 ? ":" : "", plan->names[i]);
    setenv("LISTEN_PID", pid, 1);
    setenv("LISTEN_FDS", count, 1);
    setenv("LISTEN_FDNAMES", names->str, 1);
    /* If it is set it is the parent's: it belongs to the parent's LISTEN_PID. */
    unsetenv("LISTEN_PIDFDID");
}

/* Returns only with an error. */
static int become(const Plan *plan, int line)
{
    char word;
    int r;

    /* End of file: the parent has closed its end, and will never start the command. */
    if (read(line, &word, sizeof(word)) != sizeof(word))
        return -ECANCELED;
    r = place_fds(plan);
    if (r < 0)
        return r;
    set_environment(plan);
    sigprocmask(SIG_SETMASK, &plan->signals->before, NULL);
    execvp(plan->path, plan->arguments);
    return -errno;
}

static void G_GNUC_NORETURN run_child(const Plan *plan, int line)
{
    int away = move_away(line, plan->n);
    int error = away < 0 ? -errno : become(plan, away);

    (void)send(away < 0 ? line : away, &error, sizeof(error), MSG_NOSIGNAL);
    _exit(EXIT_FAILURE);
}

/* ---- here ---- */

static int open_pidfd(Command *command)
{
    if (command->pid < 0)
        return -errno;
    command->pidfd = pidfd_open(command->pid, 0);
    return command->pidfd < 0 ? -errno : 0;
}

int command_fork(const int *fds, const char *const *names, size_t n, const char *path,
                 char *const *arguments, const Signals *signals, Command *ret_command)
{
    Command command = COMMAND_NONE;
    int line[2];
    int r;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, line) < 0)
        return -errno;
    command.line = line[0];
    /* Who started this program may have had SIGCHLD ignored: then the kernel keeps no exit status
     * for waitpid(). */
    (void)signal(SIGCHLD, SIG_DFL);
    command.pid = fork();
    if (command.pid == 0) {
        /* With a copy of the parent's end open, the child would never read end of file when the
         * parent dies. */
        close_fd(line[0]);
        run_child(&(Plan){fds, names, n, path, arguments, signals}, line[1]);
    }
    r = open_pidfd(&command);
    close_fd(line[1]);
    if (r < 0) {
        command_clear(&command);
        return r;
    }
    *ret_command = command;
    return 0;
}

int command_start(Command *command)
{
    int error = 0;
    ssize_t n;

    /* Fails when the child was killed meanwhile: command_wait() returns by which signal. */
    (void)send(command->line, "", 1, MSG_NOSIGNAL);
    do {
        n = recv(command->line, &error, sizeof(error), MSG_WAITALL);
    } while (n < 0 && errno == EINTR);
    command->line = close_fd(command->line);
    /* End of file: execve() has succeeded and closed the child's end. */
    return n == sizeof(error) ? error : 0;
}

/* A terminal sends these to all of its foreground processes, so the command has had it already. */
static bool had_it_already(const struct signalfd_siginfo *info)
{
    return info->ssi_code == SI_KERNEL && (info->ssi_signo == SIGINT || info->ssi_signo == SIGQUIT);
}

static void pass_on(const Command *command, Signals *signals)
{
    struct signalfd_siginfo info;

    while (signals_take(signals, &info)) {
        if (!had_it_already(&info))
            (void)pidfd_send_signal(command->pidfd, (int)info.ssi_signo, NULL, 0);
    }
}

static int reap(Command *command)
{
    int status = 0;

    while (waitpid(command->pid, &status, 0) < 0 && errno == EINTR)
        ;
    command->pid = 0;
    return WIFSIGNALED(status) ? COMMAND_SIGNALLED + WTERMSIG(status) : WEXITSTATUS(status);
}

int command_wait(Command *command, Signals *signals)
{
    struct pollfd polled[] = {
        {.fd = command->pidfd, .events = POLLIN},
        {.fd = signals->fd, .events = POLLIN},
    };

    while (polled[0].revents == 0) {
        if (poll(polled, G_N_ELEMENTS(polled), -1) > 0 && polled[1].revents != 0)
            pass_on(command, signals);
    }
    return reap(command);
}

void command_clear(Command *command)
{
    command->line = close_fd(command->line);
    if (command->pid > 0)
        (void)reap(command);
    command->pidfd = close_fd(command->pidfd);
}
