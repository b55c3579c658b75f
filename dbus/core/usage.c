/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/core/usage.h"

#include "kernel/base/process.h"

/* ---- a machine ---- */

uint64_t machine_leader_pinned(const Machine *machine)
{
    const PidRef *leader = &machine->leader;
    Host *host = machine->manager->host;
    Usage legacy;
    uint64_t bytes = 0;
    int r = 0;
    if (machine->policy.iommufd)
        r = host->ops->process_pinned(host, leader->pid, &bytes);
    else if (accounting_legacy_usage(machine->manager->accounting, leader->pid, &legacy))
        bytes = legacy.pinned;
    else
        /* VFIO's own containers count as locked memory, as does what the process has locked. */
        r = process_locked(leader->pid, &bytes);
    /* Alive afterwards: the pid was its own when it was asked. */
    return r >= 0 && pidref_is_alive(leader) ? bytes : 0;
}

static bool usage_by_ledger(const Machine *machine, Usage *ret_usage)
{
    Accounting *accounting = machine->manager->accounting;
    return machine->policy.iommufd &&
           accounting_machine_usage(accounting, machine->ledger_id, ret_usage);
}

void machine_usage(const Machine *machine, Usage *ret_usage)
{
    Usage usage = {0};
    if (usage_by_ledger(machine, &usage)) {
        usage.pinned -= usage.orphaned;
    } else if (machine->policy.state == MACHINE_RUNNING) {
        if (!machine->policy.iommufd)
            (void)accounting_legacy_usage(machine->manager->accounting, machine->leader.pid,
                                          &usage);
        usage.pinned = usage.unique = machine_leader_pinned(machine);
    } else if (machine->policy.state == MACHINE_REAPING && machine->shares) {
        /* The ledger was lost, and nobody else knows how much of it is still pinned. */
        usage.orphaned = machine->last_pinned;
    }
    usage.peak = MAX(usage.peak, machine->last_pinned);
    *ret_usage = usage;
}

/* ---- a tenant ---- */

/* What is mapped by MapFile, by its charges: for want of a ledger. */
static uint64_t charged_in_ioases(const Tenant *tenant)
{
    uint64_t bytes = 0;
    GHashTableIter iter;
    void *ioas;
    g_hash_table_iter_init(&iter, tenant->ioases);
    while (g_hash_table_iter_next(&iter, NULL, &ioas))
        bytes += charge_bytes(((Ioas *)ioas)->charge);
    return bytes;
}

/* The ledger does not know of machines with VFIO's own containers, nor of those that were admitted
 * before it was there. */
static void add_machines(const Tenant *tenant, bool known, Usage *usage)
{
    GHashTableIter iter;
    void *value;
    g_hash_table_iter_init(&iter, tenant->policy.machines);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Machine *machine = value;
        Usage one;
        if (known && machine->ledger_id != 0)
            continue;
        machine_usage(machine, &one);
        usage->pinned += one.pinned + one.orphaned;
        usage->unique += one.unique + one.orphaned;
        usage->orphaned += one.orphaned;
        usage->mapped += one.mapped;
    }
}

void tenant_usage(const Tenant *tenant, Usage *ret_usage)
{
    Usage usage;
    bool known = accounting_tenant_usage(tenant->manager->accounting, tenant->ledger_id, &usage);
    if (!known)
        usage.pinned = usage.unique = charged_in_ioases(tenant);
    add_machines(tenant, known, &usage);
    usage.peak = MAX(usage.peak, MAX(tenant->peak_pinned, usage.pinned));
    *ret_usage = usage;
}

void manager_usage(Manager *manager, Usage *ret_usage)
{
    Usage all = {0};
    g_autoptr(GPtrArray) tenants = registry_tenants(manager->registry);
    for (unsigned i = 0; i < tenants->len; i++) {
        Usage usage;
        tenant_usage(g_ptr_array_index(tenants, i), &usage);
        all.pinned += usage.pinned;
        all.orphaned += usage.orphaned;
    }
    *ret_usage = all;
}
