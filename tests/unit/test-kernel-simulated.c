/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The simulated host where it is more than a kernel: its file, machines that are played, a
 * restart of iommud; and what it refuses. What it shares with the real one: conformance.c. */
#include "tests/unit/child.h"
#include "tests/unit/fake-tree.h"

#include "kernel/base/cleanup.h"
#include "kernel/simulated/host.h"
#include "kernel/simulated/table.h"

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB UINT64_C(0x100000)
#define ONE "0000:01:00.0"
#define TWO "0000:02:00.0"
#define HOST_FILE                                                                                  \
    "[Host]\nMemoryMiB=1024\n"                                                                     \
    "[Device " TWO "]\nVendor=0x8086\nProduct=0x10d3\nClass=0x020000\nGroup=12\nDriver=e1000e\n"   \
    "[Device " ONE "]\nVendor=0x1b36\nProduct=0x0010\nClass=0x010802\nGroup=11\nDriver=nvme\n"

typedef struct {
    char *root;
    char *file;
    Host *host;
    Ledger *ledger; /* through which what is there is looked at */
    int fd;         /* an IOMMUFD */
    pid_t pid;
} Fixture;

/* What an earlier one kept in the descriptor, if any. */
static Ledger *ledger_new(Host *host, int descriptor)
{
    const LedgerOptions options = {.descriptor = descriptor, .guard = LEDGER_GUARD_MODE_OFF};
    Ledger *ledger = NULL;
    g_assert_cmpint(host->ops->ledger_open(host, &options, &ledger), ==, 0);
    return ledger;
}

static void set_up(Fixture *f, gconstpointer data)
{
    const char *text = data;
    f->root = tree_new();
    f->file = g_build_filename(f->root, "host.conf", NULL);
    tree_write(f->root, text ? text : HOST_FILE, "host.conf");
    g_assert_cmpint(simulated_host_new(f->file, &f->host, NULL), ==, 0);
    f->ledger = ledger_new(f->host, -EBADF);
    f->fd = -EBADF;
    f->host->ops->iommufd_open(f->host, HOST_ACCOUNTING_PROCESS, &f->fd);
    f->pid = child_new();
}

static void tear_down(Fixture *f, gconstpointer data)
{
    child_end(&f->pid);
    close_fd(f->fd);
    ledger_free(f->ledger);
    host_free(f->host);
    g_free(f->file);
    tree_remove(f->root);
}

static int play(Fixture *f, int fd, const char *device, uint64_t bytes)
{
    return simulated_host_play(f->host, f->pid, fd, &device, device ? 1 : 0, bytes);
}

static size_t count_objects(Fixture *f, int fd)
{
    g_autofree LedgerObject *objects = NULL;
    const LedgerOps *ops = f->ledger->ops;
    uint32_t context = 0;
    size_t n = 0;
    g_assert_cmpint(ops->register_iommufd(f->ledger, fd, 1, 0, &context), ==, 0);
    g_assert_cmpint(ops->objects(f->ledger, context, &objects, &n), ==, 0);
    return n;
}

static uint64_t pinned(Host *host)
{
    uint64_t bytes = 1;
    g_assert_cmpint(host->ops->memory_pinned(host, &bytes), ==, 0);
    return bytes;
}

/* The devices are in order of address, and there are two. */
static HostDevice find_one(Host *host)
{
    g_autofree HostDevice *devices = NULL;
    size_t n = 0;
    g_assert_cmpint(host->ops->devices(host, &devices, &n), ==, 0);
    g_assert_cmpuint(n, >, 0);
    g_assert_cmpstr(devices[0].address, ==, ONE);
    return devices[0];
}

static void test_file(Fixture *f, gconstpointer data)
{
    g_autofree HostDevice *devices = NULL;
    uint64_t bytes = 0;
    unsigned features = 0;
    size_t n = 0;

    g_assert_cmpint(f->host->ops->memory_total(f->host, &bytes), ==, 0);
    g_assert_cmpuint(bytes, ==, 1024 * MIB);
    g_assert_cmpint(f->host->ops->features(f->host, &features), ==, 0);
    g_assert_cmphex(features, ==, 0xf);
    g_assert_cmpint(f->host->ops->devices(f->host, &devices, &n), ==, 0);
    g_assert_cmpuint(n, ==, 2);
    g_assert_cmpstr(devices[0].address, ==, ONE);
    g_assert_cmphex(devices[0].vendor, ==, 0x1b36);
    g_assert_cmphex(devices[0].product, ==, 0x10);
    g_assert_cmphex(devices[0].class_code, ==, 0x010802);
    g_assert_cmpint(devices[0].group, ==, 11);
    g_assert_cmpstr(devices[0].driver, ==, "nvme");
    g_assert_cmpstr(devices[1].address, ==, TWO);
}

