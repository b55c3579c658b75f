/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A tenant whose limit counts unique bytes: the same memory in two address spaces counts once, and
 * neither many threads nor an argument that changes behind the check get more than the limit. Run
 * by guard.sh in the lab:
 *
 *   ledger-unique [--tries=N] CDEV
 */
#include <errno.h>
#include <stdio.h>

#include "tests/lab/guest.h"

#define SIZE (4 * MIB)
#define LIMIT (SIZE + SIZE / 2)

/* A machine whose device has two address spaces: page tables of both are filled. */
typedef struct {
    Machine process;
    uint32_t token, device, ioas[2], hwpt[2];
    uint64_t memory, other;
    int memfd, other_memfd;
} Twin;

static void check_counted(uint64_t bytes, const char *when)
{
    struct ledger_tenant account = tenant();

    check(account.budget.used - account.budget.credit == (int64_t)bytes,
          "%s: %" G_GUINT64_FORMAT " KiB count (%lld, credit %lld)", when, bytes >> 10,
          account.budget.used >> 10, account.budget.credit >> 10);
}

static void twin_start(Twin *twin, const char *device)
{
    int r;

    *twin = (Twin){.token = admit_machine(device)};
    machine_start(&twin->process, iommufd, device, USER);
    r = machine_bind(&twin->process, twin->process.device, iommufd, &twin->device);
    for (int i = 0; !r && i < 2; i++) {
        r = machine_ioas(&twin->process, &twin->ioas[i]);
        if (!r)
            r = machine_hwpt(&twin->process, twin->device, twin->ioas[i], &twin->hwpt[i]);
    }
    if (r)
        g_error("A machine can't start: %s.", g_strerror(-r));
    twin->memory = machine_memory(&twin->process, SIZE);
    twin->other = machine_memory(&twin->process, SIZE);
    twin->memfd = machine_memfd(&twin->process, SIZE);
    twin->other_memfd = machine_memfd(&twin->process, SIZE);
}

static void twin_end(Twin *twin)
{
    machine_kill(&twin->process);
    reap(twin->token);
    ledger->ops->remove_machine(ledger, twin->token);
}

static void unmap_all(Twin *twin)
{
    for (int i = 0; i < 2; i++)
        machine_unmap(&twin->process, twin->ioas[i], 0, EVERYTHING);
}

static int map(Twin *twin, int space, uint64_t offset, uint64_t length)
{
    uint64_t iova = 0;

    return machine_map(&twin->process, twin->ioas[space], twin->memory + offset, length, &iova,
                       false);
}

static void set_limit(uint64_t bytes, LedgerCountMode count)
{
    ledger->ops->set_limit(ledger, TENANT, bytes, count);
}

/* What a vIOMMU does: all of the memory, once for each device. */
static void test_twice(Twin *twin)
{
    set_limit(LIMIT, LEDGER_COUNT_MODE_CHARGED);
    check_error(map(twin, 0, 0, SIZE), 0, "charged: the memory in one address space");
    check_error(map(twin, 1, 0, SIZE), -EDQUOT, "charged: and in a second");
    unmap_all(twin);
    check_counted(0, "charged, unmapped");

    set_limit(LIMIT, LEDGER_COUNT_MODE_UNIQUE);
    check_error(map(twin, 0, 0, SIZE), 0, "unique: the memory in one address space");
    check_error(map(twin, 1, 0, SIZE), 0, "unique: and in a second");
    check_counted(SIZE, "unique");
    check(machine_pinned(twin->process.pid) == 2 * SIZE >> 12,
          "while the kernel charges it twice (%" G_GUINT64_FORMAT " pages)",
          machine_pinned(twin->process.pid));
    check_error(map(twin, 0, SIZE / 2, SIZE / 2), 0, "what overlaps in part counts in full");
    check_counted(LIMIT, "with it");
    check_error(map(twin, 0, 4096, 4096), -EDQUOT, "and one page more is refused");
    ledger->ops->reconcile(ledger, NULL, NULL, NULL);
    check_counted(SIZE, "until a walk finds that it is the same");
    machine_unmap(&twin->process, twin->ioas[0], 0, EVERYTHING);
    ledger->ops->reconcile(ledger, NULL, NULL, NULL);
    check_counted(SIZE, "when the first address space is empty");
    set_limit(LIMIT, LEDGER_COUNT_MODE_CHARGED);
    check_error(map(twin, 0, 0, SIZE), -EDQUOT, "charged again: refused");
    set_limit(2 * SIZE, LEDGER_COUNT_MODE_UNIQUE);
    check_error(map(twin, 0, 0, SIZE), 0, "unique again");
    unmap_all(twin);
    check_counted(0, "unique, unmapped");
}

