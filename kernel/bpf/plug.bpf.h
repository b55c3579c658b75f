/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where a VMM's manager asks. Before libvirt plugs memory or a device into a running machine it
 * raises the RLIMIT_MEMLOCK of its process, by exactly what will be pinned more. That is where a
 * plug can be refused: libvirt undoes it, and the guest goes on. A mapping that is refused later
 * ends QEMU.
 *
 * The promise follows from the limit and the promise of the start, and from the new limit; never
 * from the difference to the current one, for libvirt lowers nothing when something is unplugged.
 * So that it asks each time, iommud keeps the limit a page below what libvirt has set: the event
 * tells it to.
 */
#pragma once

#include "promise.h"
#include "report.bpf.h"

#define RLIMIT_MEMLOCK 8

/* The machine whose first process this is and whose limit is followed. NULL: none. */
static __always_inline struct ledger_machine *followed_machine(struct task_struct *task,
                                                               __u32 *ret_owner)
{
    __u32 tgid = BPF_CORE_READ(task, group_leader, pid);
    struct ledger_process *process = get_process(tgid, start_ticks(task));
    struct ledger_owner *owner = process ? get_owner(process->owner) : NULL;
    struct ledger_machine *machine = owner ? get_machine(owner->machine) : NULL;

    if (!machine || !machine->plug_limit || owner->tgid != tgid)
        return NULL;
    *ret_owner = process->owner;
    return machine;
}

/* What is to be promised when the limit is `limit`. Less than at the start is never meant. */
static __always_inline __u64 promise_of_limit(const struct ledger_machine *machine, __u64 limit)
{
    __u64 more = limit > machine->plug_limit ? limit - machine->plug_limit : 0;
    __u64 promise = machine->plug_reserved + more;

    return promise < more ? LEDGER_NO_LIMIT : promise;
}

/* Reports what was asked for and what became of it, on behalf of the machine. */
static __noinline int report_plug(__u32 owner_id, const struct ledger_machine *machine,
                                  __u64 requested, const struct budget_answer *answer, int error)
{
    struct report report = {
        .kind = error ? LEDGER_EVENT_PLUG_REFUSED : LEDGER_EVENT_PLUG,
        .error = error,
        .requested = requested,
        .owner = owner_id,
    };

    if (!machine || !answer)
        return error;
    report.left = answer->left;
    report.of_host = answer->of_host;
    report.tenant = machine->tenant;
    send_event(&report);
    return error;
}

/* The limit of a machine's process is set by somebody else than itself and iommud. */
static __noinline int promise_plug(__u32 owner_id, __u32 number, __u64 limit)
{
    struct promise_change change = {0};
    struct budget_answer answer = {.left = LEDGER_NO_LIMIT};
    struct ledger_machine *machine = get_machine(number);
    struct ledger_tenant *tenant = machine ? get_tenant(machine->tenant) : NULL;
    __u64 requested = 0;
    int r = -ESTALE;

    if (!machine || !tenant)
        return 0;
    change.bytes = promise_of_limit(machine, limit);
    for (int i = 0; i < TRIES && r == -ESTALE; i++) {
        change.expected = READ_ONCE(machine->reserved);
        /* Somebody may have promised more beforehand. */
        if (change.bytes <= change.expected) {
            r = 0;
            break;
        }
        requested = change.bytes - change.expected;
        r = promise_set(machine, &tenant->budget, get_host(), &change, &answer);
    }
    return report_plug(owner_id, machine, requested, &answer, r ? -EDQUOT : 0);
}

static __always_inline int guard_setrlimit(struct task_struct *task, unsigned int resource,
                                           const struct rlimit *limit)
{
    __u32 tgid = BPF_CORE_READ(task, group_leader, pid), owner_id = 0;
    struct ledger_machine *machine;
    struct ledger_owner *owner;
    __u64 max;

    if (resource != RLIMIT_MEMLOCK || tgid == bpf_get_current_pid_tgid() >> 32)
        return 0;
    machine = followed_machine(task, &owner_id);
    if (!machine || current_role() == LEDGER_ROLE_SERVICE)
        return 0;
    max = BPF_CORE_READ(limit, rlim_max);
    owner = get_owner(owner_id);
    /* Without a limit nothing can be told from it: the mappings are checked. */
    if (max == LEDGER_NO_LIMIT || !owner)
        return 0;
    return promise_plug(owner_id, owner->machine, max);
}
