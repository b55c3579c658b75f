/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A machine that changes an argument while the kernel reads it. Run by guard.sh in the lab:
 *
 *   guard-race [--tries=N] [--seconds=N] CDEV CDEV CDEV
 *
 * Beside the victim's object each attacker names one with which the kernel never does what is
 * asked: whatever is granted is a trespass. Or it names an id that is the victim's and free by
 * turns. The third device is nobody's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/process.h"
#include "tests/lab/guest.h"

#define BAIT (1ull << 37)
#define BIG (32 * MIB)
#define NO_FILE 250 /* a descriptor that no machine has */

static uint64_t tries = 20000;
static unsigned seconds = 20;
static uint64_t killed; /* in all races */

static Guest victim;
static uint32_t
    spare; /* an address space of the victim's that nothing keeps from being destroyed */

/* What an attack is: filled in for the attacker that has just started. */
typedef struct {
    int fd;
    unsigned long command;
    size_t size;
    union {
        struct iommu_ioas_map map;
        struct iommu_ioas_copy copy;
        struct iommu_ioas_unmap unmap;
        struct iommu_destroy destroy;
        struct vfio_device_attach_iommufd_pt attach;
        struct vfio_device_bind_iommufd bind;
    };
    MachineRaceOptions options;
    bool may_be_granted; /* what was not changed */
} Attack;

#define BEGIN(attack, what, number, member)                                                        \
    (attack)->command = (number), (attack)->size = sizeof((attack)->what),                         \
    (attack)->options.offset = G_STRUCT_OFFSET(__typeof__((attack)->what), member)

/* The tenant's limit, by a length that grows after it was compared with what is left. */
static void race_length(Attack *attack, Guest *attacker)
{
    BEGIN(attack, map, IOMMU_IOAS_MAP, length);
    attack->map = (struct iommu_ioas_map){
        .size = sizeof(attack->map),
        .flags = MACHINE_MAP_FLAGS,
        .ioas_id = attacker->ioas,
        .user_va = machine_memory(&attacker->process, BIG),
        .length = 4096,
    };
    attack->options.wide = true;
    attack->options.other = BIG;
    attack->may_be_granted = true;
    machine_unmap(&attacker->process, attacker->ioas, 0, EVERYTHING);
    tenant_limit(tenant().budget.used + MIB);
}

/* The victim's memory: at the same place in the attacker's address space there is nothing. */
static void race_copy(Attack *attack, Guest *attacker)
{
    BEGIN(attack, copy, IOMMU_IOAS_COPY, src_ioas_id);
    attack->copy = (struct iommu_ioas_copy){
        .size = sizeof(attack->copy),
        .flags = MACHINE_MAP_FLAGS,
        .dst_ioas_id = attacker->ioas,
        .src_ioas_id = attacker->ioas,
        .src_iova = BAIT,
        .length = 4096,
    };
    attack->options.other = victim.ioas;
}

static void race_unmap(Attack *attack, Guest *attacker)
{
    BEGIN(attack, unmap, IOMMU_IOAS_UNMAP, ioas_id);
    attack->unmap = (struct iommu_ioas_unmap){
        .size = sizeof(attack->unmap),
        .ioas_id = attacker->ioas,
        .iova = BAIT,
        .length = 4096,
    };
    attack->options.other = victim.ioas;
}

/* The attacker's own is in use. */
static void race_destroy(Attack *attack, Guest *attacker)
{
    BEGIN(attack, destroy, IOMMU_DESTROY, id);
    attack->destroy = (struct iommu_destroy){.size = sizeof(attack->destroy), .id = attacker->ioas};
    attack->options.other = spare;
}

/* The attacker's own device object is no page table. */
static void race_attach(Attack *attack, Guest *attacker)
{
    BEGIN(attack, attach, VFIO_DEVICE_ATTACH_IOMMUFD_PT, pt_id);
    attack->fd = attacker->process.device;
    attack->attach = (struct vfio_device_attach_iommufd_pt){
        .argsz = sizeof(attack->attach),
        .pt_id = attacker->device,
    };
    attack->options.other = victim.hwpt;
}

/* A device that the tenant has not, into the tenant's IOMMUFD. */
static void race_bind(Attack *attack, Guest *attacker)
{
    BEGIN(attack, bind, VFIO_DEVICE_BIND_IOMMUFD, iommufd);
    attack->bind =
        (struct vfio_device_bind_iommufd){.argsz = sizeof(attack->bind), .iommufd = NO_FILE};
    attack->options.other = iommufd;
}