/* Changing how it counts while it is mapped. */
static void test_switch(Twin *twin)
{
    set_limit(LEDGER_UNLIMITED, LEDGER_COUNT_MODE_UNIQUE);
    for (int i = 0; i < 2; i++)
        map(twin, i, 0, SIZE);
    check_counted(SIZE, "mapped as unique");
    set_limit(LEDGER_UNLIMITED, LEDGER_COUNT_MODE_CHARGED);
    check_counted(2 * SIZE, "and from now on charged");
    set_limit(LEDGER_UNLIMITED, LEDGER_COUNT_MODE_UNIQUE);
    ledger->ops->reconcile(ledger, NULL, NULL, NULL);
    check_counted(SIZE, "and unique again, by a walk");
    unmap_all(twin);
    check_counted(0, "unmapped");
}

static void test_failures(Twin *twin)
{
    uint64_t iova = 1ull << 32;
    int many = 0;

    set_limit(LIMIT, LEDGER_COUNT_MODE_UNIQUE);
    machine_map(&twin->process, twin->ioas[0], twin->memory, SIZE, &iova, true);
    check_error(machine_map(&twin->process, twin->ioas[0], twin->memory, SIZE, &iova, true),
                -EEXIST, "a mapping of the same where one is already");
    check_counted(SIZE, "that failed, it");
    machine_unmap(&twin->process, twin->ioas[0], iova, SIZE);
    check_counted(0, "and it is not held by what failed");
    check_error(machine_map(&twin->process, twin->ioas[0], 4096, SIZE, &iova, true), -EFAULT,
                "a mapping of what is no memory");
    check_counted(0, "after it");

    set_limit(LEDGER_UNLIMITED, LEDGER_COUNT_MODE_UNIQUE);
    while (many < LEDGER_EXTENT_MAX_REFS + 1 && !map(twin, many & 1, 0, SIZE))
        many++;
    check_counted(2 * SIZE, "the same more often than may be");
    unmap_all(twin);
    check_counted(0, "and unmapped");
}

static void test_files(Twin *twin)
{
    uint64_t iova;
    int r = machine_map_file(&twin->process, twin->ioas[0], twin->memfd, 0, SIZE, &iova);

    if (r == -ENOTTY) {
        printf("# this kernel maps no files\n");
        return;
    }
    unmap_all(twin);
    set_limit(LIMIT, LEDGER_COUNT_MODE_UNIQUE);
    for (int i = 0; i < 2; i++)
        check_error(machine_map_file(&twin->process, twin->ioas[i], twin->memfd, 0, SIZE, &iova), 0,
                    "a file's memory");
    check_counted(SIZE, "a file in two address spaces");
    check_error(machine_map_file(&twin->process, twin->ioas[0], twin->other_memfd, 0, SIZE, &iova),
                -EDQUOT, "another file");
    unmap_all(twin);
    check_counted(0, "unmapped");
}

static void test_storm(Twin *twin)
{
    const uint64_t length = SIZE / 8;
    MachineStorm storm = {
        .ioas = twin->ioas[0],
        .ranges = 8,
        .memory = twin->memory,
        .length = length,
        .threads = 8,
        .times = 1500,
    };
    MachineStormed stormed = {0};
    bool lived;

    set_limit(3 * length + length / 2, LEDGER_COUNT_MODE_UNIQUE);
    lived = machine_storm(&twin->process, &storm, &stormed);
    check(lived && stormed.mapped && !stormed.other,
          "%u threads map and unmap (%" G_GUINT64_FORMAT " mapped, %" G_GUINT64_FORMAT " refused)",
          storm.threads, stormed.mapped, stormed.refused);
    check(stormed.most <= 3, "and never more than the limit (%" G_GUINT64_FORMAT " of 3 ranges)",
          stormed.most);
    /* What was lost since hooks were skipped counts until a walk. */
    ledger->ops->reconcile(ledger, NULL, NULL, NULL);
    check_truth("after the storm");
    check_counted(0, "and then");
}

