/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Processes, real ones; and what the linux host reads of procfs, in a tree of files. */
#include "tests/unit/child.h"
#include "tests/unit/fake-tree.h"

#include "kernel/base/cleanup.h"
#include "kernel/host/host.h"
#include "kernel/base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#define UUID "6BA7B810-9dad-11d1-80b4-00c04fd430c8"
#define OTHER_UUID "7ba7b810-9dad-11d1-80b4-00c04fd430c8"

static void test_pidfd(void)
{
    autoclose int pidfd = -EBADF, null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    pid_t pid = child_new(), behind = 0;
    siginfo_t info;

    g_assert_cmpint(process_open(pid, &pidfd), ==, 0);
    g_assert_cmpint(fcntl(pidfd, F_GETFD), ==, FD_CLOEXEC);
    g_assert_cmpint(process_pid(pidfd, &behind), ==, 0);
    g_assert_cmpint(behind, ==, pid);
    g_assert_cmpint(process_alive(pidfd), ==, 1);

    kill(pid, SIGKILL);
    g_assert_cmpint(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), ==, 0);
    g_assert_cmpint(process_alive(pidfd), ==, 0); /* dead, though its parent does not know yet */
    child_kill(pid);
    g_assert_cmpint(process_alive(pidfd), ==, 0);
    g_assert_cmpint(process_pid(pidfd, &behind), ==, -ESRCH);

    g_assert_cmpint(process_open(0, &behind), ==, -EINVAL);
    g_assert_cmpint(process_open(-5, &behind), ==, -EINVAL);
    g_assert_cmpint(process_open(pid, &behind), ==, -ESRCH);
    g_assert_cmpint(process_pid(null, &behind), ==, -EBADF);
    g_assert_cmpint(process_pid(-1, &behind), ==, -EBADF);
    g_assert_cmpint(process_pid(9999, &behind), ==, -EBADF);
    g_assert_cmpint(process_alive(-1), ==, -EBADF);
    g_assert_cmpint(process_alive(9999), ==, -EBADF);
}

static void test_start_time(void)
{
    uint64_t ours = 0, again = 0, other = 0;
    char name[16] = "";
    g_assert_cmpint(process_start_time(getpid(), &ours), ==, 0);
    g_usleep(50 * 1000); /* some ticks of the clock */
    pid_t pid = child_new();
    g_assert_cmpint(process_start_time(pid, &other), ==, 0);
    g_assert_cmpuint(ours, <, other);

    /* A name that looks like the fields behind it. */
    prctl(PR_GET_NAME, name);
    prctl(PR_SET_NAME, ") R 1 (2 3");
    g_assert_cmpint(process_start_time(getpid(), &again), ==, 0);
    prctl(PR_SET_NAME, name);
    g_assert_cmpuint(again, ==, ours);

    child_kill(pid);
    g_assert_cmpint(process_start_time(pid, &other), ==, -ESRCH);
}

static void test_locked(void)
{
    uint64_t before = 0, bytes = 0;
#ifdef __SANITIZE_ADDRESS__
    g_test_skip("AddressSanitizer makes mlock() do nothing");
    return;
#endif
    g_assert_cmpint(process_locked(getpid(), &before), ==, 0);
    void *memory = mmap(NULL, 65536, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert_cmpint(mlock(memory, 65536), ==, 0);
    g_assert_cmpint(process_locked(getpid(), &bytes), ==, 0);
    g_assert_cmpuint(bytes, ==, before + 65536);
    munmap(memory, 65536);
    pid_t pid = child_new();
    child_kill(pid);
    g_assert_cmpint(process_locked(pid, &bytes), ==, -ESRCH);
}

/* A shell that waits, with these arguments in its command line. */
static pid_t shell_new(const char *const *arguments, int *ret_stdin)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_autoptr(GError) error = NULL;
    GPid pid;
    g_ptr_array_add(argv, (char *)"sh");
    g_ptr_array_add(argv, (char *)"-c");
    g_ptr_array_add(argv, (char *)"read line");
    for (; *arguments; arguments++)
        g_ptr_array_add(argv, (char *)*arguments);
    g_ptr_array_add(argv, NULL);
    g_spawn_async_with_pipes(NULL, (char **)argv->pdata, NULL,
                             G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &pid,
                             ret_stdin, NULL, NULL, &error);
    g_assert_no_error(error);
    return pid;
}

static void assert_uuid(const char *const *arguments, int wanted, const char *wanted_uuid)
{
    autoclose int end = -EBADF;
    g_autofree char *uuid = NULL;
    pid_t pid = shell_new(arguments, &end);
    g_assert_cmpint(process_qemu_uuid(pid, &uuid), ==, wanted);
    g_assert_cmpstr(uuid, ==, wanted_uuid);
    child_kill(pid);
}

