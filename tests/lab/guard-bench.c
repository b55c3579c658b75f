/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What ledger and guard cost, in one boot, by turns: nothing loaded, the ledger, both. Medians, and
 * the best round, which says more where others use the processor as well.
 *
 *   guard-bench [--rounds=N] CDEV
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel/ledger.h"
#include "tests/lab/machine.h"

#define TENANT 1
#define MACHINE 10
#define MAX_ROUNDS 64

enum { NOTHING, LEDGER, GUARD, LOADS };
static const char *const load_names[] = {"nothing", "ledger", "ledger and guard"};

static const struct {
    const char *name;
    uint64_t length;
    unsigned times;
} sizes[] = {
    {"an unrelated ioctl", 0, 5000},         {"map and unmap 4 KiB", 4 << 10, 500},
    {"map and unmap 64 KiB", 64 << 10, 500}, {"map and unmap 2 MiB", 2 << 20, 60},
    {"map and unmap 64 MiB", 64 << 20, 4},
};

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

static Ledger *load(int what, int iommufd, const char *device)
{
    const LedgerOptions options = {.guard = what == GUARD ? LEDGER_GUARD_KNOWN : LEDGER_GUARD_OFF};
    Ledger *ledger = NULL;
    uint32_t context;
    g_autofree char *address = device_address(device);

    if (what == NOTHING)
        return NULL;
    ledger_new(&options, &ledger);
    if (!ledger_is_active(ledger) || (what == GUARD && !ledger_guard_is_active(ledger)))
        g_error("%s %s", ledger_reason(ledger), ledger_guard_reason(ledger));
    ledger_set_limit(ledger, TENANT, 3ull << 30, LEDGER_COUNT_CHARGED);
    ledger_register(ledger, iommufd, TENANT, LEDGER_CONTEXT_GUARDED | LEDGER_CONTEXT_SHARED,
                    &context);
    ledger_add_machine(ledger, MACHINE, TENANT);
    if (ledger_admit_device(ledger, address, TENANT, MACHINE, 0))
        g_error("%s can't be admitted.", device);
    return ledger;
}

int main(int argc, char **argv)
{
    static double times[G_N_ELEMENTS(sizes)][LOADS][MAX_ROUNDS];
    unsigned rounds = 9;

    if (argc > 1 && sscanf(argv[1], "--rounds=%u", &rounds) == 1)
        argv++, argc--;
    if (argc != 2 || rounds > MAX_ROUNDS)
        g_error("Usage: guard-bench [--rounds=N] CDEV");
    for (unsigned round = 0; round < rounds; round++) {
        for (int what = 0; what < LOADS; what++) {
            int iommufd = open("/dev/iommu", O_RDWR);
            Ledger *ledger = load(what, iommufd, argv[1]);
            uint32_t device, ioas, hwpt;
            Machine machine;
            uint64_t memory;

            machine_start(&machine, iommufd, argv[1], 64055);
            if (machine_bind(&machine, machine.device, iommufd, &device) ||
                machine_ioas(&machine, &ioas) || machine_hwpt(&machine, device, ioas, &hwpt) ||
                machine_attach(&machine, machine.device, hwpt))
                g_error("The machine can't start.");
            memory = machine_memory(&machine, 64 << 20);
            for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++)
                times[i][what][round] =
                    (double)machine_time(&machine, ioas, memory, sizes[i].length, sizes[i].times) /
                    sizes[i].times;
            machine_kill(&machine);
            close(iommufd);
            ledger_free(ledger);
        }
    }
    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        printf("%-22s", sizes[i].name);
        for (int what = 0; what < LOADS; what++) {
            double middle = median(times[i][what], rounds), best = times[i][what][0];

            /* Sorted by now. */
            printf("  %s %.2f us (best %.2f, %+.1f %%)", load_names[what], middle / 1000,
                   best / 1000, (best - times[i][NOTHING][0]) / times[i][NOTHING][0] * 100);
        }
        putchar('\n');
    }
    return 0;
}