static void test_bad_files(void)
{
    static const struct {
        const char *text, *complaint; /* a word of the sentence */
    } bad[] = {
        {"[Host", "not a simulated host's file"},
        {"[Hosts]\nMemoryMiB=5\n", "[Hosts]"},
        {"[Host]\nMemory=5\n", "Memory"},
        {"[Host]\nMemoryMiB=much\n", "MemoryMiB=much"},
        {"[Host]\nMemoryMiB=-1\n", "MemoryMiB=-1"},
        {"[Host]\nMemoryMiB=18446744073709551615\n", "MemoryMiB"},
        {"[Host]\nFeatures=iommufd;teleport;\n", "teleport"},
        {"[Device 1:0.0]\n", "[Device 1:0.0]"},
        {"[Device " ONE "]\nVendor=0x12345\n", "Vendor"},
        {"[Device " ONE "]\nVendors=1\n", "Vendors"},
        {"[Device " ONE "]\nDriver=../nvme\n", "Driver"},
        {"[Device " ONE "]\nBridge=perhaps\n", "Bridge"},
    };
    char *root = tree_new();
    g_autofree char *file = g_build_filename(root, "host.conf", NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *error = NULL;
        Host *host = NULL;
        tree_write(root, bad[i].text, "host.conf");
        g_assert_cmpint(simulated_host_new(file, &host, &error), ==, -EINVAL);
        g_assert_null(host);
        g_assert_nonnull(strstr(error, bad[i].complaint));
        g_assert_nonnull(strstr(error, file));
        g_assert_true(g_str_has_suffix(error, "."));
        g_assert_cmpint(simulated_host_new(file, &host, NULL), ==, -EINVAL);
    }
    g_autofree char *error = NULL;
    Host *host = NULL;
    tree_remove(root);
    g_assert_cmpint(simulated_host_new(file, &host, &error), ==, -ENOENT);
    g_assert_nonnull(strstr(error, file));
}

static void test_play_refusals(Fixture *f, gconstpointer data)
{
    autoclose int other = -EBADF;
    const char *const twice[] = {ONE, ONE};
    pid_t dead = child_new(), pid = dead;
    child_end(&pid);

    g_assert_cmpint(play(f, f->fd, ONE, MIB), ==, -ENODEV); /* not bound to vfio-pci */
    g_assert_cmpint(f->host->ops->device_bind(f->host, ONE, "vfio-pci"), ==, 0);
    g_assert_cmpint(play(f, f->fd, "0000:7f:00.0", MIB), ==, -ENODEV);
    g_assert_cmpint(play(f, f->fd, "nonsense", MIB), ==, -EINVAL);
    g_assert_cmpint(play(f, 0, ONE, MIB), ==, -ENOTTY);
    g_assert_cmpint(play(f, f->fd, ONE, 1024 * MIB + 1), ==, -ENOMEM);
    g_assert_cmpint(play(f, f->fd, ONE, UINT64_MAX), ==, -ENOMEM);
    g_assert_cmpint(simulated_host_play(f->host, dead, f->fd, twice, 1, MIB), ==, -ESRCH);
    g_assert_cmpint(simulated_host_play(f->host, f->pid, f->fd, twice, 2, MIB), ==, -EBUSY);
    g_assert_cmpuint(count_objects(f, f->fd), ==, 0);
    g_assert_cmpuint(pinned(f->host), ==, 0);

    g_assert_cmpint(play(f, f->fd, ONE, 1000 * MIB), ==, 0);
    f->host->ops->iommufd_open(f->host, HOST_ACCOUNTING_USER, &other);
    g_assert_cmpint(play(f, other, ONE, MIB), ==, -EBUSY);
    g_assert_cmpint(play(f, f->fd, ONE, MIB), ==, -EBUSY);
    g_assert_cmpint(play(f, other, NULL, 25 * MIB), ==, -ENOMEM);
    g_assert_cmpuint(count_objects(f, other), ==, 0);
    g_assert_cmpint(play(f, other, NULL, 24 * MIB), ==, 0);
    g_assert_cmpuint(pinned(f->host), ==, 1024 * MIB);
}

