/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/core/machine.h"

#include "dbus/accounting/accounting.h"
#include "dbus/base/errors.h"
#include "dbus/bus/bus.h"
#include "dbus/state/fd-store.h"
#include "dbus/base/journal.h"
#include "dbus/reaper/reaper.h"
#include "dbus/state/records.h"
#include "dbus/core/tenant.h"
#include "dbus/bus/pending-call.h"
#include "kernel/base/cleanup.h"
#include "kernel/base/process.h"
#include "policy/size.h"

#include <string.h>

/* QEMU binds, allocates and attaches within this time after a device was plugged in. */
#define HOTPLUG_SECONDS 10

MachineLife *machine_life_new(Manager *manager, TenantLife *tenant, Machine *machine)
{
    MachineLife *life = g_new0(MachineLife, 1);
    life->manager = manager;
    life->tenant = tenant;
    life->machine = machine;
    life->uuid = g_strdup(machine->uuid);
    life->objects = object_set_new();
    return life;
}

void machine_life_free(MachineLife *life)
{
    if (!life)
        return;
    sd_event_source_disable_unref(life->leader_event);
    sd_event_source_disable_unref(life->timer);
    object_set_free(life->objects);
    g_free(life->uuid);
    g_free(life);
}

char **machine_life_devices(const MachineLife *life)
{
    GPtrArray *devices = life->machine->devices;
    char **strings = g_new0(char *, devices->len + 1);
    for (unsigned i = 0; i < devices->len; i++)
        strings[i] = g_strdup(g_ptr_array_index(devices, i));
    return strings;
}

void machine_life_unregister(MachineLife *life)
{
    g_auto(GStrv) devices = machine_life_devices(life);
    registry_remove_machine(life->manager->registry, life->machine);
    life->machine = NULL;
    books_dismiss(life->manager->books, life, (const char *const *)devices);
}

/* Where a failed save does not take back what has happened. */
static void save_or_warn(MachineLife *life)
{
    g_autoptr(GError) error = NULL;
    if (!state_save_machine(life, &error))
        journal_write(LOG_WARNING, MESSAGE_STATE_NOT_WRITTEN,
                      &(JournalAbout){.tenant = life->tenant->id, .machine = life->uuid}, "%s",
                      error->message);
}

/* ---- watching ---- */

static int on_leader(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    machine_life_reap(userdata);
    return 0;
}

static int on_admission_expired(sd_event_source *source, uint64_t usec, void *userdata)
{
    MachineLife *life = userdata;
    journal_write(LOG_WARNING, MESSAGE_ADMISSION_EXPIRED,
                  &(JournalAbout){.tenant = life->tenant->id, .machine = life->uuid},
                  "Machine %s (%s) was admitted %u seconds ago and has not started: what it was "
                  "promised is given back.",
                  life->machine->name, life->uuid, life->manager->admission_timeout);
    machine_life_reap(life);
    return 0;
}

static int on_hotplug_over(sd_event_source *source, uint64_t usec, void *userdata)
{
    MachineLife *life = userdata;
    life->timer = sd_event_source_disable_unref(life->timer);
    (void)tenant_life_attribute(life->tenant, life);
    tenant_life_leave(life->tenant, life);
    save_or_warn(life);
    return 0;
}

static int watch_hotplug(MachineLife *life)
{
    life->timer = sd_event_source_disable_unref(life->timer);
    return sd_event_add_time_relative(life->manager->event, &life->timer, CLOCK_MONOTONIC,
                                      HOTPLUG_SECONDS * G_USEC_PER_SEC, 0, on_hotplug_over, life);
}

int machine_life_watch(MachineLife *life)
{
    sd_event *event = life->manager->event;
    if (life->machine->state == MACHINE_RUNNING) {
        int r = sd_event_add_io(event, &life->leader_event, life->machine->leader_pidfd, EPOLLIN,
                                on_leader, life);
        return r >= 0 && life->inside && !life->timer ? watch_hotplug(life) : r;
    }
    uint64_t expires = (uint64_t)life->machine->since +
                       (uint64_t)life->manager->admission_timeout * G_USEC_PER_SEC;
    return sd_event_add_time(event, &life->timer, CLOCK_MONOTONIC, expires, 0, on_admission_expired,
                             life);
}

static void stop_watching(MachineLife *life)
{
    life->leader_event = sd_event_source_disable_unref(life->leader_event);
    life->timer = sd_event_source_disable_unref(life->timer);
}

/* ---- start ---- */

