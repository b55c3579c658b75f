/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Two machines of one tenant share an IOMMUFD, each with a device of its own, and one of them
 * turns on the other. Run by guard.sh in the lab:
 *
 *   guard-attack [--tries=N] CDEV CDEV CDEV
 *
 * Prints a line for every check, and fails if one does. The third device is nobody's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/ledger.h"
#include "kernel/process.h"
#include "tests/lab/machine.h"

#define TENANT 1
#define MIB (1ull << 20)
#define PAGES(bytes) ((bytes) >> 12)
#define EVERYTHING UINT64_MAX
#define USER 64055

static Ledger *ledger;
static int iommufd;
static uint32_t context;
static int passed, failed;
static uint32_t next_machine = 10;
static GArray *events;

static bool check(bool fine, const char *format, ...) G_GNUC_PRINTF(2, 3);
static bool check(bool fine, const char *format, ...)
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

static void check_error(int r, int wanted, const char *what)
{
    check(r == wanted, "%s: %s%s%s", what, wanted ? g_strerror(-wanted) : "done",
          r == wanted ? "" : ", but it was ",
          r == wanted ? ""
          : r < 0     ? g_strerror(-r)
                      : "done");
}

static void note_event(const struct ledger_event *event, void *data)
{
    g_array_append_val(events, *event);
}

static const struct ledger_event *find_event(enum ledger_event_kind kind)
{
    ledger_dispatch(ledger, note_event, NULL);
    for (guint i = 0; i < events->len; i++)
        if (g_array_index(events, struct ledger_event, i).kind == kind)
            return &g_array_index(events, struct ledger_event, i);
    return NULL;
}

static void forget_events(void)
{
    ledger_dispatch(ledger, note_event, NULL);
    g_array_set_size(events, 0);
}

static struct ledger_tenant tenant(void)
{
    struct ledger_tenant account = {0};

    ledger_tenant(ledger, TENANT, &account);
    return account;
}

static int64_t pinned_by(uint32_t machine)
{
    struct ledger_book book = {0};

    ledger_machine(ledger, machine, &book, NULL);
    return book.pinned;
}

/* A machine of the tenant with what it has in the IOMMUFD. */
typedef struct {
    Machine process;
    uint32_t token;
    uint32_t device, ioas, hwpt;
    uint64_t memory, iova;
} Guest;

static int own_ioctl(unsigned long command, void *argument)
{
    return ioctl(iommufd, command, argument) < 0 ? -errno : 0;
}

