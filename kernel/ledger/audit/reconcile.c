/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/ledger/audit/reconcile.h"

#include <errno.h>

#include "kernel/base/process.h"
#include "kernel/ledger/audit/measure.h"
#include "kernel/ledger/audit/repair-apply.h"
#include "kernel/ledger/audit/snapshot-read.h"
#include "kernel/ledger/machines.h"

/* Runs the program with each element of the array. */
static void run_each(const BpfLedger *ledger, ProgramId program, GArray *array)
{
    guint size = g_array_get_element_size(array);

    for (guint i = 0; i < array->len; i++)
        program_run(ledger, program, array->data + (size_t)i * size, size);
}

/* ---- accounts of owners and contexts that are gone, in which nothing is left ---- */

typedef struct {
    const BpfLedger *ledger;
    const Snapshot *snapshot;
    GArray *idle; /* struct control_close_account */
} IdleAccounts;

static int find_idle_account(const void *key, const void *value, void *data)
{
    const struct ledger_account_key *account_key = key;
    const struct ledger_account *account = value;
    IdleAccounts *accounts = data;
    const Context *context =
        g_hash_table_lookup(accounts->snapshot->by_context, GUINT_TO_POINTER(account_key->context));
    struct control_close_account args = {.account = *account_key, .tenant = account->tenant};
    struct ledger_owner owner;

    if (account->pinned || account->mapped)
        return 0;
    if (context && context->context.tenant)
        args.tenant = context->context.tenant;
    if (!context || map_get(accounts->ledger, MAP_OWNERS, &account_key->owner, &owner) < 0)
        g_array_append_val(accounts->idle, args);
    return 0;
}

static void close_idle_accounts(const BpfLedger *ledger, const Snapshot *snapshot)
{
    g_autoptr(GArray) idle = g_array_new(FALSE, FALSE, sizeof(struct control_close_account));
    IdleAccounts accounts = {ledger, snapshot, idle};

    map_each(ledger, MAP_ACCOUNTS, find_idle_account, &accounts);
    run_each(ledger, CONTROL_CLOSE_ACCOUNT, idle);
}

/* ---- what threads had reserved that are gone ---- */

static int find_dead_reservation(const void *key, const void *value, void *data)
{
    const struct ledger_reservation *reservation = value;
    const struct control_leak_reservation args = {
        .number = *(const uint32_t *)key,
        .expected_tid = reservation->tid,
        .expected_start = reservation->start,
    };
    uint64_t start;

    if (!reservation->tid || !reservation->start)
        return 0;
    int r = process_start_time((pid_t)reservation->tid, &start);
    if (r == -ESRCH || (r >= 0 && start != reservation->start))
        g_array_append_val((GArray *)data, args);
    return 0;
}

static void leak_dead_reservations(const BpfLedger *ledger)
{
    g_autoptr(GArray) dead = g_array_new(FALSE, FALSE, sizeof(struct control_leak_reservation));

    map_each(ledger, MAP_RESERVATIONS, find_dead_reservation, dead);
    run_each(ledger, CONTROL_LEAK_RESERVATION, dead);
}

/* ---- unmatched bytes ---- */

/* Tenants and machines with bytes that no range is known for, and how many leaks there were: before
 * the first snapshot. */
static int note_unmatched(const void *key, const void *value, void *data)
{
    const struct ledger_tenant *tenant = value;
    const struct control_drop_unmatched args = {.tenant = *(const uint32_t *)key,
                                                .expected_leaks = tenant->leaks.count};

    if (tenant->leaks.unmatched)
        g_array_append_val((GArray *)data, args);
    return 0;
}

static int note_unmatched_of_machine(const void *key, const void *value, void *data)
{
    const struct ledger_machine *machine = value;
    const struct control_drop_unmatched args = {.tenant = machine->tenant,
                                                .machine = *(const uint32_t *)key,
                                                .expected_leaks = machine->leaks.count};

    if (machine->leaks.unmatched)
        g_array_append_val((GArray *)data, args);
    return 0;
}

/* Repairs what differs in the same way in two snapshots; *snapshot is then one of afterwards. */
static int repair(BpfLedger *ledger, Snapshot **snapshot, LedgerDrift *drift)
{
    g_autoptr(Snapshot) second = NULL;
    int r = snapshot_read(ledger, &second);

    if (r < 0)
        return r;

    g_autoptr(GArray) repairs = repairs_plan(*snapshot, second, &drift->unstable);
    repairs_apply(ledger, repairs, drift);
    /* It is repaired, also if the next snapshot fails. */
    ledger->drift += drift->drift;
    g_clear_pointer(snapshot, snapshot_free);
    return snapshot_read(ledger, snapshot);
}

int ledger_reconcile(Ledger *ledger, LedgerDrift *ret_drift, LedgerMeasurement **ret_measurements,
                     size_t *ret_n)
{
    g_autoptr(GArray) unmatched = g_array_new(FALSE, FALSE, sizeof(struct control_drop_unmatched));
    g_autoptr(Snapshot) snapshot = NULL;
    BpfLedger *self = bpf_ledger(ledger);
    LedgerDrift drift = {0};

    if (!ledger->status.counting)
        return -EOPNOTSUPP;

    /* Before unmatched bytes are read, which these then are. */
    leak_dead_reservations(self);
    int r = map_each(self, MAP_TENANTS, note_unmatched, unmatched);
    if (r >= 0)
        r = map_each(self, MAP_MACHINES, note_unmatched_of_machine, unmatched);
    if (r >= 0)
        r = snapshot_read(self, &snapshot);
    if (r >= 0 && snapshot_differs(snapshot))
        r = repair(self, &snapshot, &drift);
    if (r < 0)
        return r;

    /* While ranges come and go, the one that some bytes belong to may not have been seen. */
    if (!drift.unstable)
        run_each(self, CONTROL_DROP_UNMATCHED, unmatched);
    machines_sweep(self);
    close_idle_accounts(self, snapshot);
    g_autoptr(GArray) credits = snapshot_dedup_credits(snapshot);
    run_each(self, CONTROL_SET_DEDUP_CREDIT, credits);

    drift.contexts = snapshot->contexts->len;
    drift.ranges = g_hash_table_size(snapshot->ranges);
    if (ret_drift)
        *ret_drift = drift;
    if (ret_measurements) {
        GArray *measurements = snapshot_measure(snapshot);

        *ret_n = measurements->len;
        *ret_measurements = (LedgerMeasurement *)(void *)g_array_free(measurements, FALSE);
    }
    return 0;
}