static void refuse_leader(GError **error, const MachineLife *life, pid_t pid, const char *why)
{
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                "Process %d can't be the leader of machine %s (%s): %s.", (int)pid,
                life->machine->name, life->uuid, why);
}

static gboolean check_command_line(const MachineLife *life, pid_t pid, GError **error)
{
    g_autofree char *uuid = NULL;
    int r = process_qemu_uuid(pid, &uuid);
    if (r == -ENXIO || (r >= 0 && g_str_equal(uuid, life->uuid)))
        return TRUE;
    if (r >= 0) {
        g_autofree char *quoted = error_quote(uuid);
        g_autofree char *why = g_strdup_printf("its command line says -uuid %s", quoted);
        refuse_leader(error, life, pid, why);
    } else {
        refuse_leader(error, life, pid, g_strerror(-r));
    }
    return FALSE;
}

static gboolean check_holds(const MachineLife *life, pid_t pid, GError **error)
{
    if (!life->machine->iommufd)
        return TRUE;
    Host *host = life->manager->host;
    int fd = life->shares ? life->tenant->tenant->iommufd : -1;
    int r = host->ops->process_holds(host, pid, fd);
    if (r == -ENXIO)
        refuse_leader(error, life, pid,
                      life->shares ? "it does not hold the IOMMUFD of the machine's tenant"
                                   : "it holds no IOMMUFD");
    else if (r < 0)
        refuse_leader(error, life, pid, g_strerror(-r));
    return r >= 0;
}

static gboolean check_no_other(const MachineLife *life, pid_t pid, GError **error)
{
    GHashTableIter iter;
    void *other;
    g_hash_table_iter_init(&iter, life->manager->machines);
    while (g_hash_table_iter_next(&iter, NULL, &other)) {
        const Machine *machine = ((MachineLife *)other)->machine;
        if (machine->state == MACHINE_RUNNING && machine->leader == pid) {
            g_autofree char *why = g_strdup_printf("it is the leader of machine %s (%s)",
                                                   machine->name, machine->uuid);
            refuse_leader(error, life, pid, why);
            return FALSE;
        }
    }
    return TRUE;
}

/* Everything here is asked by pid; the pidfd, asked last, says that the pid was the process's own
 * all the time. */
static gboolean check_leader(const MachineLife *life, int pidfd, pid_t pid, GError **error)
{
    if (!check_no_other(life, pid, error) || !check_command_line(life, pid, error) ||
        !check_holds(life, pid, error))
        return FALSE;
    if (process_alive(pidfd) != 1) {
        refuse_leader(error, life, pid, "it has exited");
        return FALSE;
    }
    return TRUE;
}

/* Whether there is nothing to be done; TRUE without *ret_done: the machine is admitted. */
static gboolean check_startable(const MachineLife *life, pid_t pid, bool *ret_done, GError **error)
{
    const Machine *machine = life->machine;
    *ret_done = machine->state == MACHINE_RUNNING && machine->leader == pid;
    if (*ret_done || machine->state == MACHINE_ADMITTED)
        return TRUE;
    if (machine->state == MACHINE_RUNNING)
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_MACHINE_EXISTS,
                    "Machine %s (%s) runs already as process %d.", machine->name, life->uuid,
                    (int)machine->leader);
    else
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_NO_SUCH_MACHINE,
                    "Machine %s (%s) was released and is being reaped: admit it again.",
                    machine->name, life->uuid);
    return FALSE;
}

static gboolean start_note(MachineLife *life, GError **error)
{
    Machine *machine = life->machine;
    life->known = life->shares && tenant_life_attribute(life->tenant, life);
    machine->state = MACHINE_RUNNING;
    machine->since = g_get_monotonic_time();
    (void)tenant_life_pinned(life->tenant);
    int r = machine_life_watch(life);
    if (r < 0)
        error_set_kernel(error, r, "The leader of machine %s can't be watched", life->uuid);
    return r >= 0 && state_save_machine(life, error);
}

static gboolean start_commit(MachineLife *life, GError **error)
{
    Machine *machine = life->machine;
    Books *books = life->manager->books;
    (void)process_start_time(machine->leader, &life->leader_start);
    if (machine->iommufd && !books_start(books, life, machine->leader, life->leader_start, error))
        return FALSE;
    if (start_note(life, error))
        return TRUE;
    books_undo_start(books, life);
    return FALSE;
}

