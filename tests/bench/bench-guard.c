/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What ledger and guard cost, in one boot, by turns: nothing loaded, the ledger, both. Medians of
 * the rounds. Run by guard.sh beside it, in the lab:
 *
 *   bench-guard [--rounds=N] [--small] CDEV
 *
 * --small leaves out what needs a GiB or a thousand IOMMUFDs.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "kernel/host/bpf-ledger.h"
#include "tests/lab/machine.h"

#define TENANT 1
#define MACHINE 10
#define USER 64055
#define MAX_ROUNDS 32
#define MEMORY (1ull << 30)
#define PROMISE (2 * MEMORY)
#define CONTEXTS 1000
#define AREAS 100

enum load { NOTHING, LEDGER, GUARD, LOADS };
static const char *const load_names[] = {"nothing", "ledger", "both"};

/* Which memory is mapped. */
enum pages { HUGE, SMALL, PAGES };

enum kind { UNRELATED, OPEN, MAP, REFUSED };
static const struct {
    const char *name;
    enum kind kind;
    uint64_t length;
    enum pages pages;
    unsigned times;
} cases[] = {
    {"an unrelated ioctl", UNRELATED, 0, 0, 5000},
    {"open and close /dev/iommu", OPEN, 0, 0, 200},
    {"map and unmap 4 KiB", MAP, 4 << 10, HUGE, 400},
    {"map and unmap 64 KiB", MAP, 64 << 10, HUGE, 400},
    {"the same of small pages", MAP, 64 << 10, SMALL, 400},
    {"map and unmap 2 MiB", MAP, 2 << 20, HUGE, 60},
    {"the same of small pages", MAP, 2 << 20, SMALL, 60},
    {"map and unmap 1 GiB", MAP, MEMORY, HUGE, 1},
    {"refuse 1 GiB", REFUSED, MEMORY, HUGE, 1},
    {"the same of small pages", REFUSED, MEMORY, SMALL, 1},
};
#define CASES G_N_ELEMENTS(cases)

/* A machine with a device, on an IOMMUFD of its own, and the programs that watch it. */
typedef struct {
    Ledger *ledger;
    Machine machine;
    int iommufd;
    uint32_t ioas;
} Place;

static size_t n_cases = CASES;
/* The same for all machines, which inherit it: how it lies in the host's memory matters more than
 * what is measured. */
static void *memory[PAGES];

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double median(double *values, unsigned n)
{
    qsort(values, n, sizeof(values[0]), compare);
    return values[n / 2];
}

static void *make_memory(size_t size, enum pages pages)
{
    void *address = mmap(NULL, size, PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS | (pages == HUGE ? MAP_HUGETLB : 0), -1, 0);

    if (address == MAP_FAILED || madvise(address, size, MADV_POPULATE_WRITE))
        g_error("There is not memory enough: %s.", g_strerror(errno));
    return address;
}

static Ledger *load(enum load what, int iommufd, const char *device)
{
    const LedgerOptions options = {.guard = what == GUARD ? LEDGER_GUARD_MODE_KNOWN
                                                          : LEDGER_GUARD_MODE_OFF};
    Ledger *ledger = NULL;
    g_autofree char *address = device_address(device);
    uint32_t context;

    if (what == NOTHING)
        return NULL;
    bpf_ledger_open(&options, &ledger);
    if (!ledger->status.counting || (what == GUARD && !ledger->status.guarding))
        g_error("%s %s", ledger->status.reason, ledger->status.guard_reason);
    ledger->ops->set_limit(ledger, TENANT, LEDGER_UNLIMITED - 1, LEDGER_COUNT_MODE_CHARGED);
    ledger->ops->register_iommufd(ledger, iommufd, TENANT,
                                  LEDGER_CONTEXT_FLAG_GUARDED | LEDGER_CONTEXT_FLAG_SHARED,
                                  &context);
    ledger->ops->add_machine(ledger, MACHINE, TENANT);
    if (ledger->ops->admit_device(ledger, address, &(LedgerClaim){TENANT, MACHINE, 0, 0}, NULL) ||
        ledger->ops->reserve_machine(ledger, MACHINE, PROMISE, false, NULL))
        g_error("%s can't be admitted.", device);
    return ledger;
}

static void place_open(Place *place, enum load what, const char *path)
{
    uint32_t device, hwpt;

    *place = (Place){.iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC)};
    place->ledger = load(what, place->iommufd, path);
    machine_start(&place->machine, place->iommufd, path, USER);
    if (machine_bind(&place->machine, place->machine.device, place->iommufd, &device) ||
        machine_ioas(&place->machine, &place->ioas) ||
        machine_hwpt(&place->machine, device, place->ioas, &hwpt) ||
        machine_attach(&place->machine, place->machine.device, hwpt))
        g_error("The machine can't start.");
}

