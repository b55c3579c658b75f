/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/core/machine-end.h"

#include "dbus/base/journal.h"
#include "dbus/base/signals.h"
#include "dbus/core/machine-devices.h"
#include "dbus/state/fd-store.h"
#include "dbus/state/records.h"
#include "policy/size.h"

bool machine_check_alive(Machine *machine)
{
    g_assert(machine->policy.state == MACHINE_RUNNING);
    if (pidref_is_alive(&machine->leader))
        return true;
    machine_reap(machine);
    return false;
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

/* Removes it from the records, the fd store, the registry and the kernel. */
static void forget(Machine *machine)
{
    Manager *manager = machine->manager;
    g_auto(GStrv) devices = machine_devices(machine);
    uint32_t ledger_id = machine->ledger_id;
    machine_record_remove(manager->runtime_dir, machine_uuid(machine));
    if (pidref_is_set(&machine->leader)) {
        g_autofree char *name = fd_store_leader_name(machine_uuid(machine));
        fd_store_remove(name);
    }
    registry_remove_machine(manager->registry, &machine->policy);
    devices_dismiss(manager, (const char *const *)devices, ledger_id);
    accounting_remove_machine(manager->accounting, ledger_id);
}

void machine_finish(Machine *machine)
{
    Manager *manager = machine->manager;
    g_autofree char *uuid = g_strdup(machine_uuid(machine));
    g_autofree char *tenant = g_strdup(tenant_id(machine_tenant(machine)));
    uint64_t bytes = machine->reaped_bytes ? machine->reaped_bytes : machine->last_pinned;
    unsigned objects = machine->reaped_objects;
    g_autofree char *size = size_format(bytes);
    journal_write(LOG_INFO, MESSAGE_MACHINE_REAPED,
                  &(JournalFields){JOURNAL_MACHINE(machine), .bytes = &bytes},
                  "Reaped machine %s (%s) of tenant %s: %u objects destroyed, and %s given back.",
                  machine->policy.name, uuid, tenant, objects, size);
    forget(machine);
    signal_reaped(manager->bus, tenant, uuid, objects, bytes);
    signal_machine_removed(manager->bus, uuid);
    signal_reserved_changed(manager->bus, tenant);
    manager_notify_status(manager);
    queue_gone(manager->queue, uuid);
}

static gboolean refuse_running(const Machine *machine, GError **error)
{
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_MACHINE_EXISTS,
                "Machine %s (%s) still runs as process %d: stop it first; it is released when its "
                "process is gone.",
                machine->policy.name, machine_uuid(machine), (int)machine->leader.pid);
    return FALSE;
}

gboolean machine_release(Machine *machine, const char *reason, GError **error)
{
    if (machine->policy.state == MACHINE_RUNNING && machine_check_alive(machine))
        return refuse_running(machine, error);
    g_autofree char *quoted = error_quote(reason);
    journal_write(LOG_INFO, MESSAGE_MACHINE_RELEASED, &(JournalFields){JOURNAL_MACHINE(machine)},
                  "Machine %s (%s) of tenant %s is released: %s.", machine->policy.name,
                  machine_uuid(machine), tenant_id(machine_tenant(machine)), quoted);
    if (machine->policy.state == MACHINE_ADMITTED)
        machine_reap(machine);
    return TRUE;
}
