/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What was promised to a machine may always be mapped, and promises never exceed the limit,
 * whatever its siblings, its own threads and the service do meanwhile. Run by guard.sh in the lab:
 *
 *   guard-promise [--tries=N] CDEV CDEV CDEV
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lab/guest.h"

#define SIZE (4 * MIB)
#define MACHINES 3
#define THREADS 8

static Guest guests[MACHINES];
static uint64_t tries = 20000;

static int promise(unsigned i, uint64_t bytes)
{
    return ledger->ops->reserve_machine(ledger, guests[i].token, bytes, false, NULL);
}

static void check_machine(unsigned i, uint64_t reserved, uint64_t borrowed, uint64_t mapped,
                          const char *what)
{
    LedgerMachine account = machine_account(guests[i].token);

    check(account.reserved == reserved && account.borrowed == borrowed && account.mapped == mapped,
          "%s (%" G_GUINT64_FORMAT " KiB promised, %" G_GUINT64_FORMAT
          " borrowed, %" G_GUINT64_FORMAT " mapped)",
          what, account.reserved >> 10, account.borrowed >> 10, account.mapped >> 10);
}

static int map(unsigned i, uint64_t bytes, uint64_t *ret_iova)
{
    *ret_iova = 0;
    return machine_map(&guests[i].process, guests[i].ioas, guests[i].memory, bytes, ret_iova,
                       false);
}

/* ---- one after the other ---- */

static void test_promise(void)
{
    uint64_t iova, more;

    check_error(promise(0, 2 * SIZE), 0, "a promise of twice what is mapped");
    tenant_limit((uint64_t)tenant().budget.used + SIZE);
    check_error(map(1, SIZE, &more), 0, "a sibling takes all that nobody was promised");
    check_error(map(2, 4096, &iova), -EDQUOT, "so that another has none");
    check_error(map(0, SIZE, &iova), 0, "but the first has what it was promised");
    check_machine(0, 2 * SIZE, 0, 2 * SIZE, "all of it");
    machine_unmap(&guests[0].process, guests[0].ioas, iova, SIZE);
    tenant_limit(0);
    check_error(map(0, SIZE, &iova), 0, "and when the limit is nothing at all");
    check_error(promise(2, SIZE + 4096), -EDQUOT, "then nothing more is promised to anybody");
    machine_unmap(&guests[0].process, guests[0].ioas, iova, SIZE);
    machine_unmap(&guests[1].process, guests[1].ioas, more, SIZE);
    check_machine(1, 0, SIZE, SIZE, "what the sibling had is given back");
    ledger->ops->set_budget(ledger, (uint64_t)host_budget().used);
    tenant_limit(LEDGER_UNLIMITED);
    check_error(map(2, 4096, &iova), -EDQUOT,
                "nor has anybody more when the host has nothing left");
    check_error(promise(1, SIZE + 4096), -EDQUOT, "nor is promised more");
    check_error(map(0, SIZE, &iova), 0, "while what was promised is mapped");
    ledger->ops->set_budget(ledger, LEDGER_UNLIMITED);
    check_error(promise(0, 0), 0, "a promise that is taken back while it is mapped");
    check_machine(0, 0, 2 * SIZE, 2 * SIZE, "is borrowed from there on");
    machine_unmap(&guests[0].process, guests[0].ioas, iova, SIZE);
    check_machine(0, 0, SIZE, SIZE, "until it is unmapped");
}

/* A mapping that fails, in whatever way, leaves the account as it was. */
static void test_failures(void)
{
    uint64_t iova = 1ull << 32;

    promise(0, 3 * SIZE);
    check_error(machine_map(&guests[0].process, guests[0].ioas, 4096, SIZE, &iova, true), -EFAULT,
                "a mapping of what is no memory");
    check_error(
        machine_map(&guests[0].process, guests[0].ioas, guests[0].memory + 1, SIZE, &iova, true),
        -EINVAL, "one that begins in the middle of a page");
    check_machine(0, 3 * SIZE, 0, SIZE, "count nothing");
    promise(0, 0);
}

/* What a process maps before it is a machine is taken from what was promised to it when it is. */
static void test_late(void)
{
    uint32_t token = admit_machine(NULL), ioas;
    uint64_t used = (uint64_t)tenant().budget.used, iova = 0, memory;
    LedgerMachine account;
    Machine late;

    check_error(ledger->ops->reserve_machine(ledger, token, SIZE, false, NULL), 0,
                "a promise to a machine that is not there yet");
    machine_start(&late, iommufd, NULL, USER);
    machine_ioas(&late, &ioas);
    memory = machine_memory(&late, SIZE);
    check_error(machine_map(&late, ioas, memory, SIZE, &iova, false), 0, "a process maps");
    check((uint64_t)tenant().budget.used == used + 2 * SIZE, "beside the promise");
    check_error(ledger->ops->name_process(ledger, late.pid, late.start, token, TENANT), 0,
                "it is the machine");
    account = machine_account(token);
    check((uint64_t)tenant().budget.used == used + SIZE && account.mapped == SIZE &&
              !account.borrowed,
          "and what it has mapped is what was promised");
    ledger->ops->remove_machine(ledger, token);
    check((uint64_t)tenant().budget.used == used + SIZE, "what it has counts when it is removed");
    machine_unmap(&late, ioas, 0, EVERYTHING);
    check((uint64_t)tenant().budget.used == used, "until it is unmapped");
    machine_kill(&late);
}

/* ---- all at once ---- */

/* What the process that changes promises, and the test, tell one another. */
typedef struct {
    atomic_bool stop;
    atomic_uint changed, refused, broken;
} Changes;

