/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Owners and their processes. A process is an owner from its first ioctl on; what it forks belongs
 * to it, and so does what runs in the cgroup that was assigned to its machine.
 */
#pragma once

#include "counts.bpf.h"

#define EVENTS_PER_SECOND 32
/* What an owner forks beyond these gets no entry, so that one owner can't fill the map. */
#define PROCESSES_PER_OWNER 1024
#define CGROUP_LEVELS 16

static __always_inline __u64 start_ticks(struct task_struct *task)
{
    return BPF_CORE_READ(task, group_leader, start_boottime) / LEDGER_NS_PER_TICK;
}

/* The current process's, by direct loads, which are faster than probes. */
static __always_inline __u64 current_start(void)
{
    struct task_struct *task = (struct task_struct *)bpf_get_current_task_btf();

    return task->group_leader->start_boottime / LEDGER_NS_PER_TICK;
}

static __always_inline struct ledger_owner *get_owner(__u32 owner)
{
    return bpf_map_lookup_elem(&owners, &owner);
}

/* The process's entry, unless it is about another process that had the same pid. */
static __always_inline struct ledger_process *get_process(__u32 tgid, __u64 start)
{
    struct ledger_process *process = bpf_map_lookup_elem(&processes, &tgid);

    return process && process->start == start ? process : NULL;
}

/* The machine, or LEDGER_RELAY, that the current cgroup is assigned to, or the nearest one above it
 * that is assigned to any. 0: none. */
__noinline __u32 assigned_to_cgroup(void)
{
    __u64 id = bpf_get_current_cgroup_id();
    __u32 *assigned = bpf_map_lookup_elem(&cgroups, &id);

    for (int level = CGROUP_LEVELS; !assigned && level > 0; level--) {
        id = bpf_get_current_ancestor_cgroup_id(level);
        if (id)
            assigned = bpf_map_lookup_elem(&cgroups, &id);
    }
    return assigned ? *assigned : 0;
}

/* The machine that the current process is in the cgroup of. 0: none. */
static __always_inline __u32 machine_of_cgroup(void)
{
    __u32 assigned = assigned_to_cgroup();

    return assigned == LEDGER_RELAY ? 0 : assigned;
}

/* It has nothing left, and is no machine. */
static __always_inline bool owner_is_idle(const struct ledger_owner *owner)
{
    return owner->processes <= 0 && owner->objects <= 0 && owner->pages <= 0 && !owner->machine;
}

/* Removes the entry of an owner that is idle. */
static __always_inline void drop_owner_if_idle(__u32 id)
{
    struct ledger_owner *owner = get_owner(id);

    if (owner && id >= LEDGER_OWNER_FIRST && owner_is_idle(owner))
        bpf_map_delete_elem(&owners, &id);
}

/* The process has ended, or must have, since another has its pid. */
__noinline int end_process(__u32 tgid);

/*
 * Makes a process known as the owner's. The owner that it then has: another one when another
 * thread was faster, 0 when the map is full.
 */
__noinline __u32 add_process(__u32 tgid, __u64 start, __u32 owner_id, __u32 role)
{
    struct ledger_process new = {.start = start, .owner = owner_id, .role = role};
    struct ledger_process *process = bpf_map_lookup_elem(&processes, &tgid);
    struct ledger_owner *owner;

    if (process && process->start != start)
        end_process(tgid);
    if (bpf_map_update_elem(&processes, &tgid, &new, BPF_NOEXIST)) {
        process = get_process(tgid, start);
        if (!process)
            COUNT(lost_owners);
        return process ? process->owner : LEDGER_OWNER_NONE;
    }
    owner = get_owner(owner_id);
    if (owner)
        __sync_fetch_and_add(&owner->processes, 1);
    return owner_id;
}

/* A task -> the owner whose process has forked it. */
struct {
    __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, __u32);
} parents SEC(".maps");

/* The current process's entry, if ledger_fork was skipped: made now, for the owner that
 * ledger_birth has left with the task. NULL: no owner forked it. */
static __noinline struct ledger_process *inherit(__u32 tgid, __u64 start)
{
    __u32 *parent = bpf_task_storage_get(&parents, bpf_get_current_task_btf(), NULL, 0);
    struct ledger_owner *owner = parent ? get_owner(*parent) : NULL;

    if (!owner || owner->processes >= PROCESSES_PER_OWNER)
        return NULL;
    add_process(tgid, start, *parent, LEDGER_ROLE_USER);
    return get_process(tgid, start);
}

static __always_inline struct ledger_process *current_process(void)
{
    __u32 tgid = bpf_get_current_pid_tgid() >> 32;
    __u64 start = current_start();
    struct ledger_process *process = get_process(tgid, start);

    return process ? process : inherit(tgid, start);
}

/* A new owner whose first process this is. 0: the maps are full. */
__noinline __u32 make_owner(__u32 tgid, __u64 start, __u32 machine)
{
    struct ledger_state *counters = get_state();
    struct ledger_owner new = {.start = start, .tgid = tgid, .machine = machine};
    struct ledger_machine *entry;
    __u32 id;

    if (!counters)
        return LEDGER_OWNER_NONE;
    id = __sync_fetch_and_add(&counters->owners, 1) + LEDGER_OWNER_FIRST;
    if (tgid == (__u32)(bpf_get_current_pid_tgid() >> 32))
        bpf_get_current_comm(new.comm, sizeof(new.comm));
    entry = get_machine(machine);
    if (entry)
        new.tenant = entry->tenant;
    if (bpf_map_update_elem(&owners, &id, &new, BPF_NOEXIST)) {
        __sync_fetch_and_add(&counters->lost_owners, 1);
        return LEDGER_OWNER_NONE;
    }
    return id;
}