/* Another thread changes what is mapped after the check, while there is room for one of the two. */
static void race(const char *device, uint64_t tries, bool file)
{
    struct iommu_ioas_map map_memory = {
        .size = sizeof(map_memory), .flags = MACHINE_MAP_FLAGS, .length = SIZE};
    struct iommu_ioas_map_file map_file = {
        .size = sizeof(map_file), .flags = MACHINE_MAP_FLAGS, .length = SIZE};
    struct iommu_ioas_unmap undo = {.size = sizeof(undo), .length = EVERYTHING};
    MachineRaceOptions options = {
        .tries = tries,
        .seconds = 20,
        .undo = IOMMU_IOAS_UNMAP,
        .undo_argument = &undo,
        .undo_size = sizeof(undo),
    };
    const char *what = file ? "the file" : "the address";
    g_autofree LedgerMeasurement *truths = NULL;
    LedgerCounters before = {0}, state = {0};
    uint64_t iova = 0, unique = 0;
    MachineRace result;
    size_t n = 0;
    Twin twin;
    int r = 0;

    twin_start(&twin, device);
    set_limit(LIMIT, LEDGER_COUNT_MODE_UNIQUE);
    before = counters();
    map_memory.ioas_id = map_file.ioas_id = undo.ioas_id = twin.ioas[1];
    map_memory.user_va = twin.memory;
    map_file.fd = twin.memfd;
    if (file) {
        r = machine_map_file(&twin.process, twin.ioas[0], twin.memfd, 0, SIZE, &iova);
        options.offset = offsetof(struct iommu_ioas_map_file, fd);
        options.other = twin.other_memfd;
        if (!r)
            machine_race(&twin.process, iommufd, IOMMU_IOAS_MAP_FILE, &map_file, sizeof(map_file),
                         &options, &result);
    } else {
        options.offset = offsetof(struct iommu_ioas_map, user_va);
        options.wide = true;
        options.other = twin.other;
        machine_race(&twin.process, iommufd, IOMMU_IOAS_MAP, &map_memory, sizeof(map_memory),
                     &options, &result);
    }
    if (!r) {
        state = counters();
        printf("# changing %s: %" G_GUINT64_FORMAT " tries, %" G_GUINT64_FORMAT
               " granted, %" G_GUINT64_FORMAT " refused, %" G_GUINT64_FORMAT " killed\n",
               what, result.tries, result.granted, result.refused, result.killed);
        check(state.changed_arguments - before.changed_arguments == result.killed && result.tries &&
                  (!result.killed || !ledger->status.rechecking),
              "%s was changed: who did it is killed (%" G_GUINT64_FORMAT
              "), where it can't be refused",
              what, result.killed);
        check_truth("after it");
        ledger->ops->reconcile(ledger, NULL, &truths, &n);
        for (size_t i = 0; i < n; i++)
            unique += truths[i].tenant == TENANT ? truths[i].mapped_unique : 0;
        if (ledger->status.rechecking)
            check(unique <= LIMIT, "nothing is mapped above the limit (%" G_GUINT64_FORMAT " KiB)",
                  unique >> 10);
    }
    twin_end(&twin);
    check_counted(0, "and when it is reaped");
}

int main(int argc, char **argv)
{
    const LedgerOptions options = {.folder = TEST_FOLDER, .guard = LEDGER_GUARD_MODE_KNOWN};
    uint64_t tries = 20000, host = host_pinned();
    Twin twin;

    if (argc > 1 && sscanf(argv[1], "--tries=%" G_GUINT64_FORMAT, &tries) == 1)
        argv++, argc--;
    if (argc != 2)
        g_error("Usage: ledger-unique [--tries=N] CDEV");
    tenant_open(&options);
    twin_start(&twin, argv[1]);
    test_twice(&twin);
    test_switch(&twin);
    test_failures(&twin);
    test_files(&twin);
    test_storm(&twin);
    twin_end(&twin);
    race(argv[1], tries, false);
    race(argv[1], tries, true);
    tenant_close(host);
    return checks_end();
}
