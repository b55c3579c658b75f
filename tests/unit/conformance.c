/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * iommud-conformance: the same checks against any host behind kernel/host/host.h.
 *
 *   iommud-conformance --host=simulated FILE
 *   iommud-conformance --host=linux [--device=ADDRESS]
 *
 * On the real kernel it must be root. Without --device nothing is bound to vfio-pci there, and
 * what needs a bound device is left out; the device must be one that nobody uses.
 */
#include "tests/unit/conformance.h"

#include "kernel/base/cleanup.h"
#include "kernel/simulated/host.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define MIB UINT64_C(0x100000)
#define PAGE 4096
/* Whose the IOMMUFDs are that are looked at. */
#define TENANT 3

static unsigned n_checks, n_failed, n_skipped;

void check(bool passed, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    n_checks++;
    n_failed += !passed;
    fputs(passed ? "ok - " : "not ok - ", stdout);
    vprintf(format, arguments);
    putchar('\n');
    fflush(stdout);
    va_end(arguments);
}

void check_result(int result, int wanted, const char *what)
{
    if (result == wanted)
        check(true, "%s: %s", what, wanted == 0 ? "done" : g_strerror(-wanted));
    else
        check(false, "%s: %s (%d) instead of %s (%d)", what, g_strerror(-result), result,
              g_strerror(-wanted), wanted);
}

void skip(const char *what, const char *why)
{
    n_skipped++;
    printf("ok - %s # SKIP %s\n", what, why);
    fflush(stdout);
}

int open_iommufd(Host *host)
{
    int fd = -EBADF;
    if (host->ops->iommufd_open(host, HOST_ACCOUNTING_PROCESS, &fd) < 0) {
        check(false, "open an IOMMUFD");
        exit(EXIT_FAILURE);
    }
    return fd;
}

bool find_device(Host *host, const char *address, HostDevice *ret_device)
{
    g_autofree HostDevice *devices = NULL;
    size_t n = 0;
    host->ops->devices(host, &devices, &n);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(devices[i].address, address) != 0)
            continue;
        *ret_device = devices[i];
        return true;
    }
    return false;
}

Watched watch_iommufd(Host *host, Ledger *ledger, int fd)
{
    Watched watched = {.host = host, .ledger = ledger, .fd = fd};
    int r = ledger->ops->set_limit(ledger, TENANT, LEDGER_UNLIMITED, LEDGER_COUNT_MODE_CHARGED);
    if (r == 0)
        r = ledger->ops->register_iommufd(ledger, fd, TENANT, 0, &watched.context);
    check_result(r, 0, "make an IOMMUFD known to the ledger");
    return watched;
}

LedgerObject *list_objects(const Watched *watched, size_t *ret_n)
{
    Ledger *ledger = watched->ledger;
    LedgerObject *objects = NULL;
    *ret_n = 0;
    int r = ledger->ops->objects(ledger, watched->context, &objects, ret_n);
    if (r < 0)
        check_result(r, 0, "list the objects of an IOMMUFD");
    return objects;
}

void destroy_all(const Watched *watched)
{
    size_t n;
    g_autofree LedgerObject *objects = list_objects(watched, &n);
    for (size_t i = n; i > 0; i--)
        watched->host->ops->object_destroy(watched->host, watched->fd, objects[i - 1].id);
}

static int make_memfd(uint64_t length)
{
    int fd = memfd_create("conformance", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)length) < 0) {
        perror("memfd");
        exit(EXIT_FAILURE);
    }
    return fd;
}

static void check_open(Host *host, unsigned features)
{
    autoclose int process = -EBADF, user = -EBADF;
    autoclose int null = open("/dev/null", O_RDWR | O_CLOEXEC), memfd = make_memfd(PAGE);

    check(features & HOST_FEATURE_IOMMUFD, "the host has IOMMUFD");
    check_result(host->ops->iommufd_open(host, HOST_ACCOUNTING_USER, &user), 0,
                 "open an IOMMUFD that accounts by user");
    check_result(host->ops->iommufd_open(host, HOST_ACCOUNTING_PROCESS, &process), 0,
                 "open an IOMMUFD that accounts by process");
    check(fcntl(process, F_GETFD) == FD_CLOEXEC, "it is closed on exec");
    check_result(host->ops->iommufd_check(host, process), 0, "an IOMMUFD is one");
    check_result(host->ops->iommufd_check(host, null), -ENOTTY, "/dev/null is none");
    check_result(host->ops->iommufd_check(host, memfd), -ENOTTY, "a memory file is none");
    check_result(host->ops->iommufd_check(host, -1), -EBADF, "no descriptor is none");
}

