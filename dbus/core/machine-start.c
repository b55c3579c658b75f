/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/core/machine-start.h"

#include "dbus/base/errors.h"
#include "dbus/base/journal.h"
#include "dbus/base/signals.h"
#include "dbus/core/machine-devices.h"
#include "dbus/core/usage.h"
#include "dbus/state/fd-store.h"
#include "kernel/base/process.h"

/* ---- watching ---- */

static int on_leader(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    machine_reap(userdata);
    return 0;
}

/* A death is told once (EPOLLET): of thousands at a time each would be told again in each turn of
 * the event loop until its own has come. */
gboolean machine_watch_leader(Machine *machine, GError **error)
{
    int r = sd_event_add_io(machine->manager->event, &machine->leader_event, machine->leader.fd,
                            EPOLLIN | EPOLLET, on_leader, machine);
    if (r < 0)
        error_set_kernel(error, r, "Machine %s can't be watched", machine_uuid(machine));
    return r >= 0;
}

/* ---- who may lead ---- */

static gboolean refuse_leader(GError **error, const Machine *machine, pid_t pid, const char *why)
{
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                "Process %d can't be the leader of machine %s (%s): %s.", (int)pid,
                machine->policy.name, machine_uuid(machine), why);
    return FALSE;
}

static gboolean check_command_line(const Machine *machine, pid_t pid, GError **error)
{
    g_autofree char *uuid = NULL;
    int r = process_qemu_uuid(pid, &uuid);
    if (r == -ENXIO || (r >= 0 && g_str_equal(uuid, machine_uuid(machine))))
        return TRUE;
    if (r < 0)
        return refuse_leader(error, machine, pid, g_strerror(-r));
    g_autofree char *quoted = error_quote(uuid);
    g_autofree char *why = g_strdup_printf("its command line says -uuid %s", quoted);
    return refuse_leader(error, machine, pid, why);
}

static gboolean check_holds(const Machine *machine, pid_t pid, GError **error)
{
    if (!machine->policy.iommufd)
        return TRUE;
    Host *host = machine->manager->host;
    int fd = machine->shares ? machine_tenant(machine)->iommufd : -1;
    int r = host->ops->process_holds(host, pid, fd);
    if (r == -ENXIO)
        return refuse_leader(error, machine, pid,
                             machine->shares
                                 ? "it does not hold the IOMMUFD of the machine's tenant"
                                 : "it holds no IOMMUFD");
    return r >= 0 || refuse_leader(error, machine, pid, g_strerror(-r));
}

static gboolean check_no_other(const Machine *machine, pid_t pid, GError **error)
{
    const Machine *other = g_hash_table_lookup(machine->manager->leaders, GINT_TO_POINTER(pid));
    if (!other || other->policy.state != MACHINE_RUNNING)
        return TRUE;
    g_autofree char *why = g_strdup_printf("it is the leader of machine %s (%s)",
                                           other->policy.name, machine_uuid(other));
    return refuse_leader(error, machine, pid, why);
}

/* Everything here is asked by pid; the pidfd, asked last, says that the pid was the process's own
 * all the time. */
static gboolean check_leader(const Machine *machine, const PidRef *leader, GError **error)
{
    pid_t pid = leader->pid;
    if (!check_no_other(machine, pid, error) || !check_command_line(machine, pid, error) ||
        !check_holds(machine, pid, error))
        return FALSE;
    return pidref_is_alive(leader) || refuse_leader(error, machine, pid, "it has exited");
}

static gboolean check_state(const Machine *machine, GError **error)
{
    if (machine->policy.state == MACHINE_ADMITTED)
        return TRUE;
    if (machine->policy.state == MACHINE_RUNNING)
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_MACHINE_EXISTS,
                    "Machine %s (%s) runs already as process %d: stop that one first.",
                    machine->policy.name, machine_uuid(machine), (int)machine->leader.pid);
    else
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_NO_SUCH_MACHINE,
                    "Machine %s (%s) was released and is being reaped: admit it again.",
                    machine->policy.name, machine_uuid(machine));
    return FALSE;
}

