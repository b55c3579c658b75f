/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The simulated ledger where it is more than a kernel's: a restart, what it was made to miss, and
 * how it counts. What it shares with the real one: conformance-ledger.c. */
#include "tests/unit/child.h"
#include "tests/unit/fake-tree.h"

#include "kernel/base/cleanup.h"
#include "kernel/base/process.h"
#include "kernel/simulated/host.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB UINT64_C(0x100000)
#define TENANT 1
#define OTHER 2
#define MACHINE 7
#define FLAGS (LEDGER_CONTEXT_FLAG_GUARDED | LEDGER_CONTEXT_FLAG_SHARED)
#define HOST_FILE "[Host]\nMemoryMiB=1024\n"

typedef struct {
    char *root;
    char *file;
    Host *host;
    Ledger *ledger;
    int kept; /* its descriptor */
    int fd;   /* an IOMMUFD of the tenant */
    uint32_t context;
    pid_t pid;
    uint64_t start;
} Fixture;

static void open_ledger(Fixture *f, LedgerOptions options)
{
    options.descriptor = f->kept;
    g_assert_cmpint(f->host->ops->ledger_open(f->host, &options, &f->ledger), ==, 0);
    if (f->ledger->status.counting && f->kept < 0)
        f->kept = fcntl(f->ledger->ops->descriptor(f->ledger), F_DUPFD_CLOEXEC, 3);
}

static void make_known(Fixture *f)
{
    const LedgerOps *ops = f->ledger->ops;
    g_assert_cmpint(ops->set_limit(f->ledger, TENANT, LEDGER_UNLIMITED, LEDGER_COUNT_MODE_CHARGED),
                    ==, 0);
    g_assert_cmpint(ops->register_iommufd(f->ledger, f->fd, TENANT, FLAGS, &f->context), ==, 0);
    g_assert_cmpint(ops->add_machine(f->ledger, MACHINE, TENANT), ==, 0);
}

static void set_up(Fixture *f, gconstpointer data)
{
    const char *text = data;
    f->root = tree_new();
    f->file = g_build_filename(f->root, "host.conf", NULL);
    tree_write(f->root, text ? text : HOST_FILE, "host.conf");
    g_assert_cmpint(simulated_host_new(f->file, &f->host, NULL), ==, 0);
    f->kept = f->fd = -EBADF;
    open_ledger(f, (LedgerOptions){.guard = LEDGER_GUARD_MODE_KNOWN});
    g_assert_cmpint(f->host->ops->iommufd_open(f->host, HOST_ACCOUNTING_PROCESS, &f->fd), ==, 0);
    f->pid = child_new();
    g_assert_cmpint(process_start_time(f->pid, &f->start), ==, 0);
    if (f->ledger->status.counting)
        make_known(f);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    child_end(&f->pid);
    close_fd(f->fd);
    close_fd(f->kept);
    ledger_free(f->ledger);
    host_free(f->host);
    g_free(f->file);
    tree_remove(f->root);
}

static int play(Fixture *f, uint64_t bytes)
{
    return simulated_host_play(f->host, f->pid, f->fd, NULL, 0, bytes);
}

static int ioctl_of(Fixture *f, const char *name, uint32_t id, uint64_t bytes)
{
    uint32_t made;
    return simulated_host_ioctl(f->host, f->pid, f->fd, name, id, bytes, &made);
}

static void set_fault(Fixture *f, const char *fault, uint64_t value)
{
    g_assert_cmpint(simulated_host_set_fault(f->host, fault, value), ==, 0);
}

static LedgerTenantUsage usage_of(Fixture *f, uint32_t tenant)
{
    LedgerTenantUsage usage;
    g_assert_cmpint(f->ledger->ops->tenant_usage(f->ledger, tenant, &usage), ==, 0);
    return usage;
}

static size_t count_objects(Fixture *f)
{
    g_autofree LedgerObject *objects = NULL;
    size_t n = 0;
    g_assert_cmpint(f->ledger->ops->objects(f->ledger, f->context, &objects, &n), ==, 0);
    return n;
}

static LedgerDrift reconcile(Fixture *f)
{
    LedgerDrift drift;
    g_assert_cmpint(f->ledger->ops->reconcile(f->ledger, &drift, NULL, NULL), ==, 0);
    return drift;
}