static void place_close(Place *place)
{
    machine_kill(&place->machine);
    close(place->iommufd);
    ledger_free(place->ledger);
}

static bool lower_guard(Ledger *ledger, bool low)
{
    return !ledger->ops->set_limit(ledger, TENANT, low ? MEMORY / 2 : LEDGER_UNLIMITED - 1,
                                   LEDGER_COUNT_MODE_CHARGED) &&
           !ledger->ops->reserve_machine(ledger, MACHINE, low ? MEMORY / 2 : PROMISE, false, NULL);
}

/* The limit that is in the way is the guard's if it is there, with a promise that is as small, and
 * else the kernel's own. */
static void set_limit(Place *place, enum load what, bool low)
{
    const struct rlimit limit = {low ? MEMORY / 2 : RLIM_INFINITY,
                                 low ? MEMORY / 2 : RLIM_INFINITY};

    if (what == GUARD ? !lower_guard(place->ledger, low)
                      : prlimit(place->machine.pid, RLIMIT_MEMLOCK, &limit, NULL) < 0)
        g_error("The limit can't be set: %s", g_strerror(errno));
}

/* Nanoseconds of one call, or of one pair of them. */
static double measure(Place *place, enum load what, size_t i)
{
    static const char path[] = "/dev/iommu";
    struct iommu_ioas_map map = {
        .size = sizeof(map),
        .flags = MACHINE_MAP_FIXED,
        .ioas_id = place->ioas,
        .length = cases[i].length,
        .iova = 4ull << 30,
    };
    struct iommu_ioas_unmap unmap = {
        .size = sizeof(unmap), .ioas_id = place->ioas, .iova = map.iova, .length = map.length};
    int available;
    MachineCalls once, calls = {
                           .fd = place->iommufd,
                           .command = IOMMU_IOAS_MAP,
                           .argument = &map,
                           .size = sizeof(map),
                           .undo = cases[i].kind == MAP ? IOMMU_IOAS_UNMAP : 0,
                           .undo_argument = &unmap,
                           .undo_size = sizeof(unmap),
                           .times = cases[i].times,
                       };
    double ns;

    switch (cases[i].kind) {
    case UNRELATED:
        calls.fd = place->machine.peer;
        calls.command = FIONREAD;
        calls.argument = &available;
        calls.size = sizeof(available);
        break;
    case OPEN:
        calls.fd = -1;
        calls.argument = path;
        calls.size = sizeof(path);
        break;
    case REFUSED:
        calls.error = what == GUARD ? -EDQUOT : -ENOMEM;
        calls.times = what == GUARD ? 400 : 1;
        set_limit(place, what, true);
        break;
    case MAP:
        break;
    }
    once = calls;
    once.times = 1;
    map.user_va = (uint64_t)memory[cases[i].pages];
    /* Once for what only the first has to do: the machine's page tables, and the kernel's caches.
     */
    machine_time(&place->machine, &once);
    ns = (double)machine_time(&place->machine, &calls) / calls.times;
    if (cases[i].kind == REFUSED)
        set_limit(place, what, false);
    return ns;
}

static void compare_loads(const char *device, unsigned rounds)
{
    static double times[CASES][LOADS][MAX_ROUNDS];

    for (unsigned round = 0; round < rounds; round++) {
        for (enum load what = 0; what < LOADS; what++) {
            Place place;

            place_open(&place, what, device);
            for (size_t i = 0; i < n_cases; i++)
                times[i][what][round] = measure(&place, what, i);
            place_close(&place);
        }
    }
    printf("%-26s", "nanoseconds");
    for (enum load what = 0; what < LOADS; what++)
        printf(" %12s", load_names[what]);
    printf("  added by both\n");
    for (size_t i = 0; i < n_cases; i++) {
        double middle[LOADS];

        printf("%-26s", cases[i].name);
        for (enum load what = 0; what < LOADS; what++) {
            middle[what] = median(times[i][what], rounds);
            printf(" %12.0f", middle[what]);
        }
        if (cases[i].kind == REFUSED)
            printf("  1/%.0f of the kernel's\n", middle[NOTHING] / middle[GUARD]);
        else
            printf("  %.0f, %.1f %%\n", middle[GUARD] - middle[NOTHING],
                   (middle[GUARD] / middle[NOTHING] - 1) * 100);
    }
    fflush(stdout);
}