/* A device that it has, into an IOMMUFD of the attacker's own, where nobody counts. */
static void race_escape(Attack *attack, Guest *attacker)
{
    g_autofree char *address = device_address(attack->options.path);

    BEGIN(attack, bind, VFIO_DEVICE_BIND_IOMMUFD, iommufd);
    attack->bind =
        (struct vfio_device_bind_iommufd){.argsz = sizeof(attack->bind), .iommufd = iommufd};
    attack->may_be_granted = true;
    ledger->ops->admit_device(ledger, address, &(LedgerClaim){TENANT, attacker->token, 0, 0}, NULL);
    attack->options.other = machine_open(&attacker->process, "/dev/iommu");
}

static const struct {
    const char *name;
    void (*begin)(Attack *attack, Guest *attacker);
    unsigned threads;
    bool opens; /* each attacker a device, anew */
} races[] = {
    {"the length of IOAS_MAP", race_length, 1, false},
    {"the source of IOAS_COPY", race_copy, 1, false},
    {"the address space of IOAS_UNMAP", race_unmap, 1, false},
    {"the id of DESTROY", race_destroy, 1, false},
    {"the page table of ATTACH", race_attach, 1, false},
    {"the IOMMUFD of BIND", race_bind, 1, true},
    {"the IOMMUFD of BIND, to one's own", race_escape, 1, true},
    {"the length of IOAS_MAP, in a crowd", race_length, 16, false},
    {"the address space of IOAS_UNMAP, in a crowd", race_unmap, 16, false},
};

static void lay_bait(void)
{
    uint64_t iova = BAIT;

    if (machine_map(&victim.process, victim.ioas, victim.memory, 4096, &iova, true) ||
        machine_ioas(&victim.process, &spare))
        g_error("The victim can't map.");
}

/* Whether it is as it was. */
static bool take_bait(void)
{
    int unmapped = machine_unmap(&victim.process, victim.ioas, BAIT, 4096);
    int destroyed = machine_destroy(&victim.process, spare);

    printf("# the victim's memory is unmapped: %s; its object destroyed: %s\n",
           g_strerror(-unmapped), g_strerror(-destroyed));
    return !unmapped && !destroyed;
}

static void run(const char *name, const Attack *attack, Guest *attacker)
{
    LedgerCounters state = {0}, before = {0};
    int64_t peak = MAX(tenant().peak, (int64_t)MIN(tenant().budget.limit, INT64_MAX) >> 12);
    MachineRace race;

    forget_events();
    before = counters();
    machine_race(&attacker->process, attack->fd, attack->command, &attack->map, attack->size,
                 &attack->options, &race);
    state = counters();
    printf("# changing %s: %" G_GUINT64_FORMAT " attackers, %" G_GUINT64_FORMAT
           " killed; %" G_GUINT64_FORMAT " tries, %" G_GUINT64_FORMAT " granted, %" G_GUINT64_FORMAT
           " refused, %" G_GUINT64_FORMAT " otherwise\n",
           name, race.attackers, race.killed, race.tries, race.granted, race.refused, race.other);
    if (ledger->status.rechecking) {
        check(!race.killed && state.changed_arguments == before.changed_arguments,
              "changing %s: nobody has to be killed for it", name);
        check((attack->may_be_granted || !race.granted) && tenant().peak <= peak,
              "since nothing of what it asked for was done");
        check(!race.refused ||
                  find_event(attack->command == IOMMU_IOAS_MAP ? LEDGER_EVENT_KIND_LIMIT
                                                               : LEDGER_EVENT_KIND_REFUSED),
              "and an event says that it was refused");
        return;
    }
    killed += race.killed;
    /* Whoever it was done for did nothing after it, so that nobody was told. */
    if (attack->options.threads == 1)
        check(attack->may_be_granted || !race.granted,
              "changing %s: it was the last that anybody did", name);
    /* Of many threads several may do it before they die together. */
    check(attack->options.threads > 1
              ? state.changed_arguments - before.changed_arguments >= race.killed
              : state.changed_arguments - before.changed_arguments == race.killed,
          "changing %s: who did it at the wrong moment was killed (%" G_GUINT64_FORMAT ")", name,
          race.killed);
    check(!race.killed || find_event(LEDGER_EVENT_KIND_ARGUMENT_CHANGED), "and an event says so");
    printf("# before that it was done %" G_GUINT64_FORMAT " times; at most %lld pages were "
           "pinned\n",
           attack->may_be_granted ? 0 : race.granted, tenant().peak);
}