static void check_ids(Host *host)
{
    autoclose int fd = open_iommufd(host);
    uint32_t id = 0;
    bool ascending = true;
    for (uint32_t i = 1; i <= 5; i++)
        ascending &= host->ops->ioas_alloc(host, fd, &id) == 0 && id == i;
    check(ascending, "ids ascend from 1");
    check_result(host->ops->object_destroy(host, fd, 4), 0, "destroy object 4");
    check_result(host->ops->object_destroy(host, fd, 2), 0, "destroy object 2");
    check_result(host->ops->object_destroy(host, fd, 2), -ENOENT, "destroy object 2 again");
    check_result(host->ops->object_destroy(host, fd, 0), -ENOENT, "destroy object 0");
    check(host->ops->ioas_alloc(host, fd, &id) == 0 && id == 2, "the lowest free id is used: 2");
    check(host->ops->ioas_alloc(host, fd, &id) == 0 && id == 4, "then the next: 4");
    check(host->ops->ioas_alloc(host, fd, &id) == 0 && id == 6, "then a new one: 6");
}

static bool found_exactly(const Watched *watched, uint32_t first, uint32_t last)
{
    size_t n, wanted = last < first ? 0 : last - first + 1;
    g_autofree LedgerObject *objects = list_objects(watched, &n);
    bool found = n == wanted;
    for (size_t i = 0; found && i < n; i++)
        found = objects[i].id == first + i && objects[i].type == LEDGER_OBJECT_TYPE_IOAS &&
                objects[i].context == watched->context;
    return found;
}

static void check_enumeration(Host *host, Ledger *ledger)
{
    const uint32_t n = 300;
    autoclose int fd = open_iommufd(host), other_fd = open_iommufd(host);
    uint32_t id;
    for (uint32_t i = 0; i < n / 2; i++)
        host->ops->ioas_alloc(host, fd, &id);
    Watched watched = watch_iommufd(host, ledger, fd);
    Watched other = watch_iommufd(host, ledger, other_fd);
    check(watched.context != other.context, "two IOMMUFDs are two");
    check(found_exactly(&other, 1, 0), "a new one has no object");
    check(found_exactly(&watched, 1, n / 2), "what was there before it was made known is found");
    for (uint32_t i = n / 2; i < n; i++)
        host->ops->ioas_alloc(host, fd, &id);
    check(found_exactly(&watched, 1, n), "%u objects are found", n);
    check(found_exactly(&other, 1, 0), "none of them in the other");
    for (uint32_t i = 1; i < n; i++)
        host->ops->object_destroy(host, fd, i);
    check(found_exactly(&watched, n, n), "the last one is found when all below it are gone");
    destroy_all(&watched);
    check(found_exactly(&watched, 1, 0), "nothing is found when all are destroyed");
    check(watch_iommufd(host, ledger, fd).context == watched.context, "it is the same as before");
}

static void check_ranges(Host *host)
{
    autoclose int fd = open_iommufd(host);
    g_autofree HostIovaRange *ranges = NULL;
    const HostIovaRange two[] = {{0x40000000, 0x7fffffff}, {0x100000000, 0x1ffffffff}};
    const HostIovaRange empty[] = {{0x1000, 0x1000}}, backward[] = {{0x2000, 0x1000}};
    const HostIovaRange twice[] = {{0x1000, 0x2fff}, {0x2000, 0x3fff}};
    uint32_t ioas = 0;
    size_t n = 0;

    check_result(host->ops->ioas_alloc(host, fd, &ioas), 0, "allocate an IOAS");
    check_result(host->ops->ioas_iova_ranges(host, fd, ioas, &ranges, &n), 0, "its ranges");
    check(n == 1 && ranges[0].start == 0 && ranges[0].last == UINT64_MAX,
          "an IOAS without a device has all addresses");
    check_result(host->ops->ioas_iova_ranges(host, fd, ioas + 1, &ranges, &n), -ENOENT,
                 "the ranges of no IOAS");
    check_result(host->ops->ioas_allow_iovas(host, fd, ioas, two, 2), 0, "allow two ranges");
    check_result(host->ops->ioas_allow_iovas(host, fd, ioas, empty, 1), -EINVAL,
                 "allow a range of one byte");
    check_result(host->ops->ioas_allow_iovas(host, fd, ioas, backward, 1), -EINVAL,
                 "allow a range that ends before it starts");
    check_result(host->ops->ioas_allow_iovas(host, fd, ioas, twice, 2), -EINVAL,
                 "allow ranges that overlap");
    check_result(host->ops->ioas_allow_iovas(host, fd, ioas + 1, two, 2), -ENOENT,
                 "allow ranges of no IOAS");
    check_result(host->ops->ioas_allow_iovas(host, fd, ioas, NULL, 0), 0, "allow everything");
}

