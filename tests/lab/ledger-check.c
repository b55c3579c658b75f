/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The ledger against the kernel: random sequences of maps, copies, unmaps and kills, after which
 * the ledger, the walk over the kernel's structures and VmPin agree to the page; a ledger that
 * began late or were damaged; maps that are full. Run by guard.sh in the lab:
 *
 *   ledger-check [--operations=N] [--seed=N] CDEV CDEV CDEV
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/ledger/ledger.h"
#include "kernel/base/process.h"
#include "tests/lab/guest.h"

#define MEMORY_PAGES 1024
#define MAX_MAPS 96
#define SPACES 3 /* address spaces of a machine; devices are attached to the first */

typedef struct {
    uint32_t space; /* index */
    uint64_t iova;
    uint64_t length;
} Mapping;

typedef struct {
    const char *device;
    Machine process;
    uint32_t token;
    uint32_t device_id, hwpt, ioas[SPACES];
    uint64_t memory;
    int memfd;
    Mapping maps[MAX_MAPS];
    unsigned n_maps;
} Worker;

static bool have_files = true;

static void worker_start(Worker *worker)
{
    int r;

    worker->token = admit_machine(worker->device);
    worker->n_maps = 0;
    machine_start(&worker->process, iommufd, worker->device, 64055);
    r = machine_bind(&worker->process, worker->process.device, iommufd, &worker->device_id);
    for (int i = 0; !r && i < SPACES; i++)
        r = machine_ioas(&worker->process, &worker->ioas[i]);
    if (!r)
        r = machine_hwpt(&worker->process, worker->device_id, worker->ioas[0], &worker->hwpt);
    if (!r)
        r = machine_attach(&worker->process, worker->process.device, worker->hwpt);
    if (r)
        g_error("A machine can't start: %s.", g_strerror(-r));
    worker->memory = machine_memory(&worker->process, MEMORY_PAGES << 12);
    worker->memfd = machine_memfd(&worker->process, MEMORY_PAGES << 12);
}

static void worker_end(Worker *worker)
{
    machine_kill(&worker->process);
    reap(worker->token);
    ledger->ops->remove_machine(ledger, worker->token);
}

static void add_mapping(Worker *worker, uint32_t space, uint64_t iova, uint64_t length)
{
    worker->maps[worker->n_maps++] = (Mapping){space, iova, length};
}

static void operate(Worker *worker, GRand *random)
{
    uint32_t choice = g_rand_int_range(random, 0, 1000),
             space = g_rand_int_range(random, 0, SPACES);
    uint64_t first = g_rand_int_range(random, 0, MEMORY_PAGES - 64),
             pages = g_rand_int_range(random, 1, 64), iova = 0;
    Mapping *mapping;

    /* Often the same again. */
    if (choice & 2) {
        first &= ~255ull;
        pages = 48;
    }
    if (choice < 5) {
        worker_end(worker);
        worker_start(worker);
    } else if (choice < 15) {
        machine_unmap(&worker->process, worker->ioas[space], 0, UINT64_MAX);
        for (unsigned i = 0; i < worker->n_maps;)
            if (worker->maps[i].space == space)
                worker->maps[i] = worker->maps[--worker->n_maps];
            else
                i++;
    } else if (choice < 400 && worker->n_maps < MAX_MAPS) {
        /* Sometimes not page by page: what is counted is rounded. */
        uint64_t cut = choice & 1 ? 0 : 512;

        if (!machine_map(&worker->process, worker->ioas[space],
                         worker->memory + (first << 12) + cut, (pages << 12) - cut, &iova, false))
            add_mapping(worker, space, iova, (pages << 12) - cut);
    } else if (choice < 550 && worker->n_maps < MAX_MAPS && have_files) {
        if (!machine_map_file(&worker->process, worker->ioas[space], worker->memfd, first << 12,
                              pages << 12, &iova))
            add_mapping(worker, space, iova, pages << 12);
    } else if (choice < 700 && worker->n_maps && worker->n_maps < MAX_MAPS) {
        mapping = &worker->maps[g_rand_int_range(random, 0, worker->n_maps)];
        if (!machine_copy(&worker->process, worker->ioas[space], worker->ioas[mapping->space],
                          mapping->iova, mapping->length, &iova))
            add_mapping(worker, space, iova, mapping->length);
    } else if (worker->n_maps) {
        mapping = &worker->maps[g_rand_int_range(random, 0, worker->n_maps)];
        if (machine_unmap(&worker->process, worker->ioas[mapping->space], mapping->iova,
                          mapping->length))
            g_error("A mapping can't be removed.");
        *mapping = worker->maps[--worker->n_maps];
    }
}

