/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The ledger's life: programs that are replaced by another version while a machine attacks another,
 * a service that is killed again and again, one that has no privileges, one that looks all the
 * time, and forks of which the kernel tells nobody. Run by guard.sh in the lab:
 *
 *   guard-life [--seconds=N] CDEV CDEV
 *   guard-life --reason [--unprivileged]      says what there is, or why not
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <glob.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/process.h"
#include "tests/lab/guest.h"

#define SERVICES 4u /* that are killed */

static unsigned seconds = 10; /* of looking all the time */
static LedgerOptions options = {.folder = TEST_FOLDER, .guard = LEDGER_GUARD_MODE_KNOWN};

static void drop_privileges(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {0};

    if (syscall(SYS_capset, &header, none))
        g_error("Capabilities can't be dropped.");
}

static unsigned count_versions(void)
{
    g_autoptr(GDir) folder = g_dir_open(TEST_FOLDER, 0, NULL);
    unsigned n = 0;

    while (folder && g_dir_read_name(folder))
        n++;
    return n;
}

/* What a service does that knows its tenants and their machines. */
static void tell(const Guest *guests, size_t n)
{
    uint32_t serial;

    tenant_limit(tenant().budget.limit ? tenant().budget.limit : LEDGER_UNLIMITED);
    if (ledger_register(ledger, iommufd, TENANT,
                        LEDGER_CONTEXT_FLAG_GUARDED | LEDGER_CONTEXT_FLAG_SHARED |
                            LEDGER_CONTEXT_FLAG_RESTRICTED,
                        &serial))
        g_error("The tenant's IOMMUFD can't be registered.");
    check(serial == context, "the IOMMUFD is the one that it was");
    for (size_t i = 0; i < n; i++) {
        if (ledger->ops->add_machine(ledger, guests[i].token, TENANT) ||
            ledger->ops->name_process(ledger, guests[i].process.pid, guests[i].process.start,
                                      guests[i].token, TENANT))
            check(false, "machine %u can't be named", guests[i].token);
    }
}

/* The attacker tries all the time, and so does a machine that only works. */
static void test_replace(Guest *guests)
{
    struct iommu_ioas_unmap unmap = {
        .size = sizeof(unmap), .ioas_id = guests[1].ioas, .length = EVERYTHING};
    const MachineRaceOptions race = {.threads = 4, .tries = UINT64_MAX, .seconds = 300};
    int64_t victims = pinned_by(guests[1].token);
    uint32_t bare;
    MachineRace result;
    uint64_t iova = 0;

    machine_ioas(&guests[1].process, &bare);
    tenant_limit(tenant().budget.used + MIB);
    machine_race_begin(&guests[0].process, iommufd, IOMMU_IOAS_UNMAP, &unmap, sizeof(unmap), &race);
    for (unsigned version = 0; version < 3; version++) {
        Ledger *old = ledger;

        options.max_owners = 4096 + version;
        bpf_ledger_open(&options, &ledger);
        check(ledger->status.guarding,
              "another version is loaded, with the tables of the one before: %s%s",
              ledger->status.reason, ledger->status.guard_reason);
        check(tenant().budget.limit != LEDGER_UNLIMITED && tenant().budget.limit &&
                  count_versions() == 2,
              "both check for a while");
        tell(guests, 2);
        check_error(ledger->ops->finish_upgrade(ledger), 0, "then the earlier one is gone");
        check(count_versions() == 1, "with its maps and programs");
        ledger_free(old);
        check(pinned_by(guests[1].token) == victims, "the victim's account is what they were");
    }
    check_error(
        machine_map(&guests[1].process, guests[1].ioas, guests[1].memory, 2 * MIB, &iova, false),
        -EDQUOT, "the limit holds without having been told again");
    check_error(machine_destroy(&guests[1].process, bare), 0,
                "an address space in which nothing is mapped has kept its owner");
    machine_race_stop(&guests[0].process);
    machine_race_end(&guests[0].process, &result);
    printf("# the attacker tried %" G_GUINT64_FORMAT " times, and was refused %" G_GUINT64_FORMAT
           " times, or killed (%" G_GUINT64_FORMAT ")\n",
           result.tries, result.refused, result.killed);
    /* Killed where its first look may be skipped: it then seems to have changed its argument. */
    check(result.tries && !result.granted && !result.other,
          "in all that time the attacker was refused");
    check_account(&guests[1], "after the replacement");
    check_truth("after the replacement");
    tenant_limit(LEDGER_UNLIMITED);
}