static void note_event(const LedgerEvent *event, void *data)
{
    g_array_append_vals(data, event, 1);
}

static unsigned count_events(Fixture *f, LedgerEventKind kind)
{
    g_autoptr(GArray) events = g_array_new(FALSE, FALSE, sizeof(LedgerEvent));
    unsigned n = 0;
    g_assert_cmpint(f->ledger->ops->dispatch(f->ledger, note_event, events), ==, 0);
    for (guint i = 0; i < events->len; i++)
        n += g_array_index(events, LedgerEvent, i).kind == kind;
    return n;
}

static bool has_events(Fixture *f)
{
    struct pollfd poll_fd = {.fd = f->ledger->ops->event_fd(f->ledger), .events = POLLIN};
    return poll(&poll_fd, 1, 0) == 1;
}

/* ---- tests ---- */

static void test_restart(Fixture *f, gconstpointer data)
{
    LedgerMachine machine;
    g_assert_cmpint(play(f, 64 * MIB), ==, 0);
    g_assert_cmpint(f->ledger->ops->name_process(f->ledger, f->pid, f->start, MACHINE, TENANT), ==,
                    0);
    ledger_free(f->ledger);
    open_ledger(f, (LedgerOptions){.guard = LEDGER_GUARD_MODE_KNOWN});
    g_assert_cmpuint(usage_of(f, TENANT).pinned, ==, 64 * MIB);
    g_assert_cmpuint(usage_of(f, TENANT).used, ==, 64 * MIB);
    g_assert_cmpuint(count_objects(f), ==, 2);
    g_assert_cmpint(f->ledger->ops->machine(f->ledger, MACHINE, &machine), ==, 0);
    g_assert_cmpint(machine.pid, ==, f->pid);
    g_assert_false(has_events(f));
    /* It dies while there is no ledger open. */
    ledger_free(f->ledger);
    child_end(&f->pid);
    open_ledger(f, (LedgerOptions){.guard = LEDGER_GUARD_MODE_KNOWN});
    g_assert_true(has_events(f));
    g_assert_cmpuint(count_events(f, LEDGER_EVENT_KIND_EXIT), ==, 1);
    g_assert_cmpuint(count_events(f, LEDGER_EVENT_KIND_EXIT), ==, 0);
    g_assert_false(has_events(f));
    g_assert_cmpuint(usage_of(f, TENANT).pinned, ==, 64 * MIB);
}

static void test_iommufd_closed_meanwhile(Fixture *f, gconstpointer data)
{
    g_assert_cmpint(play(f, 64 * MIB), ==, 0);
    ledger_free(f->ledger);
    child_end(&f->pid);
    f->fd = close_fd(f->fd);
    open_ledger(f, (LedgerOptions){.guard = LEDGER_GUARD_MODE_KNOWN});
    g_assert_cmpuint(usage_of(f, TENANT).pinned, ==, 0);
    g_assert_cmpuint(usage_of(f, TENANT).used, ==, 0);
    g_assert_cmpuint(usage_of(f, TENANT).maps, ==, 1);
    g_assert_cmpuint(count_objects(f), ==, 0);
}

static void test_begun_late(Fixture *f, gconstpointer data)
{
    g_assert_cmpint(play(f, 64 * MIB), ==, 0);
    ledger_free(f->ledger);
    f->kept = close_fd(f->kept);
    open_ledger(f, (LedgerOptions){.guard = LEDGER_GUARD_MODE_KNOWN});
    make_known(f);
    g_assert_cmpuint(usage_of(f, TENANT).pinned, ==, 64 * MIB);
    g_assert_cmpuint(usage_of(f, TENANT).used, ==, 64 * MIB);
    g_assert_cmpuint(count_objects(f), ==, 2);
}