/* Ledger, VmPin and walk of one machine. */
static bool agree(const Worker *worker, const LedgerMeasurement *truths, size_t n)
{
    int64_t accounts = pinned_by(worker->token), kernel = machine_pinned(worker->process.pid),
            truth = 0;

    for (size_t i = 0; i < n; i++)
        if (truths[i].pid == worker->process.pid)
            truth += (int64_t)(truths[i].charged >> LEDGER_PAGE_SHIFT);
    if (accounts == kernel && (!truths || truth == kernel))
        return true;
    printf("# machine %u: ledger %" G_GINT64_FORMAT ", VmPin %" G_GINT64_FORMAT
           ", walk %" G_GINT64_FORMAT "\n",
           worker->token, accounts, kernel, truth);
    return false;
}

/* What counts against the tenant's limit, and what there is. */
static bool count_agrees(const LedgerMeasurement *truths, size_t n)
{
    struct ledger_tenant total = tenant();
    int64_t charged = 0, unique = 0, counted;

    for (size_t i = 0; i < n; i++) {
        charged += truths[i].tenant == TENANT ? truths[i].mapped : 0;
        unique += truths[i].tenant == TENANT ? truths[i].mapped_unique : 0;
    }
    counted = total.budget.used - total.budget.credit;
    if (counted == (total.count == LEDGER_COUNT_MODE_UNIQUE ? unique : charged))
        return true;
    printf("# counted %" G_GINT64_FORMAT ", charged %" G_GINT64_FORMAT ", unique %" G_GINT64_FORMAT
           "\n",
           counted, charged, unique);
    return false;
}

static void test_random(Worker *workers, unsigned operations, uint32_t seed, LedgerCountMode count)
{
    g_autoptr(GRand) random = g_rand_new_with_seed(seed);
    unsigned compared = 0, differed = 0, walks = 0, miscounted = 0;
    LedgerDrift total = {0};

    ledger->ops->set_limit(ledger, TENANT, LEDGER_UNLIMITED, count);

    for (unsigned i = 1; i <= operations; i++) {
        operate(&workers[g_rand_int_range(random, 0, 2)], random);
        if (i % 50 == 0) {
            g_autofree LedgerMeasurement *truths = NULL;
            LedgerDrift drift = {0};
            size_t n = 0;

            if (i % 250 == 0) {
                ledger->ops->reconcile(ledger, &drift, &truths, &n);
                total.drift += drift.drift;
                total.repaired += drift.repaired + drift.adopted + drift.unstable;
                walks++;
                miscounted += !count_agrees(truths, n);
            }
            compared += 2;
            differed += !agree(&workers[0], truths, n) + !agree(&workers[1], truths, n);
        }
    }
    check(!differed,
          "%u random operations (seed %u): ledger and VmPin agree to the page "
          "(%u comparisons, %u differ)",
          operations, seed, compared, differed);
    check(!total.drift && !total.repaired,
          "and so do the kernel's structures (%u walks, drift %" G_GUINT64_FORMAT ")", walks,
          total.drift);
    check(!miscounted, "and what counts against the limit is what is %s",
          count == LEDGER_COUNT_MODE_UNIQUE ? "unique" : "charged");
}