/* Which programs ran, and for how long. */
static void show_programs(const char *device, size_t the_case)
{
    const unsigned times = cases[the_case].times + 1; /* with the one before */
    uint32_t id = 0;
    double total = 0;
    Place place;
    int stats;

    place_open(&place, GUARD, device);
    stats = bpf_enable_stats(BPF_STATS_RUN_TIME);
    measure(&place, GUARD, the_case);
    close(stats);
    printf("%-26s %12s %12s %12s %12s\n", cases[the_case].name, "runs", "ns each", "instructions",
           "bytes");
    while (!bpf_prog_get_next_id(id, &id)) {
        struct bpf_prog_info info = {0};
        uint32_t size = sizeof(info);
        int fd = bpf_prog_get_fd_by_id(id);

        if (fd < 0)
            continue;
        if (!bpf_obj_get_info_by_fd(fd, &info, &size) && info.run_cnt) {
            printf("%-26s %12.2f %12.0f %12u %12u\n", info.name, (double)info.run_cnt / times,
                   (double)info.run_time_ns / info.run_cnt, info.verified_insns,
                   info.jited_prog_len);
            total += (double)info.run_time_ns / times;
        }
        close(fd);
    }
    printf("%-26s %25.0f\n\n", "all of them", total);
    fflush(stdout);
    place_close(&place);
}

/* A thousand IOMMUFDs, each with a hundred mappings, read and compared. */
static void walk_many(unsigned rounds)
{
    const LedgerOptions options = {.guard = LEDGER_GUARD_MODE_OFF,
                                   .max_ranges = 2 * CONTEXTS * AREAS};
    const struct rlimit files = {2 * CONTEXTS, 2 * CONTEXTS};
    static int fds[CONTEXTS];
    double times[MAX_ROUNDS];
    LedgerDrift drift;
    Ledger *ledger;

    bpf_ledger_open(&options, &ledger);
    if (setrlimit(RLIMIT_NOFILE, &files))
        g_error("setrlimit: %s", g_strerror(errno));
    for (int i = 0; i < CONTEXTS; i++) {
        struct iommu_ioas_alloc alloc = {.size = sizeof(alloc)};

        fds[i] = open("/dev/iommu", O_RDWR | O_CLOEXEC);
        if (fds[i] < 0 || ioctl(fds[i], IOMMU_IOAS_ALLOC, &alloc))
            g_error("An IOMMUFD can't be opened: %s.", g_strerror(errno));
        for (int j = 0; j < AREAS; j++) {
            struct iommu_ioas_map map = {
                .size = sizeof(map),
                .flags = MACHINE_MAP_FLAGS,
                .ioas_id = alloc.out_ioas_id,
                .user_va = (uint64_t)memory[SMALL],
                .length = 4096,
            };

            if (ioctl(fds[i], IOMMU_IOAS_MAP, &map))
                g_error("A mapping failed: %s.", g_strerror(errno));
        }
    }
    for (unsigned i = 0; i < rounds; i++) {
        gint64 since = g_get_monotonic_time();

        if (ledger->ops->reconcile(ledger, &drift, NULL, NULL) || drift.repaired || drift.unstable)
            g_error("The walk and the ledger differ.");
        times[i] = g_get_monotonic_time() - since;
    }
    printf("\nwalk over %" G_GUINT64_FORMAT " IOMMUFDs with %" G_GUINT64_FORMAT
           " ranges: %.0f ms\n",
           drift.contexts, drift.ranges, median(times, rounds) / 1000);
    for (int i = 0; i < CONTEXTS; i++)
        close(fds[i]);
    ledger_free(ledger);
}

int main(int argc, char **argv)
{
    unsigned rounds = 5;

    for (; argc > 2; argv++, argc--) {
        if (!strcmp(argv[1], "--small"))
            while (cases[n_cases - 1].length == MEMORY)
                n_cases--;
        else if (sscanf(argv[1], "--rounds=%u", &rounds) != 1)
            break;
    }
    if (argc != 2 || !rounds || rounds > MAX_ROUNDS)
        g_error("Usage: bench-guard [--rounds=N] [--small] CDEV");
    for (enum pages pages = 0; pages < PAGES; pages++)
        memory[pages] = make_memory(n_cases == CASES ? MEMORY : 2 << 20, pages);
    for (size_t i = 0; i < n_cases; i++)
        if (cases[i].length == 4 << 10 || cases[i].kind == UNRELATED)
            show_programs(argv[1], i);
    compare_loads(argv[1], rounds);
    if (n_cases == CASES)
        walk_many(rounds);
    return 0;
}
