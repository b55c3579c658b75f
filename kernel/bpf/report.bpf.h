/* SPDX-License-Identifier: GPL-2.0-only */
/* How the guard refuses, or kills, and the events that report it. */
#pragma once

#include "ioctls.h"
#include "owner.bpf.h"
#include "task-state.bpf.h"

/* The machine that has the object of that id right now: ids are reused, so it is asked when the
 * call is refused and travels with the event. 0: the id is free, or no machine's. */
static __noinline __u32 machine_of_object(__u32 context_id, __u32 id)
{
    struct ledger_object_key key = {.context = context_id, .id = id};
    struct ledger_object *entry = id ? bpf_map_lookup_elem(&objects, &key) : NULL;
    struct ledger_owner *owner = entry && entry->object ? get_owner(entry->owner) : NULL;

    return owner ? owner->machine : 0;
}

/* Counts and reports a refusal. Returns the error. */
static __noinline int refuse(__u32 owner_id, __u64 ictx, __u32 command, __u32 id, int error)
{
    struct ledger_context *context = bpf_map_lookup_elem(&contexts, &ictx);
    struct report report = {
        .kind = LEDGER_EVENT_REFUSED,
        .error = error,
        .command = command,
        .id = id,
        .owner = owner_id,
    };
    struct ledger_account *account = NULL;

    if (context) {
        report.context = context->id;
        report.tenant = context->tenant;
        report.object_machine = machine_of_object(context->id, id);
        /* QEMU asks for CHANGE_PROCESS at each of its starts, and goes on without. */
        if (_IOC_NR(command) != _IOC_NR(IOMMU_IOAS_CHANGE_PROCESS))
            account = get_account(context->id, owner_id);
        if (account)
            __sync_fetch_and_add(&account->refused, 1);
    }
    send_event(&report);
    return error;
}

/* Reports that a map is full. bytes: of a mapping; 0: it was an object that found no room. */
static __noinline int report_full(const struct task_state *self, __u64 bytes)
{
    struct report report = {
        .kind = LEDGER_EVENT_FULL,
        .error = -ENOMEM,
    };

    if (!self)
        return -ENOMEM;
    report.requested = bytes;
    report.context = self->context_id;
    report.command = self->command;
    report.tenant = self->tenant_id;
    report.owner = self->tenant_owner;
    send_event(&report);
    return -ENOMEM;
}

/* Counts and reports a mapping beyond what is promised to the machine, and what its tenant or the
 * host have left. */
static __noinline int report_limit(const struct task_state *self, __u64 bytes,
                                   const struct budget_answer *answer)
{
    struct report report = {.kind = LEDGER_EVENT_LIMIT, .error = -EDQUOT};
    struct ledger_account *account;

    if (!self || !answer)
        return -EDQUOT;
    account = get_account(self->context_id, self->tenant_owner);
    if (account)
        __sync_fetch_and_add(&account->refused, 1);
    report.requested = bytes;
    report.left = answer->left;
    report.of_host = answer->of_host;
    report.context = self->context_id;
    report.command = self->command;
    report.tenant = self->tenant_id;
    report.owner = self->tenant_owner;
    send_event(&report);
    return -EDQUOT;
}

/*
 * The kernel has copied another argument than the guard has checked, and nothing can refuse it any
 * more (recheck-kprobe.bpf.c). The process dies before it returns to its own code, and the event
 * tells iommud to clean up what the call has done.
 */
static __noinline int argument_changed(__u64 ictx, __u32 id, __u32 owner_id, __u64 requested,
                                       __u64 checked)
{
    struct ledger_context *context = bpf_map_lookup_elem(&contexts, &ictx);
    struct task_state *self = get_task_state(true);
    struct report report = {
        .kind = LEDGER_EVENT_ARGUMENT_CHANGED,
        .requested = requested,
        .left = checked,
        .id = id,
        .owner = owner_id,
    };

    if (!self || self->argument_changed)
        return -EACCES;
    self->argument_changed = 1;
    report.command = self->command;
    if (context) {
        report.context = context->id;
        report.tenant = context->tenant;
        report.object_machine = machine_of_object(context->id, id);
    }
    COUNT(changed_arguments);
    bpf_send_signal(SIGKILL);
    send_event(&report);
    return -EACCES;
}