/* A ledger that begins when the machines are there already. */
static void test_late(Worker *workers, const LedgerOptions *options)
{
    g_autofree LedgerObject *objects = NULL;
    struct ledger_tenant was = {0}, total = {0};
    LedgerDrift drift;
    size_t n = 0, known = 0;
    uint64_t iova = 0;

    /* An address space in which nothing is mapped can't be told whose it is. */
    for (int i = 0; i < 2; i++) {
        for (int space = 0; space < SPACES; space++) {
            iova = 0;
            if (machine_map(&workers[i].process, workers[i].ioas[space], workers[i].memory, 4096,
                            &iova, false))
                g_error("A machine can't map.");
        }
    }
    was = tenant();
    ledger_free(ledger);
    bpf_ledger_unload(TEST_FOLDER);
    bpf_ledger_open(options, &ledger);
    ledger->ops->set_limit(ledger, TENANT, LEDGER_UNLIMITED, LEDGER_COUNT_MODE_CHARGED);
    ledger->ops->register_iommufd(ledger, iommufd, TENANT,
                                  LEDGER_CONTEXT_FLAG_GUARDED | LEDGER_CONTEXT_FLAG_SHARED,
                                  &context);
    total = tenant();
    check(total.budget.used == was.budget.used && total.pinned == was.pinned,
          "late: the tenant has what it had (%lld bytes, %lld pages)", total.budget.used,
          total.pinned);
    for (int i = 0; i < 2; i++) {
        g_autofree char *address = device_address(workers[i].device);

        ledger->ops->add_machine(ledger, workers[i].token, TENANT);
        ledger->ops->admit_device(ledger, address, &(LedgerClaim){TENANT, workers[i].token, 0, 0},
                                  NULL);
        check(!ledger->ops->name_process(ledger, workers[i].process.pid, workers[i].process.start,
                                         workers[i].token, TENANT),
              "late: the machine is named");
        check(agree(&workers[i], NULL, 0), "late: its account is what the kernel has");
    }
    ledger->ops->objects(ledger, context, &objects, &n);
    for (size_t i = 0; i < n; i++)
        known += objects[i].machine == workers[0].token || objects[i].machine == workers[1].token;
    check(n == 2 * (SPACES + 2) && known == n,
          "late: %zu objects are found, %zu of them with "
          "their machines",
          n, known);
    check(!machine_map(&workers[0].process, workers[0].ioas[0], workers[0].memory, 4096, &iova,
                       false) &&
              !machine_unmap(&workers[0].process, workers[0].ioas[0], iova, 4096),
          "late: the machine goes on");
    check(machine_unmap(&workers[1].process, workers[0].ioas[0], 0, UINT64_MAX) == -EACCES,
          "late: the other is refused");
    check(!ledger->ops->reconcile(ledger, &drift, NULL, NULL) && !drift.drift, "late: no drift");
}

static int pinned_map(const char *name)
{
    g_autoptr(GDir) versions = g_dir_open(TEST_FOLDER, 0, NULL);
    const char *version = versions ? g_dir_read_name(versions) : NULL;
    g_autofree char *path = g_strdup_printf(TEST_FOLDER "/%s/maps/%s", version, name);

    return bpf_obj_get(path);
}