static void test_missed(Fixture *f, gconstpointer data)
{
    LedgerCounters counters;
    set_fault(f, "missed-event", 100);
    g_assert_cmpint(play(f, 64 * MIB), ==, 0);
    set_fault(f, "missed-event", 0);
    g_assert_cmpuint(usage_of(f, TENANT).pinned, ==, 0);
    g_assert_cmpuint(count_objects(f), ==, 0);
    LedgerDrift drift = reconcile(f);
    g_assert_cmpuint(drift.drift, ==, 64 * MIB);
    g_assert_cmpuint(drift.adopted, ==, 2);
    g_assert_cmpuint(usage_of(f, TENANT).pinned, ==, 64 * MIB);
    g_assert_cmpuint(count_objects(f), ==, 2);
    g_assert_cmpint(f->ledger->ops->counters(f->ledger, &counters), ==, 0);
    g_assert_cmpuint(counters.skipped, >, 0);
    g_assert_cmpuint(counters.corrected, ==, 64 * MIB);

    set_fault(f, "missed-event", 100);
    g_assert_cmpint(ioctl_of(f, "IOMMU_IOAS_UNMAP", 1, 0), ==, 0);
    set_fault(f, "missed-event", 0);
    g_assert_cmpuint(usage_of(f, TENANT).pinned, ==, 64 * MIB);
    g_assert_cmpuint(reconcile(f).drift, ==, 64 * MIB);
    g_assert_cmpuint(usage_of(f, TENANT).pinned, ==, 0);
    g_assert_cmpuint(usage_of(f, TENANT).used, ==, 0);
    g_assert_cmpuint(reconcile(f).repaired, ==, 0);
    g_assert_cmpint(simulated_host_set_fault(f->host, "teleport", 1), ==, -EINVAL);
}

static void test_count(Fixture *f, gconstpointer data)
{
    const LedgerOps *ops = f->ledger->ops;
    g_assert_cmpint(play(f, 64 * MIB), ==, 0);
    g_assert_cmpint(ioctl_of(f, "IOMMU_IOAS_MAP", 1, 64 * MIB), ==, 0);
    g_assert_cmpuint(usage_of(f, TENANT).used, ==, 128 * MIB);
    ops->set_limit(f->ledger, TENANT, 64 * MIB, LEDGER_COUNT_MODE_UNIQUE);
    g_assert_cmpuint(usage_of(f, TENANT).used, ==, 64 * MIB);
    g_assert_cmpint(ioctl_of(f, "IOMMU_IOAS_MAP", 1, 64 * MIB), ==, 0);
    g_assert_cmpint(ioctl_of(f, "IOMMU_IOAS_MAP", 1, 32 * MIB), ==, -EDQUOT);
    g_assert_cmpuint(count_events(f, LEDGER_EVENT_KIND_LIMIT), ==, 1);
    g_assert_cmpuint(usage_of(f, TENANT).pinned, ==, 192 * MIB);
    ops->set_limit(f->ledger, TENANT, LEDGER_UNLIMITED, LEDGER_COUNT_MODE_CHARGED);
    g_assert_cmpuint(usage_of(f, TENANT).used, ==, 192 * MIB);
    /* The same IOMMUFD for another tenant: all goes along. */
    ops->set_limit(f->ledger, OTHER, LEDGER_UNLIMITED, LEDGER_COUNT_MODE_UNIQUE);
    g_assert_cmpint(ops->register_iommufd(f->ledger, f->fd, OTHER, FLAGS, &f->context), ==, 0);
    g_assert_cmpuint(usage_of(f, TENANT).used, ==, 0);
    g_assert_cmpuint(usage_of(f, TENANT).pinned, ==, 0);
    g_assert_cmpuint(usage_of(f, OTHER).used, ==, 64 * MIB);
    g_assert_cmpuint(usage_of(f, OTHER).pinned, ==, 192 * MIB);
    g_assert_cmpint(ioctl_of(f, "IOMMU_IOAS_UNMAP", 1, 0), ==, 0);
    g_assert_cmpuint(usage_of(f, OTHER).used, ==, 0);
    g_assert_cmpuint(usage_of(f, OTHER).pinned, ==, 0);
}

static void test_limit_of_nobody(Fixture *f, gconstpointer data)
{
    g_assert_cmpint(f->ledger->ops->remove_tenant(f->ledger, TENANT), ==, 0);
    g_assert_cmpint(play(f, MIB), ==, -EDQUOT);
    g_assert_cmpint(play(f, 0), ==, 0);
}

