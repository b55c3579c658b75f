/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/ledger/machines.h"

#include <errno.h>
#include <string.h>

#include "kernel/ledger/cgroups.h"

/* ---- their entries ---- */

/*
 * A program may have found the entry of a machine and not yet have changed it when the machine is
 * removed. Were the entry deleted then, it would be the next machine's, and that one's figures
 * wrong. So it stays, closed, and is deleted when all programs have ended that ran when it was
 * closed.
 */
static int note_closed(const void *key, const void *value, void *data)
{
    const struct ledger_machine *machine = value;

    if (LEDGER_IS_CLOSED(machine->room))
        g_array_append_vals(data, key, 1);
    return 0;
}

void machines_sweep(const BpfLedger *ledger)
{
    g_autoptr(GArray) closed = g_array_new(FALSE, FALSE, sizeof(uint32_t));

    (void)map_each(ledger, MAP_MACHINES, note_closed, closed);
    if (!closed->len || maps_synchronize(ledger) < 0)
        return;
    for (guint i = 0; i < closed->len; i++) {
        uint32_t number = g_array_index(closed, uint32_t, i);
        struct ledger_machine machine;

        /* What is leaked stays counted until a reconciliation drops it. */
        if (map_get(ledger, MAP_MACHINES, &number, &machine) >= 0 && !machine.leaks.unmatched)
            (void)map_delete(ledger, MAP_MACHINES, &number);
    }
}

static int get_machine(const BpfLedger *ledger, uint32_t number, struct ledger_machine *ret_machine)
{
    int r = map_get(ledger, MAP_MACHINES, &number, ret_machine);

    return r >= 0 && LEDGER_IS_CLOSED(ret_machine->room) ? -ENOENT : r;
}

int ledger_add_machine(Ledger *ledger, uint32_t machine, uint32_t tenant)
{
    const BpfLedger *self = bpf_ledger(ledger);
    const struct ledger_machine entry = {.tenant = tenant};
    struct ledger_machine was;

    if (!machine || machine == LEDGER_RELAY)
        return -EINVAL;
    int r = map_add(self, MAP_MACHINES, &machine, &entry);
    if (r == -EEXIST && get_machine(self, machine, &was) >= 0)
        return was.tenant == tenant ? 0 : -EEXIST;
    /* What is in the way is closed. */
    if (r == -E2BIG || r == -ENOMEM || r == -EEXIST) {
        machines_sweep(self);
        r = map_add(self, MAP_MACHINES, &machine, &entry);
    }
    return r;
}

int ledger_remove_machine(Ledger *ledger, uint32_t machine)
{
    struct control_remove_machine args = {.machine = machine};

    ledger_remove_scope(ledger, machine);
    return program_run(bpf_ledger(ledger), CONTROL_REMOVE_MACHINE, &args, sizeof(args));
}

/* ---- what is promised to them ---- */

int ledger_reserve_machine(Ledger *ledger, uint32_t machine, uint64_t bytes, bool again,
                           LedgerShortage *ret_shortage)
{
    struct control_reserve_machine args = {.machine = machine, .bytes = bytes, .forced = again};
    int r = program_run(bpf_ledger(ledger), CONTROL_RESERVE_MACHINE, &args, sizeof(args));

    if (r == -EDQUOT && ret_shortage)
        *ret_shortage = (LedgerShortage){.host = args.ret_of_host, .left = args.ret_left};
    return r;
}

int ledger_follow_limit(Ledger *ledger, uint32_t machine, uint64_t limit, uint64_t reserved)
{
    struct control_follow_limit args = {.machine = machine, .limit = limit, .reserved = reserved};
    return program_run(bpf_ledger(ledger), CONTROL_FOLLOW_LIMIT, &args, sizeof(args));
}

int ledger_machine(Ledger *ledger, uint32_t machine, LedgerMachine *ret_machine)
{
    const BpfLedger *self = bpf_ledger(ledger);
    struct ledger_machine entry;
    struct ledger_owner owner;
    int r = get_machine(self, machine, &entry);
    if (r < 0)
        return r;

    int64_t mapped = (int64_t)(entry.reserved + entry.borrowed) - entry.room;
    LedgerMachine found = {
        .reserved = entry.reserved,
        .borrowed = entry.borrowed,
        .mapped = mapped > 0 ? (uint64_t)mapped : 0,
    };
    if (entry.owner && !map_get(self, MAP_OWNERS, &entry.owner, &owner)) {
        found.pid = (pid_t)owner.tgid;
        found.start = owner.start;
        memcpy(found.comm, owner.comm, sizeof(found.comm) - 1);
    }
    *ret_machine = found;
    return 0;
}