/* Events that were missed, made by hand. */
static void test_damage(Worker *workers)
{
    int fd = pinned_map("pages");
    uint64_t key, other = 0x1234567890, iova = 0;
    struct ledger_pages range, ghost;
    struct ledger_account_key place;
    struct ledger_account account;
    struct ledger_tenant total;
    LedgerDrift drift = {0};
    int accounts = pinned_map("accounts"), tenants = pinned_map("tenants");

    machine_map(&workers[0].process, workers[0].ioas[0], workers[0].memory, 64 << 12, &iova, false);
    check(fd >= 0 && !bpf_map_get_next_key(fd, NULL, &key) &&
              !bpf_map_lookup_elem(fd, &key, &range),
          "damage: the pinned maps are there");
    /* An uncharge of 7 pages was missed: range and account have too much; and the end of a range.
     */
    place = (struct ledger_account_key){range.context, range.owner};
    bpf_map_lookup_elem(accounts, &place, &account);
    account.pinned += 7;
    ghost = range;
    ghost.charge = 5;
    account.pinned += 5;
    account.mapped += ghost.bytes;
    bpf_map_update_elem(accounts, &place, &account, BPF_EXIST);
    bpf_map_lookup_elem(tenants, &range.tenant, &total);
    total.pinned += 12;
    bpf_map_update_elem(tenants, &range.tenant, &total, BPF_EXIST);
    count_by_hand(LEDGER_SHARE_MACHINE(ghost.share), (int64_t)ghost.bytes);
    range.charge += 7;
    bpf_map_update_elem(fd, &key, &range, BPF_EXIST);
    bpf_map_update_elem(fd, &other, &ghost, BPF_ANY);
    ledger->ops->reconcile(ledger, &drift, NULL, NULL);
    check(drift.repaired == 2 && drift.drift == 12 << LEDGER_PAGE_SHIFT,
          "damage: found and repaired (drift %" G_GUINT64_FORMAT " bytes in %" G_GUINT64_FORMAT
          " entries)",
          drift.drift, drift.repaired);
    check(agree(&workers[0], NULL, 0) && agree(&workers[1], NULL, 0),
          "damage: the ledger is right again");
    ledger->ops->reconcile(ledger, &drift, NULL, NULL);
    check(!drift.drift && !drift.repaired, "damage: and stay so");
    close(fd);
    close(accounts);
    close(tenants);
}

/* A mapping of which was not seen where it goes: it counts for no IOMMUFD and no tenant. */
static void test_misplaced(Worker *workers)
{
    int fd = pinned_map("pages"), accounts = pinned_map("accounts"),
        tenants = pinned_map("tenants");
    struct ledger_account_key place, nowhere;
    struct ledger_tenant total, after;
    struct ledger_account account, none = {0};
    struct ledger_pages range, moved;
    LedgerDrift drift = {0};
    uint64_t key;

    check(fd >= 0 && !bpf_map_get_next_key(fd, NULL, &key) &&
              !bpf_map_lookup_elem(fd, &key, &range),
          "misplaced: there is a range");
    place = (struct ledger_account_key){range.context, range.owner};
    nowhere = (struct ledger_account_key){0, range.owner};
    moved = range;
    moved.context = moved.tenant = 0;
    moved.share = 0;
    bpf_map_update_elem(fd, &key, &moved, BPF_EXIST);
    bpf_map_lookup_elem(accounts, &place, &account);
    account.pinned -= LEDGER_CHARGED(range.charge);
    account.mapped -= range.bytes;
    none.pinned = LEDGER_CHARGED(range.charge);
    none.mapped = range.bytes;
    bpf_map_update_elem(accounts, &place, &account, BPF_EXIST);
    bpf_map_update_elem(accounts, &nowhere, &none, BPF_ANY);
    bpf_map_lookup_elem(tenants, &range.tenant, &total);
    after = total;
    after.pinned -= LEDGER_CHARGED(range.charge);
    bpf_map_update_elem(tenants, &range.tenant, &after, BPF_EXIST);
    count_by_hand(LEDGER_SHARE_MACHINE(range.share), -(int64_t)range.bytes);
    ledger->ops->reconcile(ledger, &drift, NULL, NULL);
    bpf_map_lookup_elem(tenants, &range.tenant, &after);
    check(drift.repaired == 1 && !drift.unstable && after.pinned == total.pinned &&
              after.budget.used == total.budget.used,
          "misplaced: found and put right (%" G_GUINT64_FORMAT " entries; %lld of %lld bytes)",
          drift.repaired, after.budget.used, total.budget.used);
    check(agree(&workers[0], NULL, 0) && agree(&workers[1], NULL, 0),
          "misplaced: the ledger is right again");
    close(fd);
    close(accounts);
    close(tenants);
}

/* Sums that are not those of their entries, and an entry that is out of all sums and still there.
 */