static void test_race(size_t which, const char *device, const char *nobodys)
{
    struct iommu_ioas_unmap undo = {.size = sizeof(undo), .length = EVERYTHING};
    Attack attack = {
        .fd = iommufd,
        .options = {.threads = races[which].threads,
                    .tries = tries,
                    .seconds = seconds,
                    .undo = IOMMU_IOAS_UNMAP,
                    .undo_argument = &undo,
                    .undo_size = sizeof(undo),
                    .path = races[which].opens ? nobodys : NULL},
    };
    uint64_t before = tenant().budget.used, host = host_pinned(), skipped = counters().skipped;
    int64_t victims = pinned_by(victim.token);
    Guest attacker;
    bool untouched;

    guest_start(&attacker, device, 4 * MIB);
    lay_bait();
    undo.ioas_id = attacker.ioas;
    races[which].begin(&attack, &attacker);
    run(races[which].name, &attack, &attacker);
    tenant_limit(LEDGER_UNLIMITED);
    untouched = take_bait();
    if (ledger->status.rechecking)
        check(untouched, "and the victim has all that it had");
    guest_end(&attacker);
    /* Where BPF can only watch, a hook is skipped when it comes while it is at work on the same
     * processor for somebody whom the kernel has preempted: an attacker that dies is enough. One
     * look makes up for that, as for what a crowd has had skipped. */
    skipped = counters().skipped - skipped;
    if (attack.options.threads > 1 || (skipped && !ledger->status.rechecking))
        ledger->ops->reconcile(ledger, NULL, NULL, NULL);
    printf("# %" G_GUINT64_FORMAT " hooks were skipped\n", skipped);
    check_truth("after the race");
    check(tenant().budget.used == (int64_t)before && pinned_by(victim.token) == victims &&
              host_pinned() == host,
          "and after the reaper nothing of it is pinned or counted (%lld and %" G_GUINT64_FORMAT
          " bytes, %" G_GUINT64_FORMAT " and %" G_GUINT64_FORMAT " pages)",
          tenant().budget.used, before, host_pinned(), host);
}

/* What is done to whatever stands under an id; it would succeed with any address space. */
static const struct {
    const char *name;
    unsigned long command;
} reuses[] = {
    {"DESTROY", IOMMU_DESTROY},
    {"IOAS_UNMAP", IOMMU_IOAS_UNMAP},
    {"IOAS_MAP", IOMMU_IOAS_MAP},
};

/* Fills in the argument that names the id, and what undoes it. */
static void name_reused(Attack *attack, unsigned long command, Guest *attacker, uint32_t id)
{
    attack->command = command;
    if (command == IOMMU_DESTROY) {
        BEGIN(attack, destroy, command, id);
        attack->destroy = (struct iommu_destroy){.size = sizeof(attack->destroy), .id = id};
    } else if (command == IOMMU_IOAS_UNMAP) {
        BEGIN(attack, unmap, command, ioas_id);
        attack->unmap = (struct iommu_ioas_unmap){
            .size = sizeof(attack->unmap), .ioas_id = id, .length = EVERYTHING};
    } else {
        BEGIN(attack, map, command, ioas_id);
        attack->map = (struct iommu_ioas_map){
            .size = sizeof(attack->map),
            .flags = MACHINE_MAP_FLAGS,
            .ioas_id = id,
            .user_va = machine_memory(&attacker->process, 4096),
            .length = 4096,
        };
    }
}

/*
 * An id that is free when the guard looks, and the victim's a moment later: the kernel gives out
 * the lowest one, so that it is known beforehand. Nothing is changed in the argument.
 */
static void test_reuse(size_t which, const char *device)
{
    struct iommu_ioas_alloc alloc = {.size = sizeof(alloc)};
    struct iommu_destroy undo = {.size = sizeof(undo)};
    MachineRaceOptions makes = {
        .threads = 1,
        .tries = tries,
        .seconds = seconds,
        .undo = IOMMU_DESTROY,
        .undo_argument = &undo,
        .undo_size = sizeof(undo),
    };
    Attack attack = {.options = {.threads = 16, .tries = 4 * tries, .seconds = seconds}};
    long long before = tenant().budget.used;
    MachineRace race, made;
    Guest attacker;
    uint32_t again;

    guest_start(&attacker, device, 4 * MIB);
    if (machine_ioas(&victim.process, &undo.id) || machine_destroy(&victim.process, undo.id))
        g_error("The victim can't make an address space.");
    name_reused(&attack, reuses[which].command, &attacker, undo.id);
    machine_race_begin(&attacker.process, iommufd, attack.command, &attack.map, attack.size,
                       &attack.options);
    machine_race(&victim.process, iommufd, IOMMU_IOAS_ALLOC, &alloc, sizeof(alloc), &makes, &made);
    machine_race_end(&attacker.process, &race);
    printf("# %s of an id that comes and goes: %" G_GUINT64_FORMAT " tries, %" G_GUINT64_FORMAT
           " granted, %" G_GUINT64_FORMAT " refused, %" G_GUINT64_FORMAT
           " otherwise, %" G_GUINT64_FORMAT " killed; it was made %" G_GUINT64_FORMAT " times\n",
           reuses[which].name, race.tries, race.granted, race.refused, race.other, race.killed,
           made.granted);
    check(made.granted == made.tries, "who makes it does so each time");
    if (ledger->status.rechecking) {
        check(!race.granted && !race.killed, "%s of it is another's never, and nobody is killed",
              reuses[which].name);
        check(!machine_ioas(&victim.process, &again) && again == undo.id,
              "and destroys it each time");
        machine_destroy(&victim.process, again);
    }
    guest_end(&attacker);
    ledger->ops->reconcile(ledger, NULL, NULL, NULL);
    check_truth("after the race");
    check(tenant().budget.used == before, "and nothing of it is counted (%lld and %lld bytes)",
          tenant().budget.used, before);
}

