/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/simulated/ledger-owners.h"

#include "kernel/base/cleanup.h"
#include "kernel/base/file.h"
#include "kernel/base/process.h"
#include "kernel/simulated/faults.h"
#include "kernel/simulated/ledger-promises.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#define EVENTS_PER_SECOND 32

SimProcess *sim_process(SimLedger *ledger, const SimOwner *process)
{
    SimProcess *entry = sim_store_get(ledger, SIM_PROCESSES, (uint64_t)process->pid);
    return entry && entry->start == process->start_time ? entry : NULL;
}

SimLedgerOwner *sim_owner(SimLedger *ledger, uint32_t owner)
{
    return sim_store_get(ledger, SIM_OWNERS, owner);
}

bool sim_owner_has_process(SimLedger *ledger, uint32_t owner)
{
    const SimLedgerOwner *entry = sim_owner(ledger, owner);
    if (!entry || entry->processes == 0)
        return owner == SIM_OWNER_SERVICE;
    /* Whose end is not watched for may have ended. */
    return g_hash_table_contains(ledger->pidfds, GINT_TO_POINTER(entry->process.pid)) ||
           sim_owner_alive(&entry->process);
}

uint32_t sim_owner_machine(SimLedger *ledger, uint32_t owner)
{
    const SimLedgerOwner *entry = sim_owner(ledger, owner);
    return entry ? entry->machine : 0;
}

uint32_t sim_owner_machine_of(SimLedger *ledger, uint32_t owner, uint32_t tenant)
{
    uint32_t number = sim_owner_machine(ledger, owner);
    const SimMachine *machine = sim_store_get(ledger, SIM_MACHINES, number);
    return machine && machine->tenant == tenant ? number : 0;
}

void sim_owner_drop_if_idle(SimLedger *ledger, uint32_t owner)
{
    const SimLedgerOwner *entry = sim_owner(ledger, owner);
    if (entry && entry->processes == 0 && entry->objects == 0 && entry->ranges == 0 &&
        entry->machine == 0)
        sim_store_remove(ledger, SIM_OWNERS, owner);
}

static void read_comm(pid_t pid, char *comm)
{
    char path[32];
    snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
    if (file_read_line(path, comm, LEDGER_COMM_SIZE) < 0)
        comm[0] = '\0';
}

/* ---- events ---- */

/* Of each owner at most so many events are sent in a second, so that they don't displace those of
 * others. */
static bool ratelimit_ok(SimLedgerOwner *owner, LedgerEventKind kind)
{
    int64_t now = g_get_monotonic_time();
    int which = kind != LEDGER_EVENT_KIND_REFUSED;
    if (!owner || kind == LEDGER_EVENT_KIND_EXIT)
        return true;
    if (now - owner->ratelimit_since[which] > G_USEC_PER_SEC) {
        owner->ratelimit_since[which] = now;
        owner->ratelimit_events[which] = 0;
    }
    return owner->ratelimit_events[which]++ < EVENTS_PER_SECOND;
}

void sim_report(SimLedger *ledger, const SimOwner *process, uint32_t owner, LedgerEvent *event)
{
    SimLedgerOwner *entry = sim_owner(ledger, owner);
    event->pid = process->pid;
    event->machine = entry ? entry->machine : 0;
    if (event->kind == LEDGER_EVENT_KIND_EXIT && entry)
        memcpy(event->comm, entry->comm, sizeof(event->comm));
    else
        read_comm(process->pid, event->comm);
    if (ratelimit_ok(entry, event->kind))
        sim_store_push_event(ledger, event);
    else
        sim_store_counters(ledger)->lost_events++;
}

/* ---- processes ---- */

void sim_process_watch(SimLedger *ledger, pid_t pid)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)pid};
    autoclose int pidfd = -EBADF;
    if (g_hash_table_size(ledger->pidfds) >= ledger->max_pidfds || process_open(pid, &pidfd) < 0 ||
        epoll_ctl(ledger->epoll, EPOLL_CTL_ADD, pidfd, &event) < 0)
        return;
    g_hash_table_insert(ledger->pidfds, GINT_TO_POINTER(pid), GINT_TO_POINTER(TAKE_FD(pidfd)));
}

static void unwatch(SimLedger *ledger, pid_t pid)
{
    void *pidfd;
    if (g_hash_table_steal_extended(ledger->pidfds, GINT_TO_POINTER(pid), NULL, &pidfd))
        close_fd(GPOINTER_TO_INT(pidfd));
}

static void leave_owner(SimLedger *ledger, uint32_t owner)
{
    SimLedgerOwner *entry = sim_owner(ledger, owner);
    if (!entry)
        return;
    entry->processes--;
    sim_owner_drop_if_idle(ledger, owner);
}

