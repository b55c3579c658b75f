/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/ledger/cgroups.h"

#include <errno.h>
#include <systemd/sd-login.h>

#include "kernel/ledger/unit-cgroups.h"

int ledger_add_cgroup(Ledger *ledger, uint64_t cgroup, uint32_t machine)
{
    return map_put(bpf_ledger(ledger), MAP_CGROUPS, &cgroup, &machine);
}

int ledger_remove_cgroup(Ledger *ledger, uint64_t cgroup)
{
    return map_delete(bpf_ledger(ledger), MAP_CGROUPS, &cgroup);
}

static void note_scope(BpfLedger *ledger, uint32_t machine, uint64_t cgroup)
{
    g_hash_table_replace(ledger->machines, GUINT_TO_POINTER(machine),
                         g_memdup2(&cgroup, sizeof(cgroup)));
}

static int note_entry(const void *key, const void *value, void *data)
{
    uint32_t machine = *(const uint32_t *)value;

    if (machine != LEDGER_RELAY)
        note_scope(data, machine, *(const uint64_t *)key);
    return 0;
}

void ledger_find_scopes(Ledger *ledger)
{
    (void)map_each(bpf_ledger(ledger), MAP_CGROUPS, note_entry, bpf_ledger(ledger));
}

/* Helpers that were not forked by the leader belong to the machine as well. */
void ledger_add_scope(Ledger *ledger, uint32_t machine, pid_t pid)
{
    g_autofree char *path = NULL, *scope = NULL;
    uint64_t cgroup;

    if (sd_pid_get_cgroup(pid, &path) < 0)
        return;
    scope = cgroup_machine(path);
    if (scope && !cgroup_id(scope, &cgroup) && !ledger_add_cgroup(ledger, cgroup, machine))
        note_scope(bpf_ledger(ledger), machine, cgroup);
}

void ledger_remove_scope(Ledger *ledger, uint32_t machine)
{
    GHashTable *machines = bpf_ledger(ledger)->machines;
    const uint64_t *cgroup = g_hash_table_lookup(machines, GUINT_TO_POINTER(machine));

    if (!cgroup)
        return;
    ledger_remove_cgroup(ledger, *cgroup);
    g_hash_table_remove(machines, GUINT_TO_POINTER(machine));
}
