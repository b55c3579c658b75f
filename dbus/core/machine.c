/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/core/machine.h"

#include "dbus/base/signals.h"
#include "dbus/state/records.h"

static gboolean machine_save(WriterItem *item, GError **error)
{
    const Machine *machine = (const Machine *)((char *)item - offsetof(Machine, record));
    const MachinePolicy *policy = &machine->policy;
    g_auto(GStrv) devices = machine_devices(machine);
    const MachineRecord record = {
        .uuid = policy->uuid,
        .name = policy->name,
        .tenant = policy->tenant->config->id,
        .devices = devices,
        .bytes = charge_bytes(policy->charge),
        .last_pinned = machine->last_pinned,
        .iommufd = policy->iommufd,
        .shares = machine->shares,
        .follows_limit = machine->follows_limit,
        .plug_limit = machine->plug_limit,
        .plug_reserved = machine->plug_reserved,
        .plug_lowered = machine->plug_lowered,
        .state = policy->state,
        .since = machine->since,
        .leader = machine->leader.pid,
        .leader_start = machine->leader.start,
        .ledger_id = machine->ledger_id,
    };
    return machine_record_save(&record, machine->manager->runtime_dir, error);
}

void machine_begin(Machine *machine, Manager *manager)
{
    machine->manager = manager;
    machine->record.save = machine_save;
    machine->leader = PIDREF_NULL;
}

void machine_clear(MachinePolicy *policy)
{
    Machine *machine = (Machine *)policy;
    if (machine->ledger_id)
        g_hash_table_remove(machine->manager->machine_ids, GUINT_TO_POINTER(machine->ledger_id));
    machine_set_leader(machine, PIDREF_NULL);
    sd_event_source_disable_unref(machine->leader_event);
    sd_event_source_disable_unref(machine->admission_timer);
    writer_forget(machine->manager->writer, &machine->record);
}

void machine_mark(Machine *machine)
{
    writer_mark(machine->manager->writer, &machine->record);
}

void machine_set_ledger_id(Machine *machine, uint32_t ledger_id)
{
    machine->ledger_id = ledger_id;
    if (ledger_id)
        g_hash_table_insert(machine->manager->machine_ids, GUINT_TO_POINTER(ledger_id), machine);
}

void machine_set_state(Machine *machine, MachineState state)
{
    machine->policy.state = state;
    machine->since = g_get_monotonic_time();
    machine_mark(machine);
}

void machine_reap(Machine *machine)
{
    Manager *manager = machine->manager;
    machine->leader_event = sd_event_source_disable_unref(machine->leader_event);
    machine->admission_timer = sd_event_source_disable_unref(machine->admission_timer);
    machine_set_state(machine, MACHINE_REAPING);
    writer_commit_or_log(manager->writer);
    signal_machine_changed(manager->bus, machine_uuid(machine), "State");
    queue_reap(manager->queue, tenant_id(machine_tenant(machine)));
}

void machine_set_leader(Machine *machine, PidRef leader)
{
    GHashTable *leaders = machine->manager->leaders;
    void *pid = GINT_TO_POINTER(machine->leader.pid);
    /* A dead leader's pid may be the next machine's by now. */
    if (g_hash_table_lookup(leaders, pid) == machine)
        g_hash_table_remove(leaders, pid);
    pidref_clear(&machine->leader);
    machine->leader = leader;
    if (pidref_is_set(&leader))
        g_hash_table_insert(leaders, GINT_TO_POINTER(leader.pid), machine);
    machine_mark(machine);
}

char **machine_devices(const Machine *machine)
{
    const GPtrArray *devices = machine->policy.devices;
    char **strings = g_new0(char *, devices->len + 1);
    for (unsigned i = 0; i < devices->len; i++)
        strings[i] = g_strdup(g_ptr_array_index(devices, i));
    return strings;
}