/* ---- who leads, if nobody has said so ---- */

OwnerState machine_find_owner(const Machine *machine, PidRef *ret_owner)
{
    Accounting *accounting = machine->manager->accounting;
    if (machine->ledger_id == 0 || !accounting_is_active(accounting))
        return OWNER_NONE;
    return accounting_find_owner(accounting, machine->ledger_id, machine_tenant(machine)->ledger_id,
                                 machine_uuid(machine), ret_owner);
}

/* ---- the start ---- */

static void enter_running(Machine *machine, PidRef leader)
{
    Tenant *tenant = machine_tenant(machine);
    Usage usage;
    machine_set_leader(machine, leader);
    machine_set_state(machine, MACHINE_RUNNING);
    machine->last_pinned = machine_leader_pinned(machine);
    tenant_usage(tenant, &usage);
    if (usage.peak > tenant->peak_pinned) {
        tenant->peak_pinned = usage.peak;
        tenant_mark(tenant);
    }
}

/* Takes enter_running() back. The clock of the admission is as it was. */
static void leave_running(Machine *machine, int64_t since)
{
    machine->leader_event = sd_event_source_disable_unref(machine->leader_event);
    machine_set_state(machine, MACHINE_ADMITTED);
    machine->since = since;
    machine->last_pinned = 0;
    machine_set_leader(machine, PIDREF_NULL);
    writer_commit_or_log(machine->manager->writer);
}

/* The kernel is told last, for that can't be taken back. */
static gboolean commit_running(Machine *machine, GError **error)
{
    Manager *manager = machine->manager;
    if (!machine_watch_leader(machine, error) || !writer_commit(manager->writer, error))
        return FALSE;
    return machine->ledger_id == 0 ||
           accounting_name_leader(manager->accounting, machine->ledger_id,
                                  machine_tenant(machine)->ledger_id, &machine->leader, error);
}

static void announce_running(const Machine *machine, bool adopted)
{
    sd_bus *bus = machine->manager->bus;
    const JournalFields fields = {JOURNAL_MACHINE(machine), .bytes = &machine->last_pinned};
    const char *tenant = tenant_id(machine_tenant(machine));
    if (adopted)
        journal_write(LOG_NOTICE, MESSAGE_MACHINE_ADOPTED, &fields,
                      "Machine %s (%s) of tenant %s was adopted: it runs as process %d, but "
                      "StartMachine did not come.",
                      machine->policy.name, machine_uuid(machine), tenant,
                      (int)machine->leader.pid);
    else
        journal_write(LOG_INFO, MESSAGE_MACHINE_STARTED, &fields,
                      "Machine %s (%s) of tenant %s runs as process %d.", machine->policy.name,
                      machine_uuid(machine), tenant, (int)machine->leader.pid);
    signal_machine_changed(bus, machine_uuid(machine), "State");
    signal_machine_changed(bus, machine_uuid(machine), "Leader");
}

static gboolean run(Machine *machine, PidRef given, bool adopted, GError **error)
{
    autopidref PidRef leader = given;
    if (!check_state(machine, error) || !check_leader(machine, &leader, error))
        return FALSE;
    int64_t since = machine->since;
    enter_running(machine, pidref_take(&leader));
    if (!commit_running(machine, error)) {
        leave_running(machine, since);
        return FALSE;
    }
    machine->admission_timer = sd_event_source_disable_unref(machine->admission_timer);
    g_autofree char *name = fd_store_leader_name(machine_uuid(machine));
    fd_store_push(name, machine->leader.fd);
    machine_begin_plugs(machine);
    announce_running(machine, adopted);
    return TRUE;
}

gboolean machine_start(Machine *machine, PidRef given, GError **error)
{
    autopidref PidRef leader = given;
    if (machine->policy.state == MACHINE_RUNNING && machine->leader.pid == leader.pid &&
        machine->leader.start == leader.start)
        return TRUE;
    return run(machine, pidref_take(&leader), false, error);
}

gboolean machine_adopt(Machine *machine, PidRef leader, GError **error)
{
    return run(machine, leader, true, error);
}
