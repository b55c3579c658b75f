/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/lab/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

Ledger *ledger;
int iommufd;
uint32_t context;
static int passed, failed;
static uint32_t next_machine = 10;
static GArray *events;

bool check(bool fine, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    printf(fine ? "ok - " : "not ok - ");
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
    *(fine ? &passed : &failed) += 1;
    return fine;
}

void check_error(int r, int wanted, const char *what)
{
    check(r == wanted, "%s: %s%s%s", what, wanted ? g_strerror(-wanted) : "done",
          r == wanted ? "" : ", but it was ",
          r == wanted ? ""
          : r < 0     ? g_strerror(-r)
                      : "done");
}

int checks_failed(void)
{
    return failed;
}

int checks_end(void)
{
    printf("%d passed, %d failed\n", passed, failed);
    return failed ? 1 : 0;
}

static void note_event(const LedgerEvent *event, void *data)
{
    g_array_append_val(events, *event);
}

const LedgerEvent *find_event(LedgerEventKind kind)
{
    ledger->ops->dispatch(ledger, note_event, NULL);
    for (guint i = 0; i < events->len; i++)
        if (g_array_index(events, LedgerEvent, i).kind == kind)
            return &g_array_index(events, LedgerEvent, i);
    return NULL;
}

void forget_events(void)
{
    ledger->ops->dispatch(ledger, note_event, NULL);
    g_array_set_size(events, 0);
}

struct ledger_tenant tenant(void)
{
    const uint32_t number = TENANT;
    struct ledger_tenant account = {0};

    map_get(bpf_ledger(ledger), MAP_TENANTS, &number, &account);
    return account;
}

struct ledger_budget host_budget(void)
{
    const uint32_t zero = 0;
    struct ledger_budget budget = {0};

    map_get(bpf_ledger(ledger), MAP_HOST, &zero, &budget);
    return budget;
}

void count_by_hand(uint32_t machine, int64_t bytes)
{
    const uint32_t number = TENANT, zero = 0;
    struct ledger_tenant account = tenant();
    struct ledger_budget budget = host_budget();
    struct ledger_machine entry;
    int r = 0;

    account.budget.used += bytes;
    budget.used += bytes;
    if (machine) {
        r = map_get(bpf_ledger(ledger), MAP_MACHINES, &machine, &entry);
        entry.borrowed += (uint64_t)bytes;
        if (!r)
            r = map_put(bpf_ledger(ledger), MAP_MACHINES, &machine, &entry);
    }
    if (r || map_put(bpf_ledger(ledger), MAP_TENANTS, &number, &account) ||
        map_put(bpf_ledger(ledger), MAP_HOST, &zero, &budget))
        g_error("The maps can't be written.");
}

LedgerMachine machine_account(uint32_t machine)
{
    LedgerMachine account = {0};

    ledger->ops->machine(ledger, machine, &account);
    return account;
}

LedgerCounters counters(void)
{
    LedgerCounters now = {0};

    ledger->ops->counters(ledger, &now);
    return now;
}

int64_t pinned_by(uint32_t machine)
{
    g_autofree LedgerUsage *usage = NULL;
    uint64_t pinned = 0;
    size_t n = 0;

    ledger->ops->usage(ledger, &usage, &n);
    for (size_t i = 0; i < n; i++)
        pinned += usage[i].machine == machine ? usage[i].pinned : 0;
    return (int64_t)(pinned >> LEDGER_PAGE_SHIFT);
}

void tenant_limit(uint64_t bytes)
{
    if (ledger->ops->set_limit(ledger, TENANT, bytes, LEDGER_COUNT_MODE_CHARGED))
        g_error("The limit can't be set.");
}

void tenant_open(const LedgerOptions *options)
{
    events = g_array_new(FALSE, FALSE, sizeof(LedgerEvent));
    /* Of one that has crashed. */
    bpf_ledger_unload(TEST_FOLDER);
    if (bpf_ledger_open(options, &ledger))
        g_error("No memory.");
    if (!check(ledger->status.counting, "the ledger is active %s", ledger->status.reason) ||
        !check(ledger->status.guarding, "the guard checks %s", ledger->status.guard_reason))
        exit(1);
    printf("# what is changed behind the check is %s\n",
           ledger->status.rechecking ? "refused" : "only found out");
    iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
    check_error(ledger->ops->register_iommufd(ledger, iommufd, TENANT,
                                              LEDGER_CONTEXT_FLAG_GUARDED |
                                                  LEDGER_CONTEXT_FLAG_SHARED |
                                                  LEDGER_CONTEXT_FLAG_RESTRICTED,
                                              &context),
                0, "registering the tenant's IOMMUFD");
    tenant_limit(LEDGER_UNLIMITED);
}