static void test_qemu_uuid(void)
{
    g_autofree char *lower = g_ascii_strdown(UUID, -1);
    g_autofree char *uuid = NULL, *long_argument = g_strnfill(100000, 'x');
    const char *const plain[] = {"qemu", "-name", "web-1", "-uuid", UUID, "-smp", "2", NULL};
    const char *const two_dashes[] = {"qemu", "--uuid", UUID, NULL};
    const char *const far[] = {"qemu", long_argument, "-uuid", UUID, NULL};
    const char *const last[] = {"qemu", "-uuid", OTHER_UUID, "-smp", "2", "--uuid", UUID, NULL};
    const char *const equals[] = {"qemu", "-uuid=" UUID, "--uuid=" UUID, NULL};
    const char *const dashes[] = {"qemu", "---uuid", UUID, "uuid", UUID, NULL};
    const char *const none[] = {"qemu", "-name", UUID, NULL};
    const char *const cut[] = {"qemu", "-name", UUID, "-uuid", NULL};
    const char *const wrong[] = {"qemu", "-uuid", "6ba7b810", NULL};
    const char *const shape[] = {"qemu", "-uuid", "6ba7b8109dad11d180b400c04fd430c8----", NULL};

    assert_uuid(plain, 0, lower);
    assert_uuid(two_dashes, 0, lower);
    assert_uuid(far, 0, lower);
    assert_uuid(last, 0, lower);
    assert_uuid(equals, -ENXIO, NULL);
    assert_uuid(dashes, -ENXIO, NULL);
    assert_uuid(none, -ENXIO, NULL);
    assert_uuid(cut, -ENXIO, NULL);
    assert_uuid(wrong, -ENXIO, NULL);
    assert_uuid(shape, -ENXIO, NULL);
    pid_t pid = child_new();
    child_kill(pid);
    g_assert_cmpint(process_qemu_uuid(pid, &uuid), ==, -ESRCH);
}

static void test_holds(void)
{
    autoclose int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    autoclose int again = -EBADF;
    pid_t pid = child_new();
    again = open("/dev/null", O_RDONLY | O_CLOEXEC);

    g_assert_cmpint(process_holds_file("", pid, null), ==, 0);
    g_assert_cmpint(process_holds_file("", pid, again), ==, -ENXIO); /* another open of the file */
    g_assert_cmpint(process_holds_file("", pid, -1), ==, -EBADF);
    g_assert_cmpint(process_holds_device("", pid, "null", makedev(1, 3)), ==, 0);
    g_assert_cmpint(process_holds_device("", pid, "null", makedev(1, 99)), ==, -ENXIO);
    g_assert_cmpint(process_holds_device("", pid, "vfio", makedev(1, 3)), ==, -ENXIO);
    child_kill(pid);
    g_assert_cmpint(process_holds_file("", pid, null), ==, -ESRCH);
}

typedef struct {
    char *root;
    Host *host;
} Fixture;

static void fixture_set_up(Fixture *fixture, gconstpointer data)
{
    fixture->root = tree_new();
    g_assert_cmpint(linux_host_new(fixture->root, &fixture->host), ==, 0);
}

static void fixture_tear_down(Fixture *fixture, gconstpointer data)
{
    host_free(fixture->host);
    tree_remove(fixture->root);
}

static void test_pinned(Fixture *fixture, gconstpointer data)
{
    Host *host = fixture->host;
    uint64_t bytes = 1;
    tree_write(fixture->root,
               "Name:\tqemu\nState:\tS (sleeping)\nVmLck:\t     0 kB\nVmPin:\t  262400 kB\n",
               "proc/10/status");
    tree_write(fixture->root, "Name:\tkthreadd\nState:\tS (sleeping)\nThreads:\t1\n",
               "proc/11/status");
    tree_write(fixture->root, "Name:\tqemu\nState:\tZ (zombie)\n", "proc/12/status");
    /* What a process shows that gave pages back which another took over from it. */
    tree_write(fixture->root,
               "Name:\tqemu\nState:\tS (sleeping)\nVmPin:\t18446744073709547520 kB\n",
               "proc/13/status");

    g_assert_cmpint(host->ops->process_pinned(host, 10, &bytes), ==, 0);
    g_assert_cmpuint(bytes, ==, UINT64_C(262400) * 1024);
    g_assert_cmpint(host->ops->process_pinned(host, 11, &bytes), ==, 0);
    g_assert_cmpuint(bytes, ==, 0);
    g_assert_cmpint(host->ops->process_pinned(host, 12, &bytes), ==, -ESRCH);
    bytes = 1;
    g_assert_cmpint(host->ops->process_pinned(host, 13, &bytes), ==, 0);
    g_assert_cmpuint(bytes, ==, 0);
    g_assert_cmpint(host->ops->process_pinned(host, 14, &bytes), ==, -ESRCH);
}