static void test_damaged_sums(Worker *workers)
{
    const uint32_t number = TENANT;
    uint64_t key, other = 0x1234567890;
    int fd = pinned_map("pages"), accounts = pinned_map("accounts"),
        tenants = pinned_map("tenants");
    struct ledger_pages range, taken;
    struct ledger_tenant total;
    struct ledger_account_key place;
    struct ledger_account account;
    LedgerDrift drift = {0};

    check(fd >= 0 && !bpf_map_get_next_key(fd, NULL, &key) &&
              !bpf_map_lookup_elem(fd, &key, &range),
          "sums: there is a range");
    place = (struct ledger_account_key){range.context, range.owner};
    bpf_map_lookup_elem(accounts, &place, &account);
    account.pinned -= 1;
    account.mapped += 4096;
    bpf_map_update_elem(accounts, &place, &account, BPF_EXIST);
    bpf_map_lookup_elem(tenants, &number, &total);
    total.pinned -= 1;
    bpf_map_update_elem(tenants, &number, &total, BPF_EXIST);
    taken = range;
    taken.charge = LEDGER_CHARGE_TAKEN;
    bpf_map_update_elem(fd, &other, &taken, BPF_NOEXIST);
    ledger->ops->reconcile(ledger, &drift, NULL, NULL);
    check(drift.drift == 1 << LEDGER_PAGE_SHIFT && drift.repaired == 2 && !drift.unstable,
          "sums: found and repaired (drift %" G_GUINT64_FORMAT " bytes in %" G_GUINT64_FORMAT
          " sums)",
          drift.drift, drift.repaired);
    check(bpf_map_lookup_elem(fd, &other, &taken), "sums: what is out of all sums is removed");
    check(agree(&workers[0], NULL, 0) && agree(&workers[1], NULL, 0),
          "sums: the ledger is right again");
    check_truth("sums");
    close(fd);
    close(accounts);
    close(tenants);
}

/* A context with so many objects that the kernel's xarray has three levels. */
static void test_many(void)
{
    enum { MANY = 5000 };
    g_autofree LedgerObject *objects = NULL;
    int many = open("/dev/iommu", O_RDWR | O_CLOEXEC);
    struct iommu_ioas_alloc alloc = {.size = sizeof(alloc)};
    LedgerDrift drift = {0};
    uint32_t serial;
    size_t n = 0;
    gint64 since;

    ledger->ops->register_iommufd(ledger, many, 2, 0, &serial);
    for (int i = 0; i < MANY; i++)
        if (ioctl(many, IOMMU_IOAS_ALLOC, &alloc))
            g_error("No more address spaces.");
    ledger->ops->objects(ledger, serial, &objects, &n);
    check(n == MANY && objects[MANY - 1].id == MANY, "many: all %d objects are in the ledger",
          MANY);
    since = g_get_monotonic_time();
    check(!ledger->ops->reconcile(ledger, &drift, NULL, NULL) && !drift.adopted && !drift.drift,
          "many: the walk finds the same");
    printf("# walked in %" G_GINT64_FORMAT " us\n", g_get_monotonic_time() - since);
    close(many);
    g_clear_pointer(&objects, g_free);
    ledger->ops->objects(ledger, serial, &objects, &n);
    check(n == 0, "many: none is left when the context is closed");
}

#define VFIO_GROUP_SET_CONTAINER _IO(VFIO_TYPE, VFIO_BASE + 4)
#define VFIO_SET_IOMMU _IO(VFIO_TYPE, VFIO_BASE + 2)
#define VFIO_IOMMU_UNMAP_DMA _IO(VFIO_TYPE, VFIO_BASE + 14)

static void find_legacy(pid_t pid, LedgerLegacy *ret_legacy)
{
    g_autofree LedgerLegacy *legacy = NULL;
    size_t n = 0;
    int r = ledger->ops->legacy(ledger, &legacy, &n);

    *ret_legacy = (LedgerLegacy){0};
    check(!r, "legacy: containers can be walked: %s", g_strerror(-r));
    for (size_t i = 0; i < n; i++)
        if (legacy[i].pid == pid)
            *ret_legacy = legacy[i];
}