static int map(Host *host, int fd, uint32_t ioas, int memfd, uint64_t length, uint64_t *iova)
{
    return host->ops->ioas_map_file(host, fd, ioas, memfd, 0, length,
                                    HOST_ACCESS_READ | HOST_ACCESS_WRITE, iova);
}

static void check_map(Host *host)
{
    autoclose int fd = open_iommufd(host), memfd = make_memfd(8 * MIB);
    const HostIovaRange allowed = {0x40000000, 0x40000000 + 8 * MIB - 1};
    uint64_t first = HOST_ANY_IOVA, second = HOST_ANY_IOVA, fixed = 0x80000000;
    uint32_t ioas = 0;

    host->ops->ioas_alloc(host, fd, &ioas);
    check_result(map(host, fd, ioas, memfd, 8 * MIB, &first), 0, "map a memory file anywhere");
    check(first != HOST_ANY_IOVA && first % PAGE == 0, "it is told where");
    check_result(map(host, fd, ioas, memfd, 8 * MIB, &second), 0, "map it once more");
    check(second >= first + 8 * MIB || first >= second + 8 * MIB, "it is mapped beside");
    check_result(map(host, fd, ioas, memfd, MIB, &fixed), 0, "map it at a fixed address");
    check(fixed == 0x80000000, "it is mapped there");
    check_result(map(host, fd, ioas, memfd, PAGE, &fixed), -EEXIST, "map over it");
    fixed += MIB;
    check_result(map(host, fd, ioas, memfd, MIB, &fixed), 0, "map right behind it");
    fixed -= 2 * MIB;
    check_result(map(host, fd, ioas, memfd, 2 * MIB, &fixed), -EEXIST, "map into its start");
    fixed = UINT64_MAX - PAGE + 1;
    check_result(map(host, fd, ioas, memfd, 2 * PAGE, &fixed), -EOVERFLOW, "map past the end");

    check_result(host->ops->ioas_allow_iovas(host, fd, ioas, &allowed, 1), 0, "allow 8 MiB");
    first = second = HOST_ANY_IOVA;
    check_result(map(host, fd, ioas, memfd, 8 * MIB, &first), 0, "map 8 MiB anywhere");
    check(first == allowed.start, "there they are");
    check_result(map(host, fd, ioas, memfd, PAGE, &second), -ENOSPC, "map one more page");
}

static void check_map_refusals(Host *host)
{
    autoclose int fd = open_iommufd(host), memfd = make_memfd(MIB), sealed = make_memfd(MIB);
    autoclose int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", memfd);
    autoclose int reader = open(path, O_RDONLY | O_CLOEXEC);
    const unsigned read = HOST_ACCESS_READ, write = HOST_ACCESS_WRITE;
    uint64_t any = HOST_ANY_IOVA, odd = 0x1234;
    uint32_t ioas = 0;

    host->ops->ioas_alloc(host, fd, &ioas);
    fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE);
#define MAP(file, offset, length, access, iova)                                                    \
    host->ops->ioas_map_file(host, fd, ioas, file, offset, length, access, iova)
    check_result(MAP(memfd, 1, PAGE, read, &any), -EINVAL, "map from an odd offset");
    check_result(MAP(memfd, 0, PAGE + 1, read, &any), -EINVAL, "map an odd length");
    check_result(MAP(memfd, 0, PAGE, read, &odd), -EINVAL, "map at an odd address");
    check_result(MAP(memfd, 0, 0, read, &any), -EINVAL, "map nothing");
    check_result(MAP(memfd, 0, 2 * MIB, read, &any), -EINVAL, "map more than there is");
    check_result(MAP(memfd, PAGE, UINT64_MAX - PAGE + 1, read, &any), -EINVAL, "map 2^64 bytes");
    check_result(MAP(memfd, 0, PAGE, 0, &any), -EINVAL, "map for neither reading nor writing");
    check_result(MAP(null, 0, PAGE, read, &any), -EINVAL, "map what is no memory file");
    check_result(MAP(-1, 0, PAGE, read, &any), -EBADF, "map no file");
    check_result(MAP(reader, 0, PAGE, write, &any), -EACCES, "write through a read-only file");
    check_result(MAP(sealed, 0, PAGE, read | write, &any), -EPERM, "write to a sealed file");
    check_result(MAP(sealed, 0, PAGE, read, &any), 0, "read from a sealed file");
    ioas++;
    any = HOST_ANY_IOVA;
    check_result(MAP(memfd, 0, PAGE, read, &any), -ENOENT, "map in no IOAS");
    check(any == HOST_ANY_IOVA, "a refusal leaves the address as it was");