/* One page, mapped and unmapped over and over beside all else that the machine has: its range is at
 * the same address time and again. */
static void begin_mapping(Guest *guest, unsigned for_seconds)
{
    struct iommu_ioas_map map = {
        .size = sizeof(map),
        .flags = MACHINE_MAP_FIXED,
        .ioas_id = guest->ioas,
        .user_va = guest->memory,
        .length = 4096,
        .iova = 1ull << 30,
    };
    struct iommu_ioas_unmap unmap = {
        .size = sizeof(unmap), .ioas_id = guest->ioas, .iova = map.iova, .length = map.length};
    const MachineRaceOptions race = {.tries = UINT64_MAX,
                                     .seconds = for_seconds,
                                     .undo = IOMMU_IOAS_UNMAP,
                                     .undo_argument = &unmap,
                                     .undo_size = sizeof(unmap)};

    machine_race_begin(&guest->process, iommufd, IOMMU_IOAS_MAP, &map, sizeof(map), &race);
}

/* A service, in a process of its own, until it is killed. */
static pid_t start_service(const Guest *guests, int channel)
{
    pid_t pid = fork();
    char fine;

    if (pid)
        return pid;
    bpf_ledger_open(&options, &ledger);
    fine = ledger->status.guarding;
    tell(guests, 2);
    if (write(channel, &fine, 1) != 1)
        _exit(1);
    for (;;)
        ledger->ops->reconcile(ledger, NULL, NULL, NULL);
}