/* Gives a process without an entry an owner of its own; the owner that it got meanwhile if another
 * thread was faster. 0: the maps are full. */
static __always_inline __u32 make_process(__u32 tgid, __u64 start)
{
    __u32 id = make_owner(tgid, start, 0), added;

    if (!id)
        return LEDGER_OWNER_NONE;
    added = add_process(tgid, start, id, LEDGER_ROLE_USER);
    if (added != id)
        drop_owner_if_idle(id);
    return added;
}

/*
 * The machine's owner: the one it has, or a new one. Two threads that come first at the same time
 * agree on one; the other's owner is dropped unused.
 */
__noinline __u32 owner_of_machine(__u32 machine, __u32 tgid, __u64 start)
{
    struct ledger_machine *entry = get_machine(machine);
    __u32 id, was;

    if (!entry)
        return LEDGER_OWNER_NONE;
    id = *(volatile __u32 *)&entry->owner;
    if (id && get_owner(id))
        return id;
    was = id;
    id = make_owner(tgid, start, machine);
    if (!id)
        return LEDGER_OWNER_NONE;
    if (COMPARE_AND_SWAP(&entry->owner, was, id) != was) {
        bpf_map_delete_elem(&owners, &id);
        id = *(volatile __u32 *)&entry->owner;
    }
    return id;
}

/* The owner that the current process is, or belongs to. 0: not known (and create is false). */
__noinline __u32 current_owner(bool create)
{
    __u32 tgid = bpf_get_current_pid_tgid() >> 32;
    __u64 start = current_start();
    struct ledger_process *process = current_process();
    __u32 machine, added, id = LEDGER_OWNER_NONE;
    struct ledger_owner *owner;

    if (process)
        return process->owner;
    if (!create)
        return LEDGER_OWNER_NONE;
    machine = machine_of_cgroup();
    if (machine)
        id = owner_of_machine(machine, tgid, start);
    if (!id)
        id = make_owner(tgid, start, 0);
    owner = get_owner(id);
    if (!owner)
        return LEDGER_OWNER_NONE;
    if (owner->processes >= PROCESSES_PER_OWNER) {
        COUNT(lost_owners);
        return LEDGER_OWNER_NONE;
    }
    added = add_process(tgid, start, id, LEDGER_ROLE_USER);
    if (added != id)
        drop_owner_if_idle(id);
    return added;
}

static __always_inline __u32 current_role(void)
{
    struct ledger_process *process = current_process();

    return process ? process->role : LEDGER_ROLE_USER;
}

/* What an event says beside its kind and who; kept small for the stack's sake. */
struct report {
    __u64 requested;
    __u64 left;
    __u32 kind;
    __s32 error;
    __u32 context;
    __u32 tenant;
    __u32 command;
    __u32 id;
    __u32 object_machine;
    __u32 owner;
    __u32 of_host;
    __u32 pad;
};

/* Whether the event is sent: of each owner at most so many in a second, so that its events don't
 * displace those of others. All events without a known owner share one such limit. */
static __always_inline bool ratelimit_ok(struct ledger_ratelimit ratelimits[2], __u32 kind)
{
    struct ledger_ratelimit *ratelimit = &ratelimits[kind != LEDGER_EVENT_REFUSED];
    __u64 now = bpf_ktime_get_boot_ns();

    if (kind == LEDGER_EVENT_ARGUMENT_CHANGED || kind == LEDGER_EVENT_EXIT)
        return true;
    if (now - ratelimit->since > 1000000000ull) {
        ratelimit->since = now;
        ratelimit->events = 0;
    }
    return __sync_fetch_and_add(&ratelimit->events, 1) < EVENTS_PER_SECOND;
}

__noinline int send_event(const struct report *report)
{
    struct ledger_state *counters = get_state();
    struct ledger_owner *owner;
    struct ledger_event *event;
    __u32 machine = 0;
    bool is_sent;

    if (!report || !counters)
        return 0;
    owner = get_owner(report->owner);
    if (owner) {
        machine = owner->machine;
        is_sent = ratelimit_ok(owner->ratelimit, report->kind);
    } else {
        is_sent = ratelimit_ok(counters->ratelimit, report->kind);
    }
    if (!is_sent) {
        COUNT(lost_events);
        return 0;
    }
    event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event) {
        COUNT(lost_events);
        return 0;
    }
    event->requested = report->requested;
    event->left = report->left;
    event->kind = report->kind;
    event->error = report->error;
    event->tgid = bpf_get_current_pid_tgid() >> 32;
    event->machine = machine;
    event->tenant = report->tenant;
    event->context = report->context;
    event->command = report->command;
    event->id = report->id;
    event->object_machine = report->object_machine;
    event->of_host = report->of_host;
    bpf_get_current_comm(event->comm, sizeof(event->comm));
    bpf_ringbuf_submit(event, 0);
    return 0;
}

__noinline int end_process(__u32 tgid)
{
    struct report report = {.kind = LEDGER_EVENT_EXIT};
    struct ledger_process *process;
    struct ledger_owner *owner;
    __u32 id;

    process = bpf_map_lookup_elem(&processes, &tgid);
    if (!process)
        return 0;
    id = process->owner;
    if (bpf_map_delete_elem(&processes, &tgid))
        return 0;
    owner = get_owner(id);
    if (!owner)
        return 0;
    if (__sync_fetch_and_add(&owner->processes, -1) > 1)
        return 0;
    if (owner->machine || owner->objects > 0 || owner->pages > 0) {
        report.owner = id;
        report.tenant = owner->tenant;
        send_event(&report);
    }
    drop_owner_if_idle(id);
    return 0;
}