#undef MAP
}

static int copy(Host *host, int fd, uint32_t dst, uint32_t src, uint64_t from, uint64_t length,
                uint64_t *iova)
{
    return host->ops->ioas_copy(host, fd, dst, src, from, length, HOST_ACCESS_READ, iova);
}

static void check_copy(Host *host)
{
    autoclose int fd = open_iommufd(host), memfd = make_memfd(2 * MIB);
    uint64_t low = 16 * MIB, high = 18 * MIB, to = HOST_ANY_IOVA, gone = 0;
    uint32_t src = 0, dst = 0;

    host->ops->ioas_alloc(host, fd, &src);
    host->ops->ioas_alloc(host, fd, &dst);
    map(host, fd, src, memfd, 2 * MIB, &low);
    map(host, fd, src, memfd, 2 * MIB, &high);
    check_result(copy(host, fd, dst, src, low, 4 * MIB, &to), 0, "copy two neighbours");
    check_result(copy(host, fd, dst, src, low, 2 * MIB, &to), -EEXIST, "copy over them");
    to = 64 * MIB;
    check_result(copy(host, fd, dst, src, low + MIB, 2 * MIB, &to), 0, "copy a part of both");
    to = HOST_ANY_IOVA;
    check_result(copy(host, fd, dst, src, low, 5 * MIB, &to), -ENOENT, "copy more than there is");
    check_result(copy(host, fd, dst, src, 0, MIB, &to), -ENOENT, "copy what is not mapped");
    check_result(copy(host, fd, dst, dst + 1, low, MIB, &to), -ENOENT, "copy from no IOAS");
    check_result(copy(host, fd, dst + 1, src, low, MIB, &to), -ENOENT, "copy to no IOAS");
    check_result(copy(host, fd, dst, src, low, 0, &to), -EINVAL, "copy nothing");
    check_result(host->ops->object_destroy(host, fd, src), 0, "destroy the source");
    check_result(host->ops->ioas_unmap(host, fd, dst, 0, UINT64_MAX, &gone), 0, "unmap the copies");
    check(gone == 6 * MIB, "the copies outlived their source");
}

static void check_unmap(Host *host)
{
    autoclose int fd = open_iommufd(host), memfd = make_memfd(MIB);
    uint64_t low = 16 * MIB, high = 32 * MIB, gone = 0;
    uint32_t ioas = 0;

    host->ops->ioas_alloc(host, fd, &ioas);
#define UNMAP(iova, length) host->ops->ioas_unmap(host, fd, ioas, iova, length, &gone)
    check_result(UNMAP(0, UINT64_MAX), 0, "unmap all of nothing");
    check(gone == 0, "that was nothing");
    check_result(UNMAP(low, MIB), -ENOENT, "unmap where nothing is");
    map(host, fd, ioas, memfd, MIB, &low);
    map(host, fd, ioas, memfd, MIB, &high);
    check_result(UNMAP(low, PAGE), -ENOENT, "unmap the start of a mapping");
    check_result(UNMAP(low + PAGE, MIB), -ENOENT, "unmap the end of a mapping");
    check_result(UNMAP(low, 0), -EINVAL, "unmap no bytes");
    check_result(UNMAP(low, UINT64_MAX), -EOVERFLOW, "unmap past the end");
    check_result(UNMAP(low, MIB), 0, "unmap a mapping");
    check(gone == MIB, "that was 1 MiB");
    map(host, fd, ioas, memfd, MIB, &low);
    check_result(UNMAP(0, 256 * MIB), 0, "unmap a range with two mappings and holes");
    check(gone == 2 * MIB, "that was 2 MiB");
    map(host, fd, ioas, memfd, MIB, &low);
    check_result(UNMAP(0, UINT64_MAX), 0, "unmap all");
    check(gone == MIB, "that was 1 MiB");
    map(host, fd, ioas, memfd, MIB, &low);
    check_result(host->ops->object_destroy(host, fd, ioas), 0, "destroy an IOAS with a mapping");
    check_result(UNMAP(0, UINT64_MAX), -ENOENT, "unmap all of no IOAS");
#undef UNMAP
}