static void test_memory(Fixture *fixture, gconstpointer data)
{
    Host *host = fixture->host;
    uint64_t bytes = 1;
    g_assert_cmpint(host->ops->memory_total(host, &bytes), ==, -ENOENT);
    tree_write(fixture->root, "MemTotal:       16384 kB\nMemFree:        1024 kB\n",
               "proc/meminfo");
    g_assert_cmpint(host->ops->memory_total(host, &bytes), ==, 0);
    g_assert_cmpuint(bytes, ==, 16384 * 1024);

    tree_write(fixture->root, "nr_free_pages 5\nnr_foll_pin_released 60\n", "proc/vmstat");
    g_assert_cmpint(host->ops->memory_pinned(host, &bytes), ==, -ENXIO);
    tree_write(fixture->root,
               "nr_free_pages 5\nnr_foll_pin_acquired 100\nnr_foll_pin_released 60\n",
               "proc/vmstat");
    g_assert_cmpint(host->ops->memory_pinned(host, &bytes), ==, 0);
    g_assert_cmpuint(bytes, ==, 40 * (uint64_t)sysconf(_SC_PAGESIZE));
    tree_write(fixture->root, "nr_foll_pin_acquired 60\nnr_foll_pin_released 61\n", "proc/vmstat");
    g_assert_cmpint(host->ops->memory_pinned(host, &bytes), ==, 0);
    g_assert_cmpuint(bytes, ==, 0);
}

static void test_features(Fixture *fixture, gconstpointer data)
{
    Host *host = fixture->host;
    unsigned features = 0;
    const unsigned below = HOST_FEATURE_VFIO_CDEV | HOST_FEATURE_IOMMU;
    g_assert_cmpint(host->ops->features(host, &features), ==, 0);
    g_assert_cmphex(features & below, ==, 0);
    /* VFIO's class is in sysfs also where it has no character devices. */
    tree_write(fixture->root, "", "sys/class/vfio-dev/vfio0/uevent");
    tree_write(fixture->root, "Character devices:\n 10 misc\n\nBlock devices:\n", "proc/devices");
    g_assert_cmpint(host->ops->features(host, &features), ==, 0);
    g_assert_cmphex(features & below, ==, 0);
    tree_write(fixture->root, "Character devices:\n 10 misc\n239 vfio-dev\n\n", "proc/devices");
    tree_write(fixture->root, "DMA\n", "sys/kernel/iommu_groups/0/type");
    g_assert_cmpint(host->ops->features(host, &features), ==, 0);
    g_assert_cmphex(features & below, ==, below);
}

static void test_holds_any(Fixture *fixture, gconstpointer data)
{
    Host *host = fixture->host;
    g_autofree char *node = g_build_filename(fixture->root, "dev/iommu", NULL);
    tree_link(fixture->root, "/dev/null", "dev/iommu");
    tree_link(fixture->root, "/dev/null", "proc/10/fd/0");
    tree_link(fixture->root, node, "proc/11/fd/17");
    g_assert_cmpint(host->ops->process_holds(host, 11, -1), ==, -ENXIO); /* no such device */
    tree_write(fixture->root, "1:3\n", "sys/class/misc/iommu/dev");
    g_assert_cmpint(host->ops->process_holds(host, 10, -1), ==, -ENXIO);
    g_assert_cmpint(host->ops->process_holds(host, 11, -1), ==, 0);
    g_assert_cmpint(host->ops->process_holds(host, 12, -1), ==, -ESRCH);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/kernel/process/pidfd", test_pidfd);
    g_test_add_func("/kernel/process/start-time", test_start_time);
    g_test_add_func("/kernel/process/locked", test_locked);
    g_test_add_func("/kernel/process/qemu-uuid", test_qemu_uuid);
    g_test_add_func("/kernel/process/holds", test_holds);
#define ADD(path, function)                                                                        \
    g_test_add(path, Fixture, NULL, fixture_set_up, function, fixture_tear_down)
    ADD("/kernel/linux-host/pinned", test_pinned);
    ADD("/kernel/linux-host/memory", test_memory);
    ADD("/kernel/linux-host/features", test_features);
    ADD("/kernel/linux-host/holds-any", test_holds_any);
    return g_test_run();
}
