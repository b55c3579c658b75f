/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A process for certain: the one that was meant, or none. */
#include "kernel/base/pidref.h"

#include "kernel/base/process.h"
#include "tests/unit/child.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void test_life(void)
{
    autopidref PidRef ref = PIDREF_NULL;
    uint64_t start;
    pid_t child = child_new();
    g_assert_false(pidref_is_set(&ref));
    g_assert_false(pidref_is_alive(&ref));
    g_assert_cmpint(pidref_from_pid(child, 0, &ref), ==, 0);
    g_assert_cmpint(process_start_time(child, &start), ==, 0);
    g_assert_true(pidref_is_set(&ref));
    g_assert_cmpint(ref.pid, ==, child);
    g_assert_cmpuint(ref.start, ==, start);
    g_assert_true(pidref_is_alive(&ref));
    child_kill(child);
    g_assert_false(pidref_is_alive(&ref));
    /* It still says whose it was. */
    g_assert_cmpint(ref.pid, ==, child);
}

/* Nobody has waited for it yet: its pid is still its own, and it is dead all the same. */
static void test_zombie(void)
{
    autopidref PidRef ref = PIDREF_NULL;
    autopidref PidRef other = PIDREF_NULL;
    siginfo_t info;
    pid_t child = child_new();
    g_assert_cmpint(pidref_from_pid(child, 0, &ref), ==, 0);
    g_assert_cmpint(kill(child, SIGKILL), ==, 0);
    g_assert_cmpint(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), ==, 0);
    g_assert_false(pidref_is_alive(&ref));
    g_assert_cmpint(pidref_from_pid(child, 0, &other), ==, -ESRCH);
    g_assert_false(pidref_is_set(&other));
    g_assert_cmpint(waitpid(child, NULL, 0), ==, child);
}

/* A pid that is given to the next process is not the old one: its start time says so. */
static void test_recycled(void)
{
    autopidref PidRef ref = PIDREF_NULL;
    uint64_t start;
    pid_t child = child_new();
    g_assert_cmpint(process_start_time(child, &start), ==, 0);
    g_assert_cmpint(pidref_from_pid(child, start + 1, &ref), ==, -ESRCH);
    g_assert_cmpint(pidref_from_pid(child, start - 1, &ref), ==, -ESRCH);
    g_assert_false(pidref_is_set(&ref));
    g_assert_cmpint(pidref_from_pid(child, start, &ref), ==, 0);
    g_assert_true(pidref_is_alive(&ref));
    child_kill(child);
}

static void test_nobody(void)
{
    autopidref PidRef ref = PIDREF_NULL;
    pid_t child = child_new();
    child_kill(child);
    g_assert_cmpint(pidref_from_pid(child, 0, &ref), ==, -ESRCH);
    g_assert_cmpint(pidref_from_pid(0, 0, &ref), <, 0);
    g_assert_cmpint(pidref_from_pid(-1, 0, &ref), <, 0);
    g_assert_cmpint(pidref_from_pidfd(-EBADF, &ref), ==, -EBADF);
    g_assert_false(pidref_is_set(&ref));
    g_assert_cmpint(ref.fd, ==, -EBADF);
}

/* What it is given is its own, also when it is of no use. */
static void test_takes_what_it_is_given(void)
{
    autopidref PidRef ref = PIDREF_NULL;
    pid_t child = child_new();
    int pidfd;
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    g_assert_cmpint(pidref_from_pidfd(null, &ref), ==, -EBADF);
    g_assert_false(is_open(null));
    g_assert_cmpint(process_open(child, &pidfd), ==, 0);
    child_kill(child);
    g_assert_cmpint(pidref_from_pidfd(pidfd, &ref), ==, -ESRCH);
    g_assert_false(is_open(pidfd));
    g_assert_false(pidref_is_set(&ref));
}

static void test_taken_and_cleared(void)
{
    pid_t child = child_new();
    PidRef ref = PIDREF_NULL;
    g_assert_cmpint(pidref_from_pid(child, 0, &ref), ==, 0);
    int fd = ref.fd;
    PidRef taken = pidref_take(&ref);
    g_assert_false(pidref_is_set(&ref));
    g_assert_cmpint(ref.fd, ==, -EBADF);
    pidref_clear(&ref);
    g_assert_true(is_open(fd));
    pidref_clear(&taken);
    g_assert_false(is_open(fd));
    g_assert_false(pidref_is_set(&taken));
    pidref_clear(&taken);
    child_kill(child);
}

int main(int argc, char *argv[])
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pidref/life", test_life);
    g_test_add_func("/pidref/zombie", test_zombie);
    g_test_add_func("/pidref/recycled", test_recycled);
    g_test_add_func("/pidref/nobody", test_nobody);
    g_test_add_func("/pidref/takes-what-it-is-given", test_takes_what_it_is_given);
    g_test_add_func("/pidref/taken-and-cleared", test_taken_and_cleared);
    return g_test_run();
}