void tenant_close(uint64_t host)
{
    LedgerCounters now = counters();

    printf("# hooks skipped: %" G_GUINT64_FORMAT ", lost: contexts %" G_GUINT64_FORMAT
           " objects %" G_GUINT64_FORMAT " ranges %" G_GUINT64_FORMAT " usage %" G_GUINT64_FORMAT
           " owners %" G_GUINT64_FORMAT " events %" G_GUINT64_FORMAT "\n",
           now.skipped, now.lost_contexts, now.lost_objects, now.lost_ranges, now.lost_usage,
           now.lost_owners, now.lost_events);
    check(host_pinned() == host && !tenant().budget.used && !host_budget().used && !tenant().pinned,
          "in the end nothing is pinned, and the ledger says so (%" G_GUINT64_FORMAT
          " pages; %lld mapped, %lld pinned)",
          host_pinned() - host, tenant().budget.used, tenant().pinned);
    close(iommufd);
    ledger_free(ledger);
    check(!bpf_ledger_unload(TEST_FOLDER) && access(TEST_FOLDER, F_OK), "unloading leaves nothing");
}

static int own_ioctl(unsigned long command, void *argument)
{
    return ioctl(iommufd, command, argument) < 0 ? -errno : 0;
}

void reap(uint32_t machine)
{
    static const LedgerObjectType order[] = {
        LEDGER_OBJECT_TYPE_HWPT_NESTED, LEDGER_OBJECT_TYPE_HWPT_PAGING, LEDGER_OBJECT_TYPE_IOAS};
    g_autofree LedgerObject *objects = NULL;
    size_t n = 0;

    ledger->ops->objects(ledger, context, &objects, &n);
    for (size_t layer = 0; layer < G_N_ELEMENTS(order); layer++) {
        for (size_t i = 0; i < n; i++) {
            struct iommu_destroy destroy = {.size = sizeof(destroy), .id = objects[i].id};
            int r = -EBUSY;

            if (objects[i].machine != machine || objects[i].type != order[layer])
                continue;
            for (int tries = 0; r == -EBUSY && tries < 100; tries++) {
                r = own_ioctl(IOMMU_DESTROY, &destroy);
                if (r == -EBUSY)
                    g_usleep(10000);
            }
            if (r)
                check(false, "the reaper can't destroy object %u: %s", objects[i].id,
                      g_strerror(-r));
        }
    }
}

uint32_t admit_machine(const char *device)
{
    g_autofree char *address = device ? device_address(device) : NULL;
    uint32_t token = next_machine++;

    if (ledger->ops->add_machine(ledger, token, TENANT))
        g_error("The machine can't be added.");
    if (device &&
        ledger->ops->admit_device(ledger, address, &(LedgerClaim){TENANT, token, 0, 0}, NULL))
        g_error("%s can't be admitted.", device);
    return token;
}

void guest_start(Guest *guest, const char *device, uint64_t size)
{
    int r;

    guest->token = admit_machine(device);
    guest->iova = 0;
    machine_start(&guest->process, iommufd, device, USER);
    r = machine_bind(&guest->process, guest->process.device, iommufd, &guest->device);
    if (!r)
        r = machine_ioas(&guest->process, &guest->ioas);
    if (!r)
        r = machine_hwpt(&guest->process, guest->device, guest->ioas, &guest->hwpt);
    if (!r)
        r = machine_attach(&guest->process, guest->process.device, guest->hwpt);
    guest->memory = machine_memory(&guest->process, size);
    if (!r)
        r = machine_map(&guest->process, guest->ioas, guest->memory, size, &guest->iova, false);
    check(!r, "machine %u starts in the shared IOMMUFD%s%s", guest->token, r ? ": " : "",
          r ? g_strerror(-r) : "");
}

void guest_end(Guest *guest)
{
    if (guest->process.pid)
        machine_kill(&guest->process);
    reap(guest->token);
    ledger->ops->remove_machine(ledger, guest->token);
}

void check_account(const Guest *guest, const char *when)
{
    uint64_t kernel = machine_pinned(guest->process.pid);

    check(pinned_by(guest->token) == (int64_t)kernel,
          "%s: machine %u's account (%" G_GINT64_FORMAT ") equal VmPin (%" G_GUINT64_FORMAT ")",
          when, guest->token, pinned_by(guest->token), kernel);
}

void check_truth(const char *when)
{
    LedgerDrift drift;
    int r = ledger->ops->reconcile(ledger, &drift, NULL, NULL);

    check(!r && !drift.drift && !drift.repaired && !drift.unstable && !drift.adopted,
          "%s: the ledger equals the kernel's own structures (%" G_GUINT64_FORMAT
          " ranges, drift %" G_GUINT64_FORMAT " bytes, repaired %" G_GUINT64_FORMAT
          ", adopted %" G_GUINT64_FORMAT ", result %d)",
          when, drift.ranges, drift.drift, drift.repaired, drift.adopted, r);
}