/* The time limit of the admission has not been touched. */
static void start_undo(MachineLife *life, int64_t since)
{
    Machine *machine = life->machine;
    life->leader_event = sd_event_source_disable_unref(life->leader_event);
    machine->state = MACHINE_ADMITTED;
    machine->since = since;
    machine->leader = 0;
    machine->leader_pidfd = close_fd(machine->leader_pidfd);
    life->known = false;
    object_set_keep(life->objects, NULL, 0);
    save_or_warn(life);
}

static void start_announce(MachineLife *life)
{
    journal_write(LOG_INFO, MESSAGE_MACHINE_STARTED,
                  &(JournalAbout){.tenant = life->tenant->id,
                                  .machine = life->uuid,
                                  .bytes = &life->machine->last_pinned},
                  "Machine %s (%s) of tenant %s runs as process %d.", life->machine->name,
                  life->uuid, life->tenant->id, (int)life->machine->leader);
    bus_machine_changed(life->manager, life->uuid, "State");
    bus_machine_changed(life->manager, life->uuid, "Leader");
}

gboolean machine_life_start(MachineLife *life, int pidfd, GError **error)
{
    autoclose int fd = pidfd;
    Machine *machine = life->machine;
    pid_t pid;
    bool done;
    int r = process_pid(fd, &pid);
    if (r < 0) {
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                    r == -ESRCH ? "The leader of machine %s (%s) has exited already."
                                : "What was given as leader of machine %s (%s) is not a pidfd.",
                    machine->name, life->uuid);
        return FALSE;
    }
    if (!check_startable(life, pid, &done, error))
        return FALSE;
    if (done)
        return TRUE;
    if (!check_leader(life, fd, pid, error))
        return FALSE;
    int64_t since = machine->since;
    machine->leader = pid;
    machine->leader_pidfd = TAKE_FD(fd);
    if (!start_commit(life, error)) {
        start_undo(life, since);
        return FALSE;
    }
    life->timer = sd_event_source_disable_unref(life->timer);
    g_autofree char *name = fd_store_leader_name(life->uuid);
    fd_store_push(name, machine->leader_pidfd);
    start_announce(life);
    tenant_life_leave(life->tenant, life);
    save_or_warn(life); /* That it is no longer inside. */
    return TRUE;
}

/* ---- end ---- */

bool machine_life_check_alive(MachineLife *life)
{
    g_assert(life->machine->state == MACHINE_RUNNING);
    if (process_alive(life->machine->leader_pidfd) == 1)
        return true;
    machine_life_reap(life);
    return false;
}

void machine_life_reap(MachineLife *life)
{
    TenantLife *tenant = life->tenant;
    Machine *machine = life->machine;
    stop_watching(life);
    machine->state = MACHINE_REAPING;
    machine->since = g_get_monotonic_time();
    save_or_warn(life);
    bus_machine_changed(life->manager, life->uuid, "State");
    if (!life->shares) {
        machine_life_finish(life);
        return;
    }
    tenant_life_leave(tenant, life);
    reaper_wake(tenant);
}

void machine_life_finish(MachineLife *life)
{
    Manager *manager = life->manager;
    Machine *machine = life->machine;
    g_autofree char *uuid = g_strdup(life->uuid);
    const char *tenant = life->tenant->id;
    uint64_t bytes = life->reaped_bytes ? life->reaped_bytes : machine->last_pinned;
    g_autofree char *size = size_format(bytes);
    journal_write(LOG_INFO, MESSAGE_MACHINE_REAPED,
                  &(JournalAbout){.tenant = tenant, .machine = uuid, .bytes = &bytes},
                  "Reaped machine %s (%s) of tenant %s: %u objects destroyed, and %s given back.",
                  machine->name, uuid, tenant, life->reaped, size);
    bus_reaped(manager, tenant, uuid, life->reaped, bytes);
    state_remove_machine(manager, uuid);
    if (machine->leader_pidfd >= 0) {
        g_autofree char *name = fd_store_leader_name(uuid);
        fd_store_remove(name);
    }
    machine_life_unregister(life);
    g_hash_table_remove(manager->machines, uuid);
    bus_machine_removed(manager, uuid);
    bus_reserved_changed(manager, tenant);
    manager_notify_status(manager);
    waiting_answer(manager, uuid);
}

/* ---- changes ---- */

/* A running machine that gets a device allocates as one that starts does. */
static gboolean hotplug_begin(MachineLife *life, GError **error)
{
    if (life->machine->state != MACHINE_RUNNING || !life->shares)
        return TRUE;
    if (!tenant_life_enter(life->tenant, life, error))
        return FALSE;
    int r = watch_hotplug(life);
    if (r < 0) {
        tenant_life_leave(life->tenant, life);
        error_set_kernel(error, r, "No timer could be set for machine %s", life->uuid);
    }
    return r >= 0;
}