/* What iommud's reaper does, with nothing but the ledger to go by: highest layer first. */
static void reap(uint32_t machine)
{
    static const enum ledger_object_type order[] = {LEDGER_OBJECT_HWPT_NESTED,
                                                    LEDGER_OBJECT_HWPT_PAGING, LEDGER_OBJECT_IOAS};
    g_autofree LedgerObject *objects = NULL;
    size_t n = 0;

    ledger_objects(ledger, context, &objects, &n);
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

static void admit(uint32_t machine, const char *device)
{
    g_autofree char *address = device ? device_address(device) : NULL;

    if (ledger_add_machine(ledger, machine, TENANT))
        g_error("The machine can't be added.");
    if (device && ledger_admit_device(ledger, address, TENANT, machine, 0))
        g_error("%s can't be admitted.", device);
}

/* Starts a machine as QEMU would: it binds and maps before anybody has told who it is. */
static void guest_start(Guest *guest, const char *device, uint64_t size)
{
    int r;

    guest->token = next_machine++;
    guest->iova = 0;
    admit(guest->token, device);
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

static void guest_end(Guest *guest)
{
    if (guest->process.pid)
        machine_kill(&guest->process);
    reap(guest->token);
    ledger_remove_machine(ledger, guest->token);
}

static void check_books(const Guest *guest, const char *when)
{
    uint64_t kernel = machine_pinned(guest->process.pid);

    check(pinned_by(guest->token) == (int64_t)kernel,
          "%s: machine %u's books (%" G_GINT64_FORMAT ") equal VmPin (%" G_GUINT64_FORMAT ")", when,
          guest->token, pinned_by(guest->token), kernel);
}

static void check_truth(const char *when)
{
    LedgerDrift drift;
    int r = ledger_reconcile(ledger, &drift, NULL, NULL);

    check(!r && !drift.drift && !drift.mended && !drift.unstable && !drift.seeded,
          "%s: the books equal the kernel's own structures (%" G_GUINT64_FORMAT
          " ranges, drift %" G_GUINT64_FORMAT ", mended %" G_GUINT64_FORMAT
          ", seeded %" G_GUINT64_FORMAT ", result %d)",
          when, drift.ranges, drift.drift, drift.mended, drift.seeded, r);
}

/* Every ioctl that names objects, with the other's ids where it may name one. */
static void test_trespass(Guest *a, const Guest *b)
{
    static const struct {
        const char *name;
        unsigned long command;
        unsigned size;
        unsigned place; /* of the id that is the other's, in words */
    } attacks[] = {
        {"DESTROY", IOMMU_DESTROY, 8, 1},
        {"IOAS_ALLOW_IOVAS", IOMMU_IOAS_ALLOW_IOVAS, 24, 1},
        {"IOAS_IOVA_RANGES", IOMMU_IOAS_IOVA_RANGES, 32, 1},
        {"IOAS_UNMAP", IOMMU_IOAS_UNMAP, 24, 1},
        {"IOAS_MAP", IOMMU_IOAS_MAP, 40, 2},
        {"IOAS_MAP_FILE", IOMMU_IOAS_MAP_FILE, 40, 2},
        {"OPTION (huge pages)", IOMMU_OPTION, 24, 3},
        {"GET_HW_INFO", IOMMU_GET_HW_INFO, 40, 2},
        {"HWPT_ALLOC, the parent", IOMMU_HWPT_ALLOC, 48, 3},
        {"HWPT_ALLOC, the device", IOMMU_HWPT_ALLOC, 48, 2},
        {"HWPT_SET_DIRTY_TRACKING", IOMMU_HWPT_SET_DIRTY_TRACKING, 16, 2},
        {"HWPT_GET_DIRTY_BITMAP", IOMMU_HWPT_GET_DIRTY_BITMAP, 48, 1},
        {"HWPT_INVALIDATE", IOMMU_HWPT_INVALIDATE, 32, 1},
        {"VIOMMU_ALLOC, the device", IOMMU_VIOMMU_ALLOC, 40, 3},
        {"VIOMMU_ALLOC, the parent", IOMMU_VIOMMU_ALLOC, 40, 4},
        {"VDEVICE_ALLOC, the vIOMMU", IOMMU_VDEVICE_ALLOC, 24, 1},
        {"VDEVICE_ALLOC, the device", IOMMU_VDEVICE_ALLOC, 24, 2},
        {"VEVENTQ_ALLOC", IOMMU_VEVENTQ_ALLOC, 32, 2},
        {"HW_QUEUE_ALLOC", IOMMU_HW_QUEUE_ALLOC, 40, 2},
    };
    const uint32_t foreign[] = {b->device, b->ioas, b->hwpt};
    uint64_t iova = 0;
    int r;

    for (size_t i = 0; i < G_N_ELEMENTS(attacks); i++) {
        int worst = -EACCES;

        for (size_t j = 0; j < G_N_ELEMENTS(foreign); j++) {
            uint32_t argument[32] = {attacks[i].size};

            /* Whatever else is named is the attacker's own, so that only this can be wrong. */
            if (attacks[i].command == IOMMU_HWPT_ALLOC) {
                argument[2] = a->device;
                argument[3] = a->ioas;
            }
            argument[attacks[i].place] = foreign[j];
            if (attacks[i].command == IOMMU_OPTION)
                argument[1] = 1;
            r = machine_ioctl(&a->process, iommufd, attacks[i].command, argument, sizeof(argument));
            if (r != -EACCES)
                worst = r;
        }
        check_error(worst, -EACCES, attacks[i].name);
    }
    check_error(machine_copy(&a->process, a->ioas, b->ioas, b->iova, MIB * 4, &iova), -EACCES,
                "IOAS_COPY of the other's memory");
    check_error(machine_copy(&a->process, b->ioas, a->ioas, a->iova, MIB * 4, &iova), -EACCES,
                "IOAS_COPY into the other's address space");
    check_error(machine_attach(&a->process, a->process.device, b->hwpt), -EACCES,
                "ATTACH to the other's page table");
    check_error(machine_attach(&a->process, a->process.device, b->ioas), -EACCES,
                "ATTACH to the other's address space");
    check_error(machine_destroy(&a->process, 4000), -ENOENT, "DESTROY of an id that is free");
}

static void test_global(Guest *a)
{
    struct iommu_ioas_change_process change = {.size = sizeof(change)};
    struct iommu_option option = {.size = sizeof(option), .op = 0, .val64 = 1};
    uint64_t compat[4] = {32 | 3ull << 32, a->memory, 0, 4096};
    uint32_t argument[4] = {12, a->ioas, 1};

    check_error(
        machine_ioctl(&a->process, iommufd, IOMMU_IOAS_CHANGE_PROCESS, &change, sizeof(change)),
        -EPERM, "CHANGE_PROCESS in a shared IOMMUFD");
    check_error(machine_ioctl(&a->process, iommufd, IOMMU_OPTION, &option, sizeof(option)), -EPERM,
                "setting the accounting mode");
    option.op = 1;
    check_error(machine_ioctl(&a->process, iommufd, IOMMU_OPTION, &option, sizeof(option)), 0,
                "reading the accounting mode");
    check_error(machine_ioctl(&a->process, iommufd, VFIO_IOMMU_MAP_DMA, compat, sizeof(compat)),
                -EPERM, "VFIO's old interface on a shared IOMMUFD");
    check_error(machine_ioctl(&a->process, iommufd, IOMMU_VFIO_IOAS, argument, sizeof(argument)),
                -EPERM, "choosing the address space of VFIO's old interface");
}

static void test_devices(Guest *a, const char *other, const char *nobodys)
{
    g_autofree char *address = device_address(nobodys);
    uint32_t id;
    int fd;

    /* Unprivileged as it is, it gets the file all the same: that is not what protects it. */
    chmod(other, 0666);
    chmod(nobodys, 0666);
    fd = machine_open(&a->process, other);
    check(fd >= 0, "the attacker holds the other machine's device");
    check_error(machine_bind(&a->process, fd, iommufd, &id), -EACCES,
                "binding the other machine's device");
    fd = machine_open(&a->process, nobodys);
    check_error(machine_bind(&a->process, fd, iommufd, &id), -EACCES,
                "binding a device that was not admitted");
    ledger_admit_device(ledger, address, TENANT, a->token, 0);
    check_error(machine_bind(&a->process, fd, iommufd, &id), 0,
                "binding it once it is admitted (hotplug)");
    ledger_dismiss_device(ledger, address);
}

static void test_fork(Guest *a, const Guest *b)
{
    struct iommu_ioas_unmap own = {
        .size = sizeof(own), .ioas_id = a->ioas, .iova = 1ull << 40, .length = 4096};
    struct iommu_ioas_unmap others = {
        .size = sizeof(others), .ioas_id = b->ioas, .length = EVERYTHING};

    check_error(machine_fork_ioctl(&a->process, iommufd, IOMMU_IOAS_UNMAP, &own, sizeof(own)),
                -ENOENT, "a child of the machine names the machine's objects");
    check_error(machine_fork_ioctl(&a->process, iommufd, IOMMU_IOAS_UNMAP, &others, sizeof(others)),
                -EACCES, "and no others");
}

static void test_limit(Guest *a, Guest *b)
{
    uint64_t before = tenant().mapped, iova = 0, memory, host, bare_iova = 0;
    uint32_t bare;
    int first, second;

    ledger_set_limit(ledger, TENANT, before + MIB, LEDGER_COUNT_CHARGED);
    memory = machine_memory(&a->process, 4 * MIB);
    forget_events();
    host = host_pinned();
    check_error(machine_map(&a->process, a->ioas, memory, 2 * MIB, &iova, false), -EDQUOT,
                "a mapping above the limit");
    check(host_pinned() == host && tenant().mapped == (int64_t)before,
          "and nothing was pinned or counted for it");
    check(find_event(LEDGER_EVENT_LIMIT) && find_event(LEDGER_EVENT_LIMIT)->asked == 2 * MIB &&
              find_event(LEDGER_EVENT_LIMIT)->left == MIB,
          "and an event says what was asked for and what was left");
    check_error(machine_map(&a->process, a->ioas, memory + 512, MIB, &iova, false), -EDQUOT,
                "a mapping that is above it only by its rounding to pages");
    check_error(machine_map(&a->process, a->ioas, memory, MIB, &iova, false), 0,
                "a mapping that is exactly what is left");
    check_error(machine_map(&b->process, b->ioas, b->memory, 4096, &iova, false), -EDQUOT,
                "one page more, by the other machine");
    check_error(machine_unmap(&a->process, a->ioas, iova, 4096), -ENOENT, "unmapping a part of it");
    machine_unmap(&a->process, a->ioas, 0, EVERYTHING);
    a->iova = 0;
    machine_map(&a->process, a->ioas, a->memory, 4 * MIB, &a->iova, false);
    check(tenant().mapped == (int64_t)before, "unmapping gives back what was counted");

    check_error(machine_map(&a->process, a->ioas, 4096, MIB, &iova, false), -EFAULT,
                "a mapping of what is no memory");
    iova = a->iova;
    check_error(machine_map(&a->process, a->ioas, memory, MIB, &iova, true), -EEXIST,
                "a mapping where one is already");
    check(tenant().mapped == (int64_t)before, "failed mappings count nothing");

    machine_ioas(&a->process, &bare);
    host = host_pinned();
    check_error(machine_map(&a->process, bare, memory, MIB, &bare_iova, false), 0,
                "a mapping where no device is");
    check(host_pinned() == host && tenant().mapped == (int64_t)(before + MIB),
          "pins nothing, and counts, because an attach would pin it");
    first = machine_copy(&a->process, a->ioas, bare, bare_iova, MIB, &iova);
    check(!first && tenant().mapped == (int64_t)(before + MIB),
          "a copy of it is the same memory and counts once");
    machine_destroy(&a->process, bare);
    check(tenant().mapped == (int64_t)(before + MIB), "until its last user is gone");
    check_error(machine_unmap(&a->process, a->ioas, iova, MIB), 0, "which goes");
    check(tenant().mapped == (int64_t)before, "then it is given back");

    first = second = 0;
    for (int i = 0; i < 256; i++) {
        iova = 0;
        first += !machine_map(&a->process, a->ioas, memory + i * 4096, 4096, &iova, false);
        iova = 0;
        second += !machine_map(&b->process, b->ioas, b->memory + i * 4096, 4096, &iova, false);
    }
    check(first + second == 256 && tenant().mapped == (int64_t)(before + MIB),
          "page by page both get what is left together (%d and %d)", first, second);
    check_books(a, "after the limit");
    check_books(b, "after the limit");
    ledger_set_limit(ledger, TENANT, LEDGER_NO_LIMIT, LEDGER_COUNT_CHARGED);
}

static void test_privileged(const char *device)
{
    uint64_t before = tenant().mapped, iova = 0, memory;
    Machine root;
    uint32_t ioas;

    admit(next_machine, NULL);
    machine_start(&root, iommufd, NULL, 0);
    ledger_name_process(ledger, root.pid, root.start, next_machine, TENANT, NULL);
    memory = machine_memory(&root, MIB);
    machine_ioas(&root, &ioas);
    ledger_set_limit(ledger, TENANT, before, LEDGER_COUNT_CHARGED);
    check_error(machine_map(&root, ioas, memory, MIB, &iova, false), -EDQUOT,
                "a machine with CAP_IPC_LOCK is counted like any other");
    ledger_set_limit(ledger, TENANT, LEDGER_NO_LIMIT, LEDGER_COUNT_CHARGED);
    machine_kill(&root);
    reap(next_machine);
    ledger_remove_machine(ledger, next_machine++);
}

static void test_strangers(const Guest *a, const char *device)
{
    uint32_t id, ioas;
    Machine stranger;
    int fd;

    machine_start(&stranger, -1, NULL, USER);
    fd = machine_receive(&stranger, iommufd);
    check_error(fd < 0 ? fd : 0, -EACCES, "a stranger that is sent the IOMMUFD");
    check_error(ledger_name_process(ledger, stranger.pid, stranger.start, 0, TENANT, NULL), 0,
                "naming it");
    fd = machine_receive(&stranger, iommufd);
    check(fd >= 0, "a process of the tenant that is sent it gets it");
    stranger.iommufd = fd;
    check_error(machine_ioas(&stranger, &ioas), 0, "and allocates");
    check_error(machine_destroy(&stranger, a->ioas), -EACCES, "but has nothing of the machines");
    machine_kill(&stranger);

    chmod(device, 0666);
    machine_start(&stranger, iommufd, NULL, USER);
    fd = machine_open(&stranger, device);
    check_error(machine_bind(&stranger, fd, iommufd, &id), -EACCES,
                "a second process under a machine's name can't bind its device");
    check_error(ledger_name_process(ledger, stranger.pid, stranger.start, a->token, TENANT, NULL),
                -EEXIST, "nor be named as that machine");
    machine_kill(&stranger);
}

/* In a context of its own a machine may hand over to another process, and its books go along. */
static void test_change_process(void)
{
    struct iommu_ioas_change_process change = {.size = sizeof(change)};
    int alone = open("/dev/iommu", O_RDWR | O_CLOEXEC), memfd, r;
    uint64_t iova;
    Machine old, new;
    uint32_t serial, ioas;
    g_autofree LedgerBook *books = NULL;
    int64_t mapped_old = -1, mapped_new = -1;
    size_t n = 0;

    r = ledger_register(ledger, alone, TENANT, LEDGER_CONTEXT_GUARDED, &serial);
    check_error(r, 0, "registering a second IOMMUFD");
    machine_start(&old, alone, NULL, USER);
    machine_start(&new, alone, NULL, USER);
    memfd = machine_memfd(&old, MIB);
    machine_ioas(&old, &ioas);
    r = machine_map_file(&old, ioas, memfd, 0, MIB, &iova);
    if (r == -ENOTTY) {
        printf("# this kernel has no IOAS_MAP_FILE\n");
    } else {
        r = machine_ioctl(&new, alone, IOMMU_IOAS_CHANGE_PROCESS, &change, sizeof(change));
        check_error(r, 0, "CHANGE_PROCESS in an IOMMUFD of one machine");
        ledger_books(ledger, &books, &n);
        for (size_t i = 0; i < n; i++) {
            if (books[i].context == serial && books[i].pid == old.pid)
                mapped_old = books[i].book.mapped;
            if (books[i].context == serial && books[i].pid == new.pid)
                mapped_new = books[i].book.mapped;
        }
        check(!mapped_old && mapped_new == MIB, "and the books follow to the new process");
    }
    machine_kill(&old);
    machine_kill(&new);
    close(alone);
}

typedef struct {
    uint64_t tries, granted, refused, other;
    int attackers, killed;
} Races;

/* One race, by one attacker after another, since each that wins dies of it. */
static void race(Races *sum, Guest *attacker, const char *device, unsigned long command,
                 const void *argument, size_t size, size_t offset, bool wide, uint64_t other,
                 uint64_t tries)
{
    struct iommu_ioas_unmap undo = {
        .size = sizeof(undo), .ioas_id = attacker->ioas, .length = EVERYTHING};
    MachineRace result = {0};

    sum->attackers++;
    if (!machine_race(&attacker->process, iommufd, command, argument, size, offset, wide, other,
                      tries, IOMMU_IOAS_UNMAP, &undo, sizeof(undo), &result))
        sum->killed += machine_was_killed(&attacker->process);
    sum->tries += result.tries;
    sum->granted += result.granted;
    sum->refused += result.refused;
    sum->other += result.other;
}

/* A page of the victim's, for the attacker to unmap. */
#define BAIT (1ull << 37)

static void lay_bait(Guest *victim)
{
    uint64_t iova = BAIT;

    if (machine_map(&victim->process, victim->ioas, victim->memory, 4096, &iova, true))
        g_error("The victim can't map.");
}

static bool take_bait(Guest *victim)
{
    return !machine_unmap(&victim->process, victim->ioas, BAIT, 4096);
}

static void test_races(const char *device, Guest *victim, uint64_t tries)
{
    static const char *const names[] = {"the length of IOAS_MAP", "the source of IOAS_COPY",
                                        "the address space of IOAS_UNMAP", "the id of DESTROY"};

    for (size_t kind = 0; kind < G_N_ELEMENTS(names); kind++) {
        uint64_t before = tenant().mapped;
        int64_t victims = pinned_by(victim->token);
        uint64_t host = host_pinned();
        struct ledger_state state = {0}, state_before = {0};
        uint64_t above = 0;
        int unmapped = 0;
        Races sum = {0};

        forget_events();
        ledger_state(ledger, &state_before);
        while (sum.attackers < 8 && sum.tries < tries) {
            Guest attacker;

            guest_start(&attacker, device, 4 * MIB);
            if (kind == 0) {
                uint64_t memory = machine_memory(&attacker.process, 32 * MIB);
                struct iommu_ioas_map map = {
                    .size = sizeof(map),
                    .flags = MACHINE_MAP_FLAGS,
                    .ioas_id = attacker.ioas,
                    .user_va = memory,
                    .length = 4096,
                };

                ledger_set_limit(ledger, TENANT, tenant().mapped + MIB, LEDGER_COUNT_CHARGED);
                race(&sum, &attacker, device, IOMMU_IOAS_MAP, &map, sizeof(map),
                     G_STRUCT_OFFSET(struct iommu_ioas_map, length), true, 32 * MIB, tries);
            } else if (kind == 1) {
                struct iommu_ioas_copy copy = {
                    .size = sizeof(copy),
                    .flags = MACHINE_MAP_FLAGS,
                    .dst_ioas_id = attacker.ioas,
                    .src_ioas_id = attacker.ioas,
                    .src_iova = victim->iova,
                    .length = 4 * MIB,
                };

                race(&sum, &attacker, device, IOMMU_IOAS_COPY, &copy, sizeof(copy),
                     G_STRUCT_OFFSET(struct iommu_ioas_copy, src_ioas_id), false, victim->ioas,
                     tries);
            } else if (kind == 2) {
                struct iommu_ioas_unmap unmap = {
                    .size = sizeof(unmap),
                    .ioas_id = attacker.ioas,
                    .iova = BAIT,
                    .length = 4096,
                };

                lay_bait(victim);
                race(&sum, &attacker, device, IOMMU_IOAS_UNMAP, &unmap, sizeof(unmap),
                     G_STRUCT_OFFSET(struct iommu_ioas_unmap, ioas_id), false, victim->ioas, tries);
                unmapped += !take_bait(victim);
            } else {
                struct iommu_destroy destroy = {.size = sizeof(destroy), .id = attacker.ioas};

                /* Both are in use, so that the kernel refuses whichever it gets to see. */
                race(&sum, &attacker, device, IOMMU_DESTROY, &destroy, sizeof(destroy),
                     G_STRUCT_OFFSET(struct iommu_destroy, id), false, victim->ioas, tries);
            }
            above += tenant().mapped > (int64_t)tenant().limit && kind == 0;
            guest_end(&attacker);
            ledger_set_limit(ledger, TENANT, LEDGER_NO_LIMIT, LEDGER_COUNT_CHARGED);
        }
        ledger_state(ledger, &state);
        printf("# changing %s: %d attackers, %d killed; of those that lived %" G_GUINT64_FORMAT
               " tries, %" G_GUINT64_FORMAT " granted, %" G_GUINT64_FORMAT
               " refused, %" G_GUINT64_FORMAT " otherwise\n",
               names[kind], sum.attackers, sum.killed, sum.tries, sum.granted, sum.refused,
               sum.other);
        check(state.tampered - state_before.tampered == (uint64_t)sum.killed,
              "changing %s: every time the kernel saw something else the attacker was killed (%d)",
              names[kind], sum.killed);
        check(!sum.killed || find_event(LEDGER_EVENT_TAMPERED), "and an event says so");
        if (ledger_guard_is_exact(ledger))
            check(!above && !unmapped, "and nothing of what it asked for was done");
        else
            printf("# %" G_GUINT64_FORMAT " of them got above the limit and %d unmapped the "
                   "other's page before they died\n",
                   above, unmapped);
        check(tenant().mapped == (int64_t)before && pinned_by(victim->token) == victims &&
                  host_pinned() == host,
              "and after the reaper nothing of it is pinned or counted (%" G_GINT64_FORMAT
              " and %" G_GUINT64_FORMAT " bytes, %" G_GUINT64_FORMAT " and %" G_GUINT64_FORMAT
              " pages)",
              (int64_t)tenant().mapped, before, host_pinned(), host);
        check_truth("after the race");
    }
}

static void test_restart(const LedgerOptions *options, const Guest *a)
{
    int64_t pinned = pinned_by(a->token);

    ledger_free(ledger);
    if (ledger_new(options, &ledger))
        g_error("No memory.");
    check(ledger_is_active(ledger) && ledger_guard_is_active(ledger),
          "a new iommud finds the "
          "programs: %s%s",
          ledger_reason(ledger), ledger_guard_reason(ledger));
    check(ledger_was_taken_over(ledger) && pinned_by(a->token) == pinned,
          "and takes over the books (%" G_GINT64_FORMAT " pages)", pinned_by(a->token));
    check_truth("after a restart");
}

int main(int argc, char **argv)
{
    const LedgerOptions options = {.folder = "/sys/fs/bpf/iommud-test",
                                   .guard = LEDGER_GUARD_STRICT};
    uint64_t tries = 20000, host = host_pinned();
    uint64_t missed = 0;
    struct ledger_state state;
    Guest a, b;

    if (argc > 1 && g_str_has_prefix(argv[1], "--tries=")) {
        tries = strtoull(argv[1] + strlen("--tries="), NULL, 10);
        argv++, argc--;
    }
    if (argc != 4)
        g_error("Usage: guard-attack [--tries=N] CDEV CDEV CDEV");
    events = g_array_new(FALSE, FALSE, sizeof(struct ledger_event));
    if (ledger_new(&options, &ledger))
        g_error("No memory.");
    if (!check(ledger_is_active(ledger), "the ledger is active %s", ledger_reason(ledger)) ||
        !check(ledger_guard_is_active(ledger), "the guard checks %s", ledger_guard_reason(ledger)))
        return 1;
    printf("# what is changed behind the check is %s\n",
           ledger_guard_is_exact(ledger) ? "refused" : "only found out");
    iommufd = open("/dev/iommu", O_RDWR);
    check_error(ledger_register(ledger, iommufd, TENANT,
                                LEDGER_CONTEXT_GUARDED | LEDGER_CONTEXT_SHARED |
                                    LEDGER_CONTEXT_CLOSED_CIRCLE,
                                &context),
                0, "registering the tenant's IOMMUFD");
    ledger_set_limit(ledger, TENANT, LEDGER_NO_LIMIT, LEDGER_COUNT_CHARGED);

    guest_start(&a, argv[1], 4 * MIB);
    guest_start(&b, argv[2], 4 * MIB);
    check_books(&a, "at the start");
    check_books(&b, "at the start");
    check_truth("at the start");
    test_trespass(&a, &b);
    test_global(&a);
    test_devices(&a, argv[2], argv[3]);
    test_fork(&a, &b);
    check_books(&b, "after all that");
    test_limit(&a, &b);
    test_privileged(argv[3]);
    test_strangers(&a, argv[1]);
    test_change_process();
    check_truth("before a restart");
    test_restart(&options, &a);
    guest_end(&a);
    test_races(argv[1], &b, tries);
    guest_end(&b);

    ledger_missed(ledger, &missed);
    ledger_state(ledger, &state);
    printf("# hooks skipped: %" G_GUINT64_FORMAT ", lost: contexts %llu objects %llu pages %llu "
           "books %llu owners %llu events %llu\n",
           missed, state.lost_contexts, state.lost_objects, state.lost_pages, state.lost_books,
           state.lost_owners, state.lost_events);
    check(host_pinned() == host && !tenant().mapped && !tenant().pinned,
          "in the end nothing is pinned, and the books say so");
    close(iommufd);
    ledger_free(ledger);
    check(!ledger_unload(options.folder) && access(options.folder, F_OK),
          "unloading leaves nothing");
    printf("%d passed, %d failed\n", passed, failed);
    return failed ? 1 : 0;
}