void sim_process_end(SimLedger *ledger, pid_t pid)
{
    const SimProcess *process = sim_store_get(ledger, SIM_PROCESSES, (uint64_t)pid);
    unwatch(ledger, pid);
    if (!process)
        return;
    SimOwner ended = {.pid = pid, .start_time = process->start};
    uint32_t owner = process->owner;
    sim_store_remove(ledger, SIM_PROCESSES, (uint64_t)pid);
    const SimLedgerOwner *entry = sim_owner(ledger, owner);
    if (entry && entry->processes == 1 &&
        (entry->machine != 0 || entry->objects > 0 || entry->ranges > 0)) {
        LedgerEvent event = {.kind = LEDGER_EVENT_KIND_EXIT, .tenant = entry->tenant};
        sim_report(ledger, &ended, owner, &event);
    }
    leave_owner(ledger, owner);
}

static SimProcess *add_process(SimLedger *ledger, const SimOwner *process, uint32_t owner,
                               SimRole role)
{
    SimProcess *entry = sim_store_get(ledger, SIM_PROCESSES, (uint64_t)process->pid);
    if (entry)
        sim_process_end(ledger, process->pid); /* another's, with the same pid */
    entry = sim_store_add(ledger, SIM_PROCESSES, (uint64_t)process->pid);
    if (!entry) {
        sim_store_counters(ledger)->lost_owners++;
        return NULL;
    }
    entry->start = process->start_time;
    entry->owner = owner;
    entry->role = role;
    SimLedgerOwner *its = sim_owner(ledger, owner);
    if (its)
        its->processes++;
    sim_process_watch(ledger, process->pid);
    return entry;
}

/* ---- owners ---- */

static uint32_t make_owner(SimLedger *ledger, const SimOwner *process)
{
    SimLedgerOwner *entry = NULL;
    uint32_t id = sim_store_next_owner(ledger);
    if (!sim_fault_take(SIM_FAULT_LOST_OWNER))
        entry = sim_store_add(ledger, SIM_OWNERS, id);
    if (!entry) {
        sim_store_counters(ledger)->lost_owners++;
        return SIM_OWNER_NONE;
    }
    entry->process = *process;
    read_comm(process->pid, entry->comm);
    return id;
}

uint32_t sim_owner_for(SimLedger *ledger, const SimOwner *process)
{
    const SimProcess *entry = sim_process(ledger, process);
    if (entry)
        return entry->owner;
    uint32_t id = make_owner(ledger, process);
    /* Who is dead already has left something that was not seen. */
    if (id == SIM_OWNER_NONE || !sim_owner_alive(process))
        return id;
    if (add_process(ledger, process, id, SIM_ROLE_USER))
        return id;
    sim_owner_drop_if_idle(ledger, id);
    return SIM_OWNER_NONE;
}

int sim_name_role(SimLedger *ledger, const SimOwner *process, SimRole role)
{
    SimProcess *entry = sim_process(ledger, process);
    uint32_t owner = role == SIM_ROLE_SERVICE ? SIM_OWNER_SERVICE : SIM_OWNER_NONE;
    if (!entry)
        return add_process(ledger, process, owner, role) ? 0 : -ENOMEM;
    uint32_t was = entry->owner;
    entry->owner = owner;
    entry->role = role;
    if (was != owner)
        leave_owner(ledger, was);
    return 0;
}

/* One process can't be of two tenants that there are. */
static int join_tenant(SimLedger *ledger, SimLedgerOwner *owner, uint32_t tenant)
{
    if (owner->tenant != 0 && owner->tenant != tenant &&
        sim_store_get(ledger, SIM_TENANTS, owner->tenant))
        return -EEXIST;
    owner->tenant = tenant;
    return 0;
}

int sim_name_client(SimLedger *ledger, const SimOwner *process, uint32_t tenant)
{
    SimLedgerOwner *owner = sim_owner(ledger, sim_owner_for(ledger, process));
    const SimProcess *entry = sim_process(ledger, process);
    if (!owner)
        return entry ? -ESRCH : -ENOMEM;
    return join_tenant(ledger, owner, tenant);
}

int sim_name_machine(SimLedger *ledger, const SimOwner *process, uint32_t number, uint32_t tenant)
{
    SimMachine *machine = sim_store_get(ledger, SIM_MACHINES, number);
    if (!machine)
        return -ENOENT;
    const SimProcess *entry = sim_process(ledger, process);
    /* Another process has shown itself as this machine, and lives. */
    if (machine->owner != 0 && (!entry || entry->owner != machine->owner) &&
        sim_owner_has_process(ledger, machine->owner))
        return -EEXIST;
    uint32_t id = sim_owner_for(ledger, process);
    SimLedgerOwner *owner = sim_owner(ledger, id);
    if (!owner)
        return -ENOMEM;
    if (owner->machine != 0 && owner->machine != number)
        return -EEXIST;
    int r = join_tenant(ledger, owner, tenant);
    if (r < 0)
        return r;
    machine->owner = id;
    owner->machine = number;
    return 0;
}

int sim_forget_machine(SimLedger *ledger, uint32_t number)
{
    const SimMachine *machine = sim_store_get(ledger, SIM_MACHINES, number);
    if (!machine)
        return -ENOENT;
    uint32_t id = machine->owner;
    SimLedgerOwner *owner = sim_owner(ledger, id);
    sim_promise_close(ledger, machine);
    sim_store_remove(ledger, SIM_MACHINES, number);
    if (owner) {
        owner->machine = 0;
        sim_owner_drop_if_idle(ledger, id);
    }
    return 0;
}
