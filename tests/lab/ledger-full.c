/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Maps that are full: the guard refuses what the ledger could not count, nobody takes all the room
 * from the others, and what was lost elsewhere is found again. Run by guard.sh in the lab:
 *
 *   ledger-full
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "tests/lab/guest.h"

#define SMALL_PAGES 32
#define SMALL_OBJECTS 64

/* Maps one page after another at fixed places, until it is refused; how many. */
static unsigned fill_pages(Machine *machine, uint32_t ioas, uint64_t memory, int *ret_error)
{
    unsigned n = 0;

    for (*ret_error = 0; n < 2 * SMALL_PAGES; n++) {
        uint64_t iova = (uint64_t)(n + 1) << 12;

        *ret_error = machine_map(machine, ioas, memory, 4096, &iova, true);
        if (*ret_error)
            break;
    }
    return n;
}

static unsigned fill_objects(Machine *machine, int *ret_error)
{
    unsigned n = 0;
    uint32_t id;

    while (n < 2 * SMALL_OBJECTS && !(*ret_error = machine_ioas(machine, &id)))
        n++;
    return n;
}

static void test_shares(Machine *machines, const uint32_t *ioas, const uint64_t *memory)
{
    unsigned first, second;
    int error;

    first = fill_pages(&machines[0], ioas[0], memory[0], &error);
    check(error == -ENOMEM && first == SMALL_PAGES / 2,
          "full: who maps without end gets half of the room (%u ranges)", first);
    second = fill_pages(&machines[1], ioas[1], memory[1], &error);
    check(error == -ENOMEM && second == SMALL_PAGES / 4,
          "full: so that there is some for another (%u)", second);
    check(!machine_unmap(&machines[0], ioas[0], 0, UINT64_MAX) &&
              fill_pages(&machines[1], ioas[1], memory[1] + (32 << 12), &error) == 0 &&
              error == -EEXIST,
          "full: which has more when the first gives back");
    machine_unmap(&machines[1], ioas[1], 0, UINT64_MAX);
    first = fill_objects(&machines[0], &error);
    check(error == -ENOMEM && first >= SMALL_OBJECTS / 2 - 2 && first <= SMALL_OBJECTS / 2,
          "full: the same with objects (%u)", first);
    second = fill_objects(&machines[1], &error);
    check(error == -ENOMEM && second > 8, "full: of which the other gets some as well (%u)",
          second);
}

/* An IOMMUFD that nobody guards takes all the room there is. */
static void test_lost(Machine *machine, uint32_t ioas, uint64_t memory)
{
    int hog = open("/dev/iommu", O_RDWR | O_CLOEXEC), error;
    LedgerCounters state;
    LedgerDrift drift = {0};
    Machine greedy;
    uint32_t space;
    uint64_t own;
    unsigned n;

    machine_start(&greedy, hog, NULL, 64055);
    own = machine_memory(&greedy, 4096);
    machine_ioas(&greedy, &space);
    n = fill_pages(&greedy, space, own, &error);
    state = counters();
    check(!error && state.lost_ranges == n - SMALL_PAGES,
          "full: ranges that found no room are counted (%" G_GUINT64_FORMAT ")", state.lost_ranges);
    check(fill_pages(machine, ioas, memory, &error) == 0 && error == -ENOMEM,
          "full: and a tenant's machine is refused, rather than not counted");
    for (unsigned i = 0; i < SMALL_PAGES; i++)
        machine_unmap(&greedy, space, (uint64_t)(i + 1) << 12, 4096);
    check(!ledger->ops->reconcile(ledger, &drift, NULL, NULL) && drift.repaired == n - SMALL_PAGES,
          "full: when there is room again they are found (%" G_GUINT64_FORMAT ")", drift.repaired);
    check(!ledger->ops->reconcile(ledger, &drift, NULL, NULL) && !drift.repaired, "full: once");
    fill_objects(&greedy, &error);
    state = counters();
    check(!error && state.lost_objects,
          "full: objects that found no room are counted (%" G_GUINT64_FORMAT ")",
          state.lost_objects);
    check(fill_objects(machine, &error) == 0 && error == -ENOMEM,
          "full: and a tenant's machine gets none, of which nobody would know whose it is");
    machine_kill(&greedy);
    close(hog);
    check(fill_objects(machine, &error) > 8, "full: until there is room again");
    check(!ledger->ops->reconcile(ledger, &drift, NULL, NULL) && !drift.adopted && !drift.repaired,
          "full: then the ledger is right");
}

static void test_crowded(int full)
{
    enum { MANY = 24 };
    Machine machines[MANY];
    int files[MANY], refused = 0, r;
    LedgerCounters state;
    uint32_t serial, id;

    for (int i = 0; i < MANY; i++)
        files[i] = open("/dev/iommu", O_RDWR | O_CLOEXEC);
    state = counters();
    r = ledger->ops->register_iommufd(ledger, files[MANY - 1], 3, LEDGER_CONTEXT_FLAG_GUARDED,
                                      &serial);
    check(state.lost_contexts && r == -ENOMEM,
          "full: an IOMMUFD that found no room can't be registered (%" G_GUINT64_FORMAT ")",
          state.lost_contexts);
    for (int i = 0; i < MANY - 1; i++)
        close(files[i]);
    check(!ledger->ops->register_iommufd(ledger, files[MANY - 1], 3, LEDGER_CONTEXT_FLAG_GUARDED,
                                         &serial),
          "full: until there is room again");
    close(files[MANY - 1]);
    for (int i = 0; i < MANY; i++) {
        machine_start(&machines[i], full, NULL, 64055);
        r = machine_ioas(&machines[i], &id);
        refused += r == -EACCES;
        check(!r || r == -EACCES, "full: process %d is let in, or refused: %s", i, g_strerror(-r));
    }
    state = counters();
    check(refused && state.lost_owners, "full: processes that found no room are refused (%d)",
          refused);
    for (int i = 0; i < MANY; i++)
        machine_kill(&machines[i]);
}

static void test_full(void)
{
    const LedgerOptions small = {.guard = LEDGER_GUARD_MODE_KNOWN,
                                 .max_contexts = 16,
                                 .max_objects = SMALL_OBJECTS,
                                 .max_ranges = SMALL_PAGES,
                                 .max_owners = 16};
    int full = open("/dev/iommu", O_RDWR | O_CLOEXEC);
    uint32_t serial, ioas[2];
    Machine machines[2];
    uint64_t memory[2];

    bpf_ledger_open(&small, &ledger);
    ledger->ops->register_iommufd(ledger, full, 3, LEDGER_CONTEXT_FLAG_GUARDED, &serial);
    ledger->ops->set_limit(ledger, 3, LEDGER_UNLIMITED, LEDGER_COUNT_MODE_CHARGED);
    for (int i = 0; i < 2; i++) {
        machine_start(&machines[i], full, NULL, 64055);
        memory[i] = machine_memory(&machines[i], 64 << 12);
        machine_ioas(&machines[i], &ioas[i]);
    }
    test_shares(machines, ioas, memory);
    for (uint32_t id = 1; id <= SMALL_OBJECTS; id++)
        for (int i = 0; i < 2; i++)
            if (id != ioas[0] && id != ioas[1])
                machine_destroy(&machines[i], id);
    test_lost(&machines[1], ioas[1], memory[1]);
    test_crowded(full);
    for (int i = 0; i < 2; i++)
        machine_kill(&machines[i]);
    close(full);
    ledger_free(ledger);
}

int main(void)
{
    test_full();
    return checks_end();
}