static void test_room(Fixture *f, gconstpointer data)
{
    ledger_free(f->ledger);
    open_ledger(f, (LedgerOptions){.guard = LEDGER_GUARD_MODE_KNOWN, .max_objects = 8});
    make_known(f);
    unsigned made = 0;
    while (made < 100 && ioctl_of(f, "IOMMU_IOAS_ALLOC", 0, 0) == 0)
        made++;
    /* Half of it: as much is left for all others. */
    g_assert_cmpuint(made, ==, 4);
    g_assert_cmpint(ioctl_of(f, "IOMMU_IOAS_ALLOC", 0, 0), ==, -ENOMEM);
    g_assert_cmpuint(count_events(f, LEDGER_EVENT_KIND_FULL), >=, 1);
    pid_t other = child_new();
    uint32_t id;
    g_assert_cmpint(simulated_host_ioctl(f->host, other, f->fd, "IOMMU_IOAS_ALLOC", 0, 0, &id), ==,
                    0);
    child_end(&other);
}

static void test_strict(Fixture *f, gconstpointer data)
{
    LedgerCounters counters;
    g_assert_cmpint(ioctl_of(f, "IOMMU_HWPT_ALLOC", 0, 0), ==, -ENOTTY);
    ledger_free(f->ledger);
    open_ledger(f, (LedgerOptions){.guard = LEDGER_GUARD_MODE_STRICT});
    g_assert_cmpint(ioctl_of(f, "IOMMU_HWPT_ALLOC", 0, 0), ==, -EPERM);
    g_assert_cmpint(f->ledger->ops->counters(f->ledger, &counters), ==, 0);
    g_assert_cmpuint(counters.unknown_ioctls, ==, 2);
}

static void test_many_events(Fixture *f, gconstpointer data)
{
    LedgerCounters counters;
    for (int i = 0; i < 200; i++)
        g_assert_cmpint(ioctl_of(f, "IOMMU_OPTION", 0, 0), ==, -EPERM);
    unsigned heard = count_events(f, LEDGER_EVENT_KIND_REFUSED);
    g_assert_cmpint(f->ledger->ops->counters(f->ledger, &counters), ==, 0);
    g_assert_cmpuint(heard + counters.lost_events, ==, 200);
    g_assert_cmpuint(heard, <, 200);
}

static void test_none(Fixture *f, gconstpointer data)
{
    g_autofree LedgerUsage *usage = NULL;
    LedgerStatus status;
    size_t n;
    const LedgerOptions options = {.guard = LEDGER_GUARD_MODE_KNOWN};
    g_assert_false(f->ledger->status.counting);
    g_assert_false(f->ledger->status.guarding);
    g_assert_cmpstr(f->ledger->status.reason, !=, "");
    g_assert_cmpint(f->ledger->ops->add_machine(f->ledger, MACHINE, TENANT), ==, -EOPNOTSUPP);
    g_assert_cmpint(f->ledger->ops->usage(f->ledger, &usage, &n), ==, -EOPNOTSUPP);
    g_assert_cmpint(f->ledger->ops->event_fd(f->ledger), ==, -EOPNOTSUPP);
    g_assert_cmpint(f->host->ops->ledger_load(f->host, &options, &status), ==, 0);
    g_assert_cmpstr(status.reason, ==, f->ledger->status.reason);
    g_assert_cmpint(play(f, MIB), ==, 0);
}

static void test_guard_off(Fixture *f, gconstpointer data)
{
    ledger_free(f->ledger);
    open_ledger(f, (LedgerOptions){.guard = LEDGER_GUARD_MODE_OFF});
    g_assert_true(f->ledger->status.counting);
    g_assert_false(f->ledger->status.guarding);
    f->ledger->ops->set_limit(f->ledger, TENANT, MIB, LEDGER_COUNT_MODE_CHARGED);
    g_assert_cmpint(play(f, 64 * MIB), ==, 0);
    g_assert_cmpuint(usage_of(f, TENANT).used, ==, 64 * MIB);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, text, function)                                                                  \
    g_test_add("/kernel/simulated-ledger/" name, Fixture, text, set_up, function, tear_down)
    ADD("restart", NULL, test_restart);
    ADD("iommufd-closed-meanwhile", NULL, test_iommufd_closed_meanwhile);
    ADD("begun-late", NULL, test_begun_late);
    ADD("missed", NULL, test_missed);
    ADD("count", NULL, test_count);
    ADD("limit-of-nobody", NULL, test_limit_of_nobody);
    ADD("room", NULL, test_room);
    ADD("strict", NULL, test_strict);
    ADD("many-events", NULL, test_many_events);
    ADD("none", "[Host]\nFeatures=iommufd;map-file;\n", test_none);
    ADD("guard-off", NULL, test_guard_off);
    return g_test_run();
}