/* The sum of promises against the limit: only this process makes any. */
static void change_promises(Changes *changes, uint64_t limit)
{
    g_autoptr(GRand) random = g_rand_new_with_seed(1);

    while (!atomic_load(&changes->stop)) {
        unsigned i = (unsigned)g_rand_int_range(random, 0, MACHINES);
        uint64_t sum = 0;
        int r = promise(i, SIZE * (uint64_t)g_rand_int_range(random, 2, 7));

        atomic_fetch_add(r ? &changes->refused : &changes->changed, 1);
        for (unsigned k = 0; k < MACHINES; k++)
            sum += machine_account(guests[k].token).reserved;
        if (sum > limit || (r && r != -EDQUOT))
            atomic_fetch_add(&changes->broken, 1);
    }
}

/* Eight threads of the machine, in a process of the test that waits for them. The first machine's
 * map one more of its memory together, which is promised; its siblings' much more than that.
 * *ret_child: that process. A descriptor that tells how it went. */
static int begin_storm(unsigned i, pid_t *ret_child)
{
    const MachineStorm storm = {
        .ioas = guests[i].ioas,
        .ranges = i ? 1 : THREADS,
        .memory = guests[i].memory,
        .length = i ? SIZE : SIZE / THREADS,
        .threads = THREADS,
        .times = (unsigned)(tries / 16),
    };
    MachineStormed stormed;
    int ends[2];

    if (pipe(ends))
        g_error("There is no pipe.");
    *ret_child = fork();
    if (!*ret_child) {
        if (!machine_storm(&guests[i].process, &storm, &stormed) ||
            write(ends[1], &stormed, sizeof(stormed)) != sizeof(stormed))
            _exit(1);
        _exit(0);
    }
    close(ends[1]);
    return ends[0];
}

static bool end_storm(int fd, pid_t child, MachineStormed *ret_stormed)
{
    bool lived = read(fd, ret_stormed, sizeof(*ret_stormed)) == sizeof(*ret_stormed);

    waitpid(child, NULL, 0);
    close(fd);
    return lived;
}

static void check_storm(const MachineStormed *stormed, const Changes *changes, const char *what)
{
    printf("# the first mapped %" G_GUINT64_FORMAT " times, its siblings %" G_GUINT64_FORMAT
           " and %" G_GUINT64_FORMAT ", who were refused %" G_GUINT64_FORMAT
           " and %" G_GUINT64_FORMAT "; %u promises made, %u refused\n",
           stormed[0].mapped, stormed[1].mapped, stormed[2].mapped, stormed[1].refused,
           stormed[2].refused, atomic_load(&changes->changed), atomic_load(&changes->refused));
    /* Where hooks are skipped, what is lost that way counts until the next look. */
    if (ledger->status.rechecking)
        check(stormed[0].mapped && !stormed[0].refused,
              "who maps what was promised is never refused (%" G_GUINT64_FORMAT ")",
              stormed[0].refused);
    check(stormed[1].refused + stormed[2].refused, "while siblings are");
    check(!stormed[0].other && !stormed[1].other && !stormed[2].other, "for no other reason");
    check(atomic_load(&changes->changed) && atomic_load(&changes->refused) &&
              !atomic_load(&changes->broken),
          "and promises never exceed the %s", what);
}

/* Each machine has twice its memory promised, of which it has mapped the half. */
static void test_storm(bool host)
{
    const uint64_t limit = (2 * MACHINES + 2) * SIZE + SIZE / 2;
    MachineStormed stormed[MACHINES] = {0};
    Changes *changes =
        mmap(NULL, sizeof(*changes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t changer, children[MACHINES];
    int answers[MACHINES];
    bool lived = true;

    for (unsigned i = 0; i < MACHINES; i++)
        check_error(promise(i, 2 * SIZE), 0, "a promise");
    tenant_limit(host ? LEDGER_UNLIMITED : limit);
    ledger->ops->set_budget(ledger, host ? limit : LEDGER_UNLIMITED);
    changer = fork();
    if (!changer) {
        change_promises(changes, limit);
        _exit(0);
    }
    for (unsigned i = 0; i < MACHINES; i++)
        answers[i] = begin_storm(i, &children[i]);
    for (unsigned i = 0; i < MACHINES; i++)
        lived &= end_storm(answers[i], children[i], &stormed[i]);
    atomic_store(&changes->stop, true);
    waitpid(changer, NULL, 0);
    check(lived, "machines live");
    check_storm(stormed, changes, host ? "host's budget" : "limit");
    tenant_limit(LEDGER_UNLIMITED);
    ledger->ops->set_budget(ledger, LEDGER_UNLIMITED);
    ledger->ops->reconcile(ledger, NULL, NULL, NULL);
    check_truth("after it");
    for (unsigned i = 0; i < MACHINES; i++) {
        promise(i, 0);
        check_machine(i, 0, SIZE, SIZE, "each has what it had");
    }
    munmap(changes, sizeof(*changes));
}

int main(int argc, char **argv)
{
    const LedgerOptions options = {.folder = TEST_FOLDER, .guard = LEDGER_GUARD_MODE_KNOWN};
    uint64_t host = host_pinned();

    if (argc > 1 && sscanf(argv[1], "--tries=%" G_GUINT64_FORMAT, &tries) == 1)
        argv++, argc--;
    if (argc != 1 + MACHINES)
        g_error("Usage: guard-promise [--tries=N] CDEV CDEV CDEV");
    tenant_open(&options);
    for (unsigned i = 0; i < MACHINES; i++)
        guest_start(&guests[i], argv[1 + i], SIZE);
    test_promise();
    test_failures();
    test_late();
    test_storm(false);
    test_storm(true);
    for (unsigned i = 0; i < MACHINES; i++)
        guest_end(&guests[i]);
    tenant_close(host);
    return checks_end();
}
