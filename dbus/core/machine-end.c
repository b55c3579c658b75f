/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/core/machine-end.h"

#include "dbus/base/errors.h"
#include "dbus/base/journal.h"
#include "dbus/base/signals.h"
#include "dbus/core/machine-devices.h"
#include "dbus/core/machine-start.h"
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

/* ---- an admission's end ---- */

/* A clock that is read so much later than it was set for was not late: the service was stopped, and
 * StartMachine may be waiting to be read. */
#define LATE_USEC ((uint64_t)G_USEC_PER_SEC)

static gboolean refuse_owned(const Machine *machine, GError **error)
{
    if (machine->policy.state == MACHINE_RUNNING)
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_MACHINE_EXISTS,
                    "Machine %s (%s) runs already as process %d: stop it first; it is released "
                    "when its process is gone.",
                    machine->policy.name, machine_uuid(machine), (int)machine->leader.pid);
    else
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_MACHINE_EXISTS,
                    "Machine %s (%s) was admitted, and a process that lives has or may have "
                    "memory in its IOMMUFD, but which one leads it can't be told: stop that "
                    "process first, or name it with StartMachine.",
                    machine->policy.name, machine_uuid(machine));
    return FALSE;
}

gboolean machine_check_unowned(Machine *machine, GError **error)
{
    PidRef owner;
    g_autoptr(GError) refusal = NULL;
    g_assert(machine->policy.state == MACHINE_ADMITTED);
    switch (machine_find_owner(machine, &owner)) {
    case OWNER_NONE:
        return TRUE;
    case OWNER_FOUND:
        if (!machine_adopt(machine, owner, &refusal)) {
            g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_MACHINE_EXISTS, "%s", refusal->message);
            return FALSE;
        }
        break;
    case OWNER_UNKNOWN:
        break;
    }
    return refuse_owned(machine, error);
}

/* Who binds a device in the moment between the question and the end would be reaped alive: so that
 * is asked once more when nobody may bind any more. */
static gboolean end_admission(Machine *machine, GError **error)
{
    g_auto(GStrv) devices = machine_devices(machine);
    g_autoptr(GError) failure = NULL;
    if (!machine_check_unowned(machine, error))
        return FALSE;
    if (machine->ledger_id)
        devices_dismiss(machine->manager, (const char *const *)devices, machine->ledger_id);
    if (machine_check_unowned(machine, error)) {
        machine_reap(machine);
        return TRUE;
    }
    if (!machine_admit_devices(machine, &failure))
        journal_write(LOG_ERR, MESSAGE_KERNEL_NOT_TOLD, &(JournalFields){JOURNAL_MACHINE(machine)},
                      "Machine %s (%s): %s", machine->policy.name, machine_uuid(machine),
                      failure->message);
    return FALSE;
}

static void restart_clock(Machine *machine)
{
    uint64_t delay = (uint64_t)machine->manager->admission_timeout * G_USEC_PER_SEC;
    (void)sd_event_source_set_time_relative(machine->admission_timer, delay);
    (void)sd_event_source_set_enabled(machine->admission_timer, SD_EVENT_ONESHOT);
}

static void log_expired(const Machine *machine)
{
    journal_write(LOG_WARNING, MESSAGE_ADMISSION_EXPIRED,
                  &(JournalFields){JOURNAL_MACHINE(machine)},
                  "Machine %s (%s) was admitted and has not started for %u seconds, and no process "
                  "that lives has anything of it: what it was promised is given back.",
                  machine->policy.name, machine_uuid(machine), machine->manager->admission_timeout);
}

static void log_kept(const Machine *machine, const GError *why)
{
    journal_write(LOG_WARNING, MESSAGE_ADMISSION_KEPT, &(JournalFields){JOURNAL_MACHINE(machine)},
                  "The admission of a machine that has not started is kept for another %u seconds: "
                  "%s",
                  machine->manager->admission_timeout, why->message);
}

static int on_admission_expired(sd_event_source *source, uint64_t usec, void *userdata)
{
    Machine *machine = userdata;
    g_autoptr(GError) why = NULL;
    bool late = (uint64_t)g_get_monotonic_time() > usec + LATE_USEC;
    if (late ? !machine_check_unowned(machine, &why) : !end_admission(machine, &why)) {
        if (machine->policy.state == MACHINE_ADMITTED)
            log_kept(machine, why);
    } else if (!late) {
        log_expired(machine);
    }
    if (machine->policy.state == MACHINE_ADMITTED)
        restart_clock(machine);
    return 0;
}

gboolean machine_start_clock(Machine *machine, GError **error)
{
    Manager *manager = machine->manager;
    int r = sd_event_add_time_relative(manager->event, &machine->admission_timer, CLOCK_MONOTONIC,
                                       (uint64_t)manager->admission_timeout * G_USEC_PER_SEC, 0,
                                       on_admission_expired, machine);
    if (r < 0)
        error_set_kernel(error, r, "Machine %s can't be watched", machine_uuid(machine));
    return r >= 0;
}

/* ---- gone ---- */

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

/* ---- released ---- */

gboolean machine_release(Machine *machine, const char *reason, GError **error)
{
    if (machine->policy.state == MACHINE_RUNNING && machine_check_alive(machine))
        return refuse_owned(machine, error);
    if (machine->policy.state == MACHINE_ADMITTED && !end_admission(machine, error))
        return FALSE;
    g_autofree char *quoted = error_quote(reason);
    journal_write(LOG_INFO, MESSAGE_MACHINE_RELEASED, &(JournalFields){JOURNAL_MACHINE(machine)},
                  "Machine %s (%s) of tenant %s is released: %s.", machine->policy.name,
                  machine_uuid(machine), tenant_id(machine_tenant(machine)), quoted);
    return TRUE;
}