/* The entry of a thread that has reserved a MiB. */
static void put_reservation(uint32_t number, pid_t tid, uint64_t start, uint32_t machine)
{
    const struct ledger_reservation entry = {.tid = (uint32_t)tid,
                                             .start = start,
                                             .bytes = MIB,
                                             .tenant = TENANT,
                                             .share = LEDGER_SHARE(machine, 0)};

    if (map_put(bpf_ledger(ledger), MAP_RESERVATIONS, &number, &entry))
        g_error("The map can't be written.");
}

static bool reservation_is_free(uint32_t number)
{
    struct ledger_reservation entry;

    return !map_get(bpf_ledger(ledger), MAP_RESERVATIONS, &number, &entry) && !entry.tid;
}

/* The end of an ioctl was skipped, and then that of its thread. It can't be brought about. */
static void test_unseen_end(void)
{
    long long before = tenant().budget.used;
    uint64_t mapped = machine_account(victim.token).mapped;
    pid_t dead = fork();
    uint64_t start;

    if (!dead)
        _exit(0);
    waitpid(dead, NULL, 0);
    count_by_hand(victim.token, MIB);
    count_by_hand(0, 2 * MIB);
    if (process_start_time(getpid(), &start))
        g_error("The reservations can't be made.");
    put_reservation(0, dead, start, victim.token);
    put_reservation(1, getpid(), start + 1, 0); /* of one that had the number before */
    put_reservation(2, getpid(), start, 0);
    put_reservation(3, dead, 0, 0); /* of one that is about to write it */
    ledger->ops->reconcile(ledger, NULL, NULL, NULL);
    check(reservation_is_free(0) && reservation_is_free(1) && !reservation_is_free(2) &&
              tenant().budget.used == before + (long long)MIB,
          "what dead threads had reserved is given back, what a living one has is not (%lld of "
          "%lld bytes)",
          tenant().budget.used - before, 3 * (long long)MIB);
    check(machine_account(victim.token).mapped == mapped, "to the machine that had it");
    put_reservation(2, dead, start, 0);
    ledger->ops->reconcile(ledger, NULL, NULL, NULL);
    check(reservation_is_free(2) && tenant().budget.used == before, "until it is dead, too");
    check(!reservation_is_free(3), "and what is not written yet counts for nothing");
    put_reservation(3, 0, 0, 0);
}

int main(int argc, char **argv)
{
    const LedgerOptions options = {.folder = TEST_FOLDER, .guard = LEDGER_GUARD_MODE_KNOWN};
    uint64_t host = host_pinned();

    for (; argc > 1 && g_str_has_prefix(argv[1], "--"); argv++, argc--) {
        if (sscanf(argv[1], "--tries=%" G_GUINT64_FORMAT, &tries) != 1 &&
            sscanf(argv[1], "--seconds=%u", &seconds) != 1)
            g_error("Unknown option %s.", argv[1]);
    }
    if (argc != 4)
        g_error("Usage: guard-race [--tries=N] [--seconds=N] CDEV CDEV CDEV");
    chmod(argv[3], 0666);
    chmod("/dev/iommu", 0666);
    tenant_open(&options);
    guest_start(&victim, argv[2], 4 * MIB);
    for (size_t i = 0; i < G_N_ELEMENTS(races); i++)
        test_race(i, argv[1], argv[3]);
    for (size_t i = 0; i < G_N_ELEMENTS(reuses); i++)
        test_reuse(i, argv[1]);
    test_unseen_end();
    if (!ledger->status.rechecking)
        check(killed, "and somebody was found out (%" G_GUINT64_FORMAT ")", killed);
    guest_end(&victim);
    tenant_close(host);
    return checks_end();
}