/* VFIO's own containers, which iommufd knows nothing of. */
static void test_legacy(const char *device)
{
    struct {
        uint32_t argsz, flags;
        uint64_t address, iova, size;
    } map = {.argsz = sizeof(map), .flags = 3};
    struct {
        uint32_t argsz, flags;
        uint64_t iova, size;
    } unmap = {.argsz = sizeof(unmap), .iova = 4096, .size = 4096};
    g_autofree char *address = device_address(device);
    g_autofree char *link = g_strdup_printf("/sys/bus/pci/devices/%s/iommu_group", address);
    g_autofree char *group = g_file_read_link(link, NULL);
    g_autofree char *name = g_path_get_basename(group);
    g_autofree char *path = g_strdup_printf("/dev/vfio/%s", name);
    LedgerLegacy sum;
    Machine machine;
    int container, file, r;

    machine_start(&machine, -1, NULL, 0);
    map.address = machine_memory(&machine, 512 << 12);
    container = machine_open(&machine, "/dev/vfio/vfio");
    file = machine_open(&machine, path);
    r = machine_ioctl(&machine, file, VFIO_GROUP_SET_CONTAINER, &container, sizeof(container));
    if (!r)
        r = machine_ioctl_value(&machine, container, VFIO_SET_IOMMU, 3);
    for (int i = 0; !r && i < 128; i++, map.address += 16384, map.iova += 16384) {
        map.size = i ? 4096 : 16384;
        r = machine_ioctl(&machine, container, VFIO_IOMMU_MAP_DMA, &map, sizeof(map));
    }
    check(!r, "legacy: a machine maps through a container of VFIO's own: %s", g_strerror(-r));
    find_legacy(machine.pid, &sum);
    check(sum.maps == 128 && sum.mapped == 131 << 12 && sum.pinned == 131 << 12 &&
              sum.pinned == machine_status(machine.pid, "VmLck") << LEDGER_PAGE_SHIFT &&
              sum.start == machine.start,
          "legacy: the walk says what VmLck does (%" G_GUINT64_FORMAT " bytes in %" G_GUINT64_FORMAT
          " maps)",
          sum.pinned, sum.maps);
    unmap.iova = 16384;
    r = machine_ioctl(&machine, container, VFIO_IOMMU_UNMAP_DMA, &unmap, sizeof(unmap));
    find_legacy(machine.pid, &sum);
    check(!r && sum.pinned == 130 << 12 && machine_status(machine.pid, "VmLck") == 130,
          "legacy: also after an unmap");
    machine_kill(&machine);
    find_legacy(machine.pid, &sum);
    check(!sum.maps && !sum.pinned, "legacy: and nothing is left when it ends");
}

int main(int argc, char **argv)
{
    const LedgerOptions options = {.folder = TEST_FOLDER, .guard = LEDGER_GUARD_MODE_KNOWN};
    unsigned operations = 10000;
    uint64_t host = host_pinned();
    uint32_t seed = time(NULL);
    Worker workers[2] = {0};

    for (; argc > 1 && g_str_has_prefix(argv[1], "--"); argv++, argc--) {
        if (sscanf(argv[1], "--operations=%u", &operations) != 1 &&
            sscanf(argv[1], "--seed=%u", &seed) != 1)
            g_error("Unknown option %s.", argv[1]);
    }
    if (argc != 4)
        g_error("Usage: ledger-check [--operations=N] [--seed=N] CDEV CDEV CDEV");
    tenant_open(&options);
    for (int i = 0; i < 2; i++) {
        workers[i].device = argv[1 + i];
        worker_start(&workers[i]);
    }
    {
        uint64_t iova;

        have_files = machine_map_file(&workers[0].process, workers[0].ioas[0], workers[0].memfd, 0,
                                      4096, &iova) != -ENOTTY;
        machine_unmap(&workers[0].process, workers[0].ioas[0], 0, UINT64_MAX);
    }
    test_random(workers, operations / 2, seed, LEDGER_COUNT_MODE_UNIQUE);
    test_random(workers, operations / 2, seed + 1, LEDGER_COUNT_MODE_CHARGED);
    test_late(workers, &options);
    test_damage(workers);
    test_damaged_sums(workers);
    test_misplaced(workers);
    test_many();
    test_legacy(argv[3]);
    worker_end(&workers[0]);
    worker_end(&workers[1]);
    tenant_close(host);
    return checks_end();
}