gboolean machine_life_add_device(MachineLife *life, const char *address, GError **error)
{
    Registry *registry = life->manager->registry;
    const HostDevice *devices;
    size_t n;
    if (!manager_devices(life->manager, &devices, &n, error) ||
        !registry_add_device(registry, life->machine, address, devices, n, error))
        return FALSE;
    if (!books_admit(life->manager->books, life, error) || !state_save_machine(life, error) ||
        !hotplug_begin(life, error)) {
        (void)registry_remove_device(registry, life->machine, address, NULL);
        books_dismiss_device(life->manager->books, address);
        save_or_warn(life);
        return FALSE;
    }
    bus_machine_changed(life->manager, life->uuid, "Devices");
    return TRUE;
}

gboolean machine_life_remove_device(MachineLife *life, const char *address, GError **error)
{
    if (!registry_remove_device(life->manager->registry, life->machine, address, error))
        return FALSE;
    books_dismiss_device(life->manager->books, address);
    save_or_warn(life);
    bus_machine_changed(life->manager, life->uuid, "Devices");
    /* QEMU frees what the device had; soon another machine may get the same ids. */
    if (life->shares && !books_count(life->manager->books)) {
        g_autofree HostObject *objects = NULL;
        size_t n;
        (void)tenant_life_objects(life->tenant, &objects, &n, NULL);
    }
    return TRUE;
}

gboolean machine_life_set_reservation(MachineLife *life, uint64_t bytes, uint64_t unique_bytes,
                                      GError **error)
{
    Charge *charge = life->machine->charge;
    uint64_t before = charge_bytes(charge);
    g_autoptr(GError) refusal = NULL;
    if (!registry_set_reservation(life->machine, bytes, unique_bytes, &refusal)) {
        manager_note_refusal(life->manager, life->tenant->id, life->uuid, bytes - before, refusal);
        g_propagate_error(error, g_steal_pointer(&refusal));
        return FALSE;
    }
    if (!state_save_machine(life, error)) {
        (void)charge_resize(charge, before, NULL);
        return FALSE;
    }
    bus_machine_changed(life->manager, life->uuid, "ReservedBytes");
    bus_reserved_changed(life->manager, life->tenant->id);
    return TRUE;
}

/* ---- figures ---- */

/* Of a machine with legacy VFIO. VmLck is more than that if the process locks memory itself. */
static int legacy_pinned(const MachineLife *life, uint64_t *ret_bytes)
{
    Figures figures;
    if (!books_legacy(life->manager->books, life->machine->leader, &figures))
        return process_locked(life->machine->leader, ret_bytes);
    *ret_bytes = figures.pinned;
    return 0;
}

uint64_t machine_life_pinned(MachineLife *life)
{
    Machine *machine = life->machine;
    Host *host = life->manager->host;
    uint64_t bytes;
    Figures figures;
    if (machine->iommufd && books_machine(life->manager->books, life, &figures)) {
        uint64_t pinned = figures.pinned - figures.orphaned;
        if (machine->state == MACHINE_RUNNING && figures.orphaned == 0)
            machine->last_pinned = pinned;
        return pinned;
    }
    if (machine->state != MACHINE_RUNNING)
        return 0;
    int r = machine->iommufd ? host->ops->process_pinned(host, machine->leader, &bytes)
                             : legacy_pinned(life, &bytes);
    /* Alive afterwards: the pid was its own when it was asked. */
    if (r < 0 || process_alive(machine->leader_pidfd) != 1)
        return 0;
    machine->last_pinned = bytes;
    return bytes;
}

uint64_t machine_life_orphaned(const MachineLife *life)
{
    Figures figures;
    if (life->machine->iommufd && books_machine(life->manager->books, life, &figures))
        return figures.orphaned;
    return life->machine->state == MACHINE_REAPING ? life->machine->last_pinned : 0;
}

void machine_life_figures(MachineLife *life, Figures *ret_figures)
{
    uint64_t pinned = machine_life_pinned(life);
    Figures figures;
    bool known =
        life->machine->iommufd
            ? books_machine(life->manager->books, life, &figures)
            : pinned > 0 && books_legacy(life->manager->books, life->machine->leader, &figures);
    if (!known)
        figures = (Figures){.unique = pinned};
    figures.peak = MAX(figures.peak, life->machine->last_pinned);
    *ret_figures = figures;
}