pid_t start_process(void (*run)(void *data), void *data)
{
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (run)
            run(data);
        for (;;)
            pause();
    }
    return pid;
}

void kill_process(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void check_process(Host *host)
{
    pid_t stranger = start_process(NULL, NULL);
    autoclose int fd = open_iommufd(host), other = open_iommufd(host);
    pid_t heir = start_process(NULL, NULL);
    autoclose int unknown = open_iommufd(host);
    uint64_t pinned = 1;

    check_result(host->ops->process_pinned(host, getpid(), &pinned), 0, "what we have pinned");
    check(pinned == 0, "that is nothing");
    check_result(host->ops->process_holds(host, getpid(), fd), 0, "we hold our IOMMUFD");
    check_result(host->ops->process_holds(host, heir, fd), 0,
                 "so does a process that inherited it");
    check_result(host->ops->process_holds(host, heir, other), 0, "and the other one");
    check_result(host->ops->process_holds(host, heir, unknown), -ENXIO, "but not a later one");
    check_result(host->ops->process_holds(host, stranger, fd), -ENXIO, "nor does a stranger");
    check_result(host->ops->process_holds(host, stranger, -1), -ENXIO, "nor has it any");
    kill_process(stranger);
    kill_process(heir);
    check_result(host->ops->process_holds(host, heir, fd), -ESRCH, "nor does a dead process");
    check_result(host->ops->process_pinned(host, heir, &pinned), -ESRCH, "what a dead one pinned");
}

static void check_memory(Host *host)
{
    uint64_t total = 0, pinned = 0;
    check_result(host->ops->memory_total(host, &total), 0, "how much memory there is");
    check(total >= 64 * MIB, "that is %" G_GUINT64_FORMAT " MiB", total / MIB);
    check_result(host->ops->memory_pinned(host, &pinned), 0, "how much of it is pinned");
    check(pinned <= total, "that is %" G_GUINT64_FORMAT " MiB", pinned / MIB);
}

static int run_checks(Host *host, Ledger *ledger, const char *device)
{
    unsigned features = 0;
    check_result(host->ops->features(host, &features), 0, "what the host has");
    check_open(host, features);
    check_ids(host);
    if (ledger->status.counting)
        check_enumeration(host, ledger);
    else
        skip("what is in an IOMMUFD", ledger->status.reason);
    check_ranges(host);
    if (features & HOST_FEATURE_MAP_FILE) {
        check_map(host);
        check_map_refusals(host);
        check_copy(host);
        check_unmap(host);
    } else {
        skip("mapping of files", "the host does not have it");
    }
    check_process(host);
    check_memory(host);
    check_devices(host);
    if (device) {
        check_device(host, ledger, device);
        check_ledger(host, ledger, device);
    } else {
        skip("binding of devices", "no --device");
    }
    printf("1..%u\n# %u passed, %u failed, %u skipped\n", n_checks + n_skipped, n_checks - n_failed,
           n_failed, n_skipped);
    return n_failed > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    g_autofree char *name = NULL, *device = NULL, *problem = NULL;
    g_autoptr(GError) error = NULL;
    const GOptionEntry entries[] = {
        {"host", 0, 0, G_OPTION_ARG_STRING, &name, "Which host: linux or simulated", "HOST"},
        {"device", 0, 0, G_OPTION_ARG_STRING, &device, "A PCI device to bind", "ADDRESS"},
        {NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new("[FILE]");
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        fprintf(stderr, "iommud-conformance: %s.\n", error->message);
        return 2;
    }

    Host *host = NULL;
    int r = -EINVAL;
    if (g_strcmp0(name, "linux") == 0 && argc == 1)
        r = linux_host_new("", &host);
    else if (g_strcmp0(name, "simulated") == 0 && argc == 2)
        r = simulated_host_new(argv[1], &host, &problem);
    if (r < 0) {
        fprintf(stderr, "iommud-conformance: %s\n",
                problem ? problem : "Give --host=linux, or --host=simulated and its file.");
        return 2;
    }
    const LedgerOptions options = {.descriptor = -EBADF, .guard = LEDGER_GUARD_MODE_KNOWN};
    Ledger *ledger = NULL;
    r = host->ops->ledger_open(host, &options, &ledger);
    if (r < 0) {
        fprintf(stderr, "iommud-conformance: The ledger could not be opened: %s.\n",
                g_strerror(-r));
        host_free(host);
        return EXIT_FAILURE;
    }
    int status = run_checks(host, ledger, device);
    ledger_free(ledger);
    host_free(host);
    return status;
}