static void test_kill(Guest *guests)
{
    unsigned started = 0;
    MachineRace result;
    int channel[2];

    if (pipe(channel))
        g_error("pipe: %s", g_strerror(errno));
    ledger_free(ledger);
    begin_mapping(&guests[0], 300);
    for (unsigned i = 0; i < SERVICES; i++) {
        pid_t pid = start_service(guests, channel[1]);
        char fine = 0;

        if (read(channel[0], &fine, 1) == 1)
            started += fine;
        g_usleep(i * 74000);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    check(started == SERVICES,
          "a service that is killed is followed by one that takes over (%u of %u)", started,
          SERVICES);
    machine_race_stop(&guests[0].process);
    machine_race_end(&guests[0].process, &result);
    bpf_ledger_open(&options, &ledger);
    printf("# meanwhile the machine mapped %" G_GUINT64_FORMAT " times\n", result.granted);
    check(result.granted && result.granted == result.tries, "the machines notice nothing of it");
    tell(guests, 2);
    check_account(&guests[0], "after the last one");
    check_account(&guests[1], "after the last one");
    check_truth("after the last one");
    close(channel[0]);
    close(channel[1]);
}

/* Looks that never end do no harm to what is right. */
static void test_looks(Guest *guests)
{
    gint64 end = g_get_monotonic_time() + (gint64)seconds * G_USEC_PER_SEC;
    uint64_t looks = 0, drift = 0, before = 0, missed = 0;
    MachineRace result[2];

    before = counters().skipped;
    begin_mapping(&guests[0], seconds);
    begin_mapping(&guests[1], seconds);
    for (; g_get_monotonic_time() < end; looks++) {
        LedgerDrift found = {0};

        if (ledger->ops->reconcile(ledger, &found, NULL, NULL))
            g_error("The ledger can't be compared.");
        drift += found.drift;
    }
    for (int i = 0; i < 2; i++) {
        machine_race_end(&guests[i].process, &result[i]);
        check(result[i].granted && result[i].granted == result[i].tries,
              "machine %u mapped all the time (%" G_GUINT64_FORMAT " times)", guests[i].token,
              result[i].granted);
    }
    missed = counters().skipped;
    printf("# %" G_GUINT64_FORMAT " looks found a drift of %" G_GUINT64_FORMAT
           " bytes, %" G_GUINT64_FORMAT " hooks were skipped\n",
           looks, drift, missed - before);
    /* What was skipped is found by a look. (A look also finds what a hook is about to record, where
     * its processor was taken away: the hook then finds it booked.) */
    if (missed != before)
        ledger->ops->reconcile(ledger, NULL, NULL, NULL);
    check_account(&guests[0], "after all these looks");
    check_account(&guests[1], "after all these looks");
    check(tenant().pinned == pinned_by(guests[0].token) + pinned_by(guests[1].token),
          "and the tenant has what its machines have (%lld)", tenant().pinned);
    check_truth("after all these looks");
}

/* How often the program that hears of forks was skipped. */
static uint64_t skipped_forks(void)
{
    struct bpf_prog_info info = {0};
    uint32_t size = sizeof(info);
    glob_t found;
    int program = -1;

    if (!glob(TEST_FOLDER "/v*/hooks/ledger_fork", 0, NULL, &found) && found.gl_pathc == 1)
        program = bpf_obj_get(found.gl_pathv[0]);
    if (program < 0 || bpf_obj_get_info_by_fd(program, &info, &size))
        g_error("The program ledger_fork can't be asked how often it was skipped.");
    close(program);
    globfree(&found);
    return info.recursion_misses;
}

/* Who asks for it is an owner from then on. 0: there is no such address space, or it is its own. */
static int ask_for_ranges(uint32_t ioas)
{
    struct iommu_ioas_iova_ranges ranges = {.size = sizeof(ranges), .ioas_id = ioas};
    int r = ioctl(iommufd, IOMMU_IOAS_IOVA_RANGES, &ranges) ? errno : 0;

    return r == ENOENT || r == EMSGSIZE ? 0 : r;
}

static void have_first_processor(int policy, int priority)
{
    const struct sched_param parameters = {.sched_priority = priority};
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(0, &set);
    if (sched_setaffinity(0, sizeof(set), &set) || sched_setscheduler(0, policy, &parameters))
        g_error("A process can't be given a processor: %s", g_strerror(errno));
}

/* An owner that does nothing but fork, until it is killed. */
static pid_t start_forking(void)
{
    pid_t pid = fork();

    if (pid)
        return pid;
    have_first_processor(SCHED_OTHER, 0);
    ask_for_ranges(EVERYTHING >> 32);
    for (;;) {
        pid = fork();
        if (!pid)
            _exit(0);
        waitpid(pid, NULL, 0);
    }
}

typedef struct {
    bool stop;
    unsigned forks;
    unsigned refused;
} Family;

/* One that takes the processor from the others at odd moments, in the middle of their forks, too,
 * and has a child then, which uses what its parent has made. */
static pid_t start_family(volatile Family *family)
{
    struct iommu_ioas_alloc alloc = {.size = sizeof(alloc)};
    struct iommu_destroy destroy = {.size = sizeof(destroy)};
    pid_t pid = fork();
    int status;

    if (pid)
        return pid;
    have_first_processor(SCHED_FIFO, 1);
    if (ioctl(iommufd, IOMMU_IOAS_ALLOC, &alloc))
        _exit(1);
    for (; !family->stop; family->forks++) {
        g_usleep(g_random_int_range(100, 3000));
        pid = fork();
        if (!pid)
            _exit(ask_for_ranges(alloc.out_ioas_id) != 0);
        waitpid(pid, &status, 0);
        family->refused += status != 0;
    }
    destroy.id = alloc.out_ioas_id;
    _exit(ioctl(iommufd, IOMMU_DESTROY, &destroy) ? 1 : 0);
}

/* Up to 6.x the kernel lets nobody take the processor from the program. */
static bool may_skip_forks(void)
{
    struct utsname kernel;

    return !uname(&kernel) && atoi(kernel.release) >= 7;
}

/* A child belongs to its parent's owner, whether or not the ledger has heard of its birth. */
static void test_forks(void)
{
    Family *family =
        mmap(NULL, sizeof(*family), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    gint64 end = g_get_monotonic_time() + (may_skip_forks() ? 60 : 2) * G_USEC_PER_SEC;
    uint64_t before = skipped_forks(), skipped = 0;
    pid_t forking, parent;
    int status;

    fflush(stdout);
    forking = start_forking();
    parent = start_family(family);
    while (skipped < 3 && g_get_monotonic_time() < end) {
        g_usleep(100000);
        skipped = skipped_forks() - before;
    }
    *(volatile bool *)&family->stop = true;
    waitpid(parent, &status, 0);
    check(!status, "one who forks ends well (%d)", status);
    kill(forking, SIGKILL);
    waitpid(forking, NULL, 0);
    check(!may_skip_forks() || skipped, "the ledger did not hear of %" G_GUINT64_FORMAT " forks",
          skipped);
    check(family->forks && !family->refused,
          "each child may use what its parent has made (%u of %u may not)", family->refused,
          family->forks);
    munmap(family, sizeof(*family));
}

/* The service needs no privilege, when what it needs is there. */
static void test_unprivileged(const Guest *guests)
{
    int status;
    pid_t pid;

    ledger_free(ledger);
    fflush(stdout);
    pid = fork();
    if (!pid) {
        LedgerCounters known;
        int before = checks_failed();

        drop_privileges();
        bpf_ledger_open(&options, &ledger);
        check(ledger->status.guarding, "without any capability it takes over: %s",
              ledger->status.reason);
        tell(guests, 2);
        check_error(ledger->ops->counters(ledger, &known), 0, "knows what was missed");
        check_account(&guests[1], "without capabilities");
        check_truth("without capabilities");
        check(ledger->ops->event_fd(ledger) >= 0, "and can hear of events");
        _exit(checks_failed() - before);
    }
    waitpid(pid, &status, 0);
    check(WIFEXITED(status) && !WEXITSTATUS(status), "a service without privileges works");
    bpf_ledger_open(&options, &ledger);
}

static int say_reason(bool unprivileged)
{
    LedgerStatus status;

    if (unprivileged)
        drop_privileges();
    bpf_ledger_unload(TEST_FOLDER);
    bpf_ledger_load(&options, &status);
    printf("ledger: %s\nguard: %s\n", status.counting ? "active" : status.reason,
           !status.guarding    ? status.guard_reason
           : status.rechecking ? "exact"
                               : "watches");
    bpf_ledger_unload(TEST_FOLDER);
    return !status.guarding;
}

int main(int argc, char **argv)
{
    uint64_t host = host_pinned();
    Guest guests[2];

    if (argc > 1 && !strcmp(argv[1], "--reason"))
        return say_reason(argc > 2);
    if (argc == 4 && sscanf(argv[1], "--seconds=%u", &seconds) == 1)
        argv++, argc--;
    if (argc != 3)
        g_error("Usage: guard-life [--seconds=N] CDEV CDEV | --reason [--unprivileged]");
    tenant_open(&options);
    guest_start(&guests[0], argv[1], 4 * MIB);
    guest_start(&guests[1], argv[2], 4 * MIB);
    test_unprivileged(guests);
    test_looks(guests);
    test_forks();
    test_kill(guests);
    test_replace(guests);
    guest_end(&guests[0]);
    guest_end(&guests[1]);
    tenant_close(host);
    return checks_end();
}