static void test_two_machines(Fixture *f, gconstpointer data)
{
    Host *host = f->host;
    pid_t second = child_new();
    const char *two = TWO;
    uint64_t bytes = 0;

    host->ops->device_bind(host, ONE, "vfio-pci");
    host->ops->device_bind(host, TWO, "vfio-pci");
    g_assert_cmpint(play(f, f->fd, ONE, 100 * MIB), ==, 0);
    g_assert_cmpint(simulated_host_play(host, second, f->fd, &two, 1, 50 * MIB + 1), ==, 0);
    g_assert_cmpuint(count_objects(f, f->fd), ==, 6);
    g_assert_cmpint(host->ops->process_pinned(host, f->pid, &bytes), ==, 0);
    g_assert_cmpuint(bytes, ==, 100 * MIB);
    g_assert_cmpint(host->ops->process_pinned(host, second, &bytes), ==, 0);
    g_assert_cmpuint(bytes, ==, 50 * MIB + 4096); /* whole pages */

    child_end(&second);
    g_assert_cmpuint(count_objects(f, f->fd), ==, 5);
    g_assert_cmpint(host->ops->device_restore(host, TWO, "e1000e"), ==, 0);
    g_assert_cmpint(host->ops->device_restore(host, ONE, "nvme"), ==, -EBUSY);
    g_assert_cmpuint(pinned(host), ==, 150 * MIB + 4096);
    /* The dead one's IOAS and page table, by the ids they had. */
    g_assert_cmpint(host->ops->object_destroy(host, f->fd, 6), ==, 0);
    g_assert_cmpint(host->ops->object_destroy(host, f->fd, 5), ==, 0);
    g_assert_cmpuint(count_objects(f, f->fd), ==, 3);
    g_assert_cmpuint(pinned(host), ==, 100 * MIB);
}

/* iommud ends and is started again: its descriptors come back, its host object is a new one. */
static void test_restart(Fixture *f, gconstpointer data)
{
    HostDevice device;
    uint64_t bytes = 0;
    f->host->ops->device_bind(f->host, ONE, "vfio-pci");
    g_assert_cmpint(play(f, f->fd, ONE, 100 * MIB), ==, 0);
    autoclose int kept = dup(f->ledger->ops->descriptor(f->ledger));
    ledger_free(f->ledger);
    host_free(f->host);
    g_assert_cmpint(simulated_host_new(f->file, &f->host, NULL), ==, 0);
    f->ledger = ledger_new(f->host, kept);

    g_assert_cmpint(f->host->ops->iommufd_check(f->host, f->fd), ==, 0);
    g_assert_cmpuint(count_objects(f, f->fd), ==, 3);
    g_assert_cmpuint(pinned(f->host), ==, 100 * MIB);
    g_assert_cmpint(f->host->ops->process_pinned(f->host, f->pid, &bytes), ==, 0);
    g_assert_cmpuint(bytes, ==, 100 * MIB);
    device = find_one(f->host);
    g_assert_cmpstr(device.driver, ==, "vfio-pci");
    g_assert_cmpint(f->host->ops->device_restore(f->host, ONE, "nvme"), ==, -EBUSY);
    child_end(&f->pid);
    g_assert_cmpint(f->host->ops->device_restore(f->host, ONE, "nvme"), ==, 0);
}

