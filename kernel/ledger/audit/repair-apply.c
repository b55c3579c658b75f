/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/ledger/audit/repair-apply.h"

#include <errno.h>

static const struct {
    ProgramId program;
    size_t size;
} runs[] = {
    [REPAIR_SET_COUNTS] = {CONTROL_SET_COUNTS, sizeof(struct control_set_counts)},
    [REPAIR_SET_TOTALS] = {CONTROL_SET_TOTALS, sizeof(struct control_set_totals)},
    [REPAIR_SET_RANGE] = {CONTROL_SET_RANGE, sizeof(struct control_set_range)},
    [REPAIR_REMOVE_RANGE] = {CONTROL_REMOVE_RANGE, sizeof(struct control_remove_range)},
    [REPAIR_REMOVE_OBJECT] = {CONTROL_REMOVE_OBJECT, sizeof(struct control_remove_object)},
    [REPAIR_ADOPT_OBJECT] = {CONTROL_ADOPT_OBJECT, sizeof(struct control_adopt_object)},
    [REPAIR_REMOVE_CONTEXT] = {CONTROL_REMOVE_CONTEXT, sizeof(struct control_remove_context)},
    [REPAIR_REMOVE_PROCESS] = {CONTROL_REMOVE_PROCESS, sizeof(struct control_remove_process)},
};

typedef struct {
    const BpfLedger *ledger;
    LedgerDrift *drift;
    GArray *taken;     /* struct control_remove_range: entries to be deleted in the end */
    bool synchronized; /* programs that ran when the second snapshot was taken have ended */
} Application;

static int run(const Application *application, Repair *repair)
{
    return program_run(application->ledger, runs[repair->kind].program, &repair->set_counts,
                       runs[repair->kind].size);
}

static void count(const Application *application, const Repair *repair, int r)
{
    LedgerDrift *drift = application->drift;

    switch (repair->kind) {
    case REPAIR_SET_COUNTS:
        break;
    case REPAIR_SET_TOTALS:
        /* A sum that has moved since is being repaired by whoever moves it. */
        if (r < 0)
            break;
        drift->repaired++;
        drift->drift += repair->drift << LEDGER_PAGE_SHIFT;
        break;
    case REPAIR_ADOPT_OBJECT:
        drift->adopted += r >= 0;
        break;
    default:
        drift->repaired += r >= 0;
        drift->unstable += r < 0;
        if (r >= 0)
            drift->drift += repair->drift << LEDGER_PAGE_SHIFT;
    }
}

/* Whether the entry still has the charge. */
static bool is_unchanged(const BpfLedger *ledger, const struct control_remove_range *args)
{
    struct ledger_pages range;

    return map_get(ledger, MAP_PAGES, &args->pages, &range) >= 0 &&
           range.charge == args->expected_charge;
}

static void apply_remove_range(Application *application, Repair *repair)
{
    struct control_remove_range taken = repair->remove_range;

    if (repair->may_end_by_itself) {
        if (!application->synchronized && maps_synchronize(application->ledger) < 0) {
            application->drift->unstable++;
            return;
        }
        application->synchronized = true;
        if (!is_unchanged(application->ledger, &repair->remove_range))
            return;
    }
    int r = run(application, repair);
    count(application, repair, r);
    if (r < 0)
        return;
    taken.expected_charge |= LEDGER_CHARGE_TAKEN;
    g_array_append_val(application->taken, taken);
}

/* Deletes the entries that are out of all sums. After synchronizing: a program that has found an
 * entry before it was taken has ended then, and one that finds it afterwards leaves it alone. */
static void delete_taken(const Application *application)
{
    const BpfLedger *ledger = application->ledger;

    if (!application->taken->len)
        return;
    if (maps_synchronize(ledger) < 0) {
        application->drift->unstable++;
        return;
    }
    for (guint i = 0; i < application->taken->len; i++) {
        const struct control_remove_range *args =
            &g_array_index(application->taken, struct control_remove_range, i);

        if (is_unchanged(ledger, args))
            map_delete(ledger, MAP_PAGES, &args->pages);
    }
}

void repairs_apply(const BpfLedger *ledger, const GArray *repairs, LedgerDrift *drift)
{
    g_autoptr(GArray) taken = g_array_new(FALSE, FALSE, sizeof(struct control_remove_range));
    Application application = {.ledger = ledger, .drift = drift, .taken = taken};

    for (guint i = 0; i < repairs->len; i++) {
        Repair repair = g_array_index(repairs, Repair, i);

        if (repair.kind == REPAIR_REMOVE_RANGE)
            apply_remove_range(&application, &repair);
        else if (repair.kind == REPAIR_DELETE_ENTRY)
            g_array_append_val(taken, repair.remove_range);
        else
            count(&application, &repair, run(&application, &repair));
    }
    delete_taken(&application);
}