/* Who was killed in the middle of a call has left what no call leaves. */
static void test_restart_in_the_middle(Fixture *f, gconstpointer data)
{
    uint64_t unmapped;
    f->host->ops->device_bind(f->host, ONE, "vfio-pci");
    g_assert_cmpint(play(f, f->fd, ONE, 100 * MIB), ==, 0);
    host_free(f->host);
    SimTable *table = mmap(NULL, sizeof(*table), PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
    g_assert_true(table != MAP_FAILED);
    for (uint32_t id = 1; id <= 3; id++)
        table->objects[id].users += 7;
    table->n_devices = table->n_objects = 0;
    table->pinned = 1;
    table->lowest_free = 3;
    table->records[++table->n_records].kind = SIM_RECORD_PAGES;
    for (uint32_t i = 1; i <= table->n_records; i++)
        if (table->records[i].kind == SIM_RECORD_PAGES)
            table->records[i].refs = table->records[i].pinners = 9;
    table->n_records--;
    munmap(table, sizeof(*table));

    g_assert_cmpint(simulated_host_new(f->file, &f->host, NULL), ==, 0);
    g_assert_cmpuint(pinned(f->host), ==, 100 * MIB);
    g_assert_cmpuint(count_objects(f, f->fd), ==, 3);
    child_end(&f->pid);
    g_assert_cmpint(f->host->ops->ioas_unmap(f->host, f->fd, 2, 0, UINT64_MAX, &unmapped), ==, 0);
    g_assert_cmpuint(pinned(f->host), ==, 0);
    g_assert_cmpint(f->host->ops->object_destroy(f->host, f->fd, 3), ==, 0);
    g_assert_cmpint(f->host->ops->object_destroy(f->host, f->fd, 2), ==, 0);
    g_assert_cmpuint(count_objects(f, f->fd), ==, 0);
}

/* The last descriptor frees everything, but a living machine has one of its own. */
static void test_close(Fixture *f, gconstpointer data)
{
    g_assert_cmpint(play(f, f->fd, NULL, 100 * MIB), ==, 0);
    int copy = dup(f->fd);
    f->fd = close_fd(f->fd);
    g_assert_cmpuint(pinned(f->host), ==, 100 * MIB);
    close_fd(copy);
    g_assert_cmpuint(pinned(f->host), ==, 100 * MIB);
    g_assert_cmpint(f->host->ops->process_holds(f->host, f->pid, -1), ==, 0);
    child_end(&f->pid);
    g_assert_cmpuint(pinned(f->host), ==, 0);
}

/* What is mapped twice by a copy is pinned once, as long as one of both is there. */
static void test_copy_pins_once(Fixture *f, gconstpointer data)
{
    Host *host = f->host;
    autoclose int memfd = memfd_create("test", MFD_CLOEXEC);
    uint64_t first = HOST_ANY_IOVA, to = 512 * MIB, gone = 0;
    uint32_t ioas = 0;
    g_assert_cmpint(ftruncate(memfd, (off_t)(8 * MIB)), ==, 0);
    g_assert_cmpint(play(f, f->fd, NULL, 0), ==, 0); /* IOAS 1 with a page table */
    g_assert_cmpint(host->ops->ioas_alloc(host, f->fd, &ioas), ==, 0);
    g_assert_cmpint(
        host->ops->ioas_map_file(host, f->fd, ioas, memfd, 0, 8 * MIB, HOST_ACCESS_READ, &first),
        ==, 0);
    g_assert_cmpuint(pinned(host), ==, 0); /* no page table, nothing pinned */
    for (int i = 0; i < 2; i++, to += 8 * MIB)
        g_assert_cmpint(
            host->ops->ioas_copy(host, f->fd, 1, ioas, first, 8 * MIB, HOST_ACCESS_READ, &to), ==,
            0);
    g_assert_cmpuint(pinned(host), ==, 8 * MIB);
    g_assert_cmpint(host->ops->object_destroy(host, f->fd, ioas), ==, 0);
    g_assert_cmpuint(pinned(host), ==, 8 * MIB);
    g_assert_cmpint(host->ops->ioas_unmap(host, f->fd, 1, 512 * MIB, 8 * MIB, &gone), ==, 0);
    g_assert_cmpuint(pinned(host), ==, 8 * MIB);
    g_assert_cmpint(host->ops->ioas_unmap(host, f->fd, 1, 520 * MIB, 8 * MIB, &gone), ==, 0);
    g_assert_cmpuint(pinned(host), ==, 0);
}

static void test_no_features(Fixture *f, gconstpointer data)
{
    HostDevice device;
    int fd = -EBADF;
    unsigned features = 1;
    g_assert_cmpint(f->host->ops->features(f->host, &features), ==, 0);
    g_assert_cmphex(features, ==, HOST_FEATURE_IOMMU);
    g_assert_cmpint(f->host->ops->iommufd_open(f->host, HOST_ACCOUNTING_USER, &fd), ==, -ENOENT);
    g_assert_cmpint(f->host->ops->device_bind(f->host, ONE, "vfio-pci"), ==, 0);
    device = find_one(f->host);
    g_assert_cmpstr(device.cdev, ==, "");
}

static void test_no_map_file(Fixture *f, gconstpointer data)
{
    uint64_t iova = HOST_ANY_IOVA;
    uint32_t ioas = 0;
    g_assert_cmpint(f->host->ops->ioas_alloc(f->host, f->fd, &ioas), ==, 0);
    g_assert_cmpint(
        f->host->ops->ioas_map_file(f->host, f->fd, ioas, f->fd, 0, 4096, HOST_ACCESS_READ, &iova),
        ==, -EOPNOTSUPP);
}

static void *allocate_many(void *data)
{
    Fixture *f = data;
    for (int i = 0; i < 500; i++) {
        uint32_t id = 0;
        g_assert_cmpint(f->host->ops->ioas_alloc(f->host, f->fd, &id), ==, 0);
        if (i % 2 == 0)
            g_assert_cmpint(f->host->ops->object_destroy(f->host, f->fd, id), ==, 0);
    }
    return NULL;
}

static void test_threads(Fixture *f, gconstpointer data)
{
    GThread *threads[4];
    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("allocate", allocate_many, f);
    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    g_assert_cmpuint(count_objects(f, f->fd), ==, 4 * 250);
}

static void test_full(Fixture *f, gconstpointer data)
{
    uint32_t id = 0;
    int r;
    while ((r = f->host->ops->ioas_alloc(f->host, f->fd, &id)) == 0)
        ;
    g_assert_cmpint(r, ==, -ENOMEM);
    g_assert_cmpuint(id, ==, 65535);
    g_assert_cmpint(play(f, f->fd, NULL, MIB), ==, -ENOMEM);
    g_assert_cmpint(f->host->ops->object_destroy(f->host, f->fd, 7), ==, 0);
    g_assert_cmpint(f->host->ops->object_destroy(f->host, f->fd, 9), ==, 0);
    g_assert_cmpint(play(f, f->fd, NULL, MIB), ==, 0);
    g_assert_cmpuint(count_objects(f, f->fd), ==, 65535);
}

static uint64_t memory_used(int fd)
{
    struct stat st;
    g_assert_cmpint(fstat(fd, &st), ==, 0);
    return (uint64_t)st.st_blocks * 512;
}

/* The figures that the rest of the project counts on: of IOMMUFDs, and of what a ledger that finds
 * them knows as well. */
static void test_size(Fixture *f, gconstpointer data)
{
    uint64_t used = 0, known = 0;
    int fds[100];
    g_clear_pointer(&f->ledger, ledger_free);
    for (size_t i = 0; i < G_N_ELEMENTS(fds); i++) {
        f->host->ops->iommufd_open(f->host, HOST_ACCOUNTING_PROCESS, &fds[i]);
        g_assert_cmpint(play(f, fds[i], NULL, 4096), ==, 0);
        used += memory_used(fds[i]);
    }
    g_assert_cmpuint(used, <=, MIB);
    for (int i = 0; i < 10000; i++)
        g_assert_cmpint(play(f, f->fd, NULL, 4096), ==, 0);
    g_assert_cmpuint(memory_used(f->fd), <=, 2 * MIB);

    f->ledger = ledger_new(f->host, -EBADF);
    for (size_t i = 0; i < G_N_ELEMENTS(fds); i++) {
        g_assert_cmpuint(count_objects(f, fds[i]), ==, 2);
        known += memory_used(fds[i]);
        close(fds[i]);
    }
    g_assert_cmpuint(known, <=, 2 * MIB);
    g_assert_cmpuint(count_objects(f, f->fd), ==, 20000);
    g_assert_cmpuint(memory_used(f->fd), <=, 4 * MIB);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, text, function) g_test_add(path, Fixture, text, set_up, function, tear_down)
    ADD("/kernel/simulated/file", NULL, test_file);
    g_test_add_func("/kernel/simulated/bad-files", test_bad_files);
    ADD("/kernel/simulated/play-refusals", NULL, test_play_refusals);
    ADD("/kernel/simulated/two-machines", NULL, test_two_machines);
    ADD("/kernel/simulated/restart", NULL, test_restart);
    ADD("/kernel/simulated/restart-in-the-middle", NULL, test_restart_in_the_middle);
    ADD("/kernel/simulated/close", NULL, test_close);
    ADD("/kernel/simulated/copy-pins-once", NULL, test_copy_pins_once);
    ADD("/kernel/simulated/no-features", "[Host]\nFeatures=iommu;\n[Device " ONE "]\nDriver=nvme\n",
        test_no_features);
    ADD("/kernel/simulated/no-map-file", "[Host]\nFeatures=iommufd;\n", test_no_map_file);
    ADD("/kernel/simulated/threads", NULL, test_threads);
    ADD("/kernel/simulated/full", NULL, test_full);
    ADD("/kernel/simulated/size", NULL, test_size);
    return g_test_run();
}
