/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/core/machine-admit.h"

#include "dbus/accounting/accounting.h"
#include "dbus/base/errors.h"
#include "dbus/bus/bus.h"
#include "dbus/base/journal.h"
#include "dbus/core/machine.h"
#include "dbus/reaper/reaper.h"
#include "dbus/state/records.h"
#include "dbus/core/tenant.h"
#include "policy/size.h"

/* Everything of an admission that policy does not know about. */
static gboolean admit_settle(MachineLife *life, bool *ret_fresh, GError **error)
{
    if (life->machine->iommufd && !manager_need_iommufd(life->manager, error))
        return FALSE;
    if (life->shares && (!tenant_life_open(life->tenant, ret_fresh, error) ||
                         !tenant_life_enter(life->tenant, life, error)))
        return FALSE;
    if (!books_admit(life->manager->books, life, error) || !state_save_machine(life, error))
        return FALSE;
    int r = machine_life_watch(life);
    if (r < 0)
        error_set_kernel(error, r, "No timer could be set for machine %s", life->uuid);
    return r >= 0;
}

static void admit_undo(MachineLife *life, bool fresh)
{
    Manager *manager = life->manager;
    TenantLife *tenant = life->tenant;
    tenant_life_leave(tenant, life);
    machine_life_unregister(life);
    if (fresh)
        tenant_life_close(tenant);
    state_remove_machine(manager, life->uuid);
    g_hash_table_steal(manager->machines, life->uuid);
    machine_life_free(life);
}

static gboolean check_binding(Manager *manager, const AdmissionRequest *request, GError **error)
{
    for (size_t i = 0; request->devices && request->devices[i]; i++) {
        if (g_hash_table_contains(manager->binding, request->devices[i])) {
            g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_DEVICE_BUSY,
                        "Device %s is being bound to another driver right now: try again.",
                        request->devices[i]);
            return FALSE;
        }
    }
    return TRUE;
}

/* No machine of that UUID is there. */
static MachineLife *admit_new(Manager *manager, const AdmissionRequest *request, GError **error)
{
    const HostDevice *devices;
    size_t n;
    if (!check_binding(manager, request, error) || !manager_devices(manager, &devices, &n, error))
        return NULL;
    Machine *machine = registry_admit(manager->registry, request, devices, n, error);
    if (!machine)
        return NULL;
    TenantLife *tenant = g_hash_table_lookup(manager->tenants, machine->tenant->config->id);
    machine->since = g_get_monotonic_time();
    MachineLife *life = machine_life_new(manager, tenant, machine);
    life->shares = machine->iommufd && tenant_life_shares(tenant);
    g_hash_table_insert(manager->machines, life->uuid, life);
    bool fresh = false;
    if (!admit_settle(life, &fresh, error)) {
        admit_undo(life, fresh);
        return NULL;
    }
    return life;
}

/* Only one that was there a moment ago is put back: policy has nothing to ask. */
static void admit_put_back(MachineLife *old, const AdmissionRequest *was, int64_t since)
{
    Manager *manager = old->manager;
    g_autoptr(GError) error = NULL;
    old->machine = registry_restore(manager->registry, was, &error);
    g_assert_no_error(error);
    old->machine->since = since;
    g_hash_table_insert(manager->machines, old->uuid, old);
    if (!books_admit(manager->books, old, &error) || !state_save_machine(old, &error))
        journal_write(LOG_WARNING, MESSAGE_STATE_NOT_WRITTEN, &(JournalAbout){.machine = old->uuid},
                      "%s", error->message);
}

/* The old start was lost, and what it may have left is settled from now on. If its process lives
 * after all, what it has attached answers EBUSY to the sweep. */
static void admit_replace(MachineLife *life, MachineLife *old)
{
    TenantLife *tenant = old->tenant;
    tenant_life_leave(tenant, old);
    /* If the window can't be renewed it stays one that two have been in: safe, but knows less. */
    if (life->inside && life->tenant->inside == 1)
        (void)tenant_life_renew_window(life->tenant, life, NULL);
    bus_machine_removed(life->manager, old->uuid);
    machine_life_free(old);
    reaper_wake(tenant);
}

static MachineLife *admit_again(Manager *manager, MachineLife *old, const AdmissionRequest *request,
                                GError **error)
{
    Machine *machine = old->machine;
    const HostDevice *host_devices;
    size_t n;
    if (!check_binding(manager, request, error) ||
        !manager_devices(manager, &host_devices, &n, error) ||
        !registry_check(manager->registry, request, machine, host_devices, n, error))
        return NULL;
    g_autofree char *name = g_strdup(machine->name);
    g_auto(GStrv) devices = machine_life_devices(old);
    int64_t since = machine->since;
    AdmissionRequest was = {
        .uuid = old->uuid,
        .name = name,
        .tenant = old->tenant->id,
        .bytes = charge_bytes(machine->charge),
        .devices = (const char *const *)devices,
        .iommufd = machine->iommufd,
    };
    machine_life_unregister(old);
    g_hash_table_steal(manager->machines, old->uuid);
    MachineLife *life = admit_new(manager, request, error);
    if (life)
        admit_replace(life, old);
    else
        admit_put_back(old, &was, since);
    return life;
}

static void admit_announce(MachineLife *life)
{
    uint64_t bytes = charge_bytes(life->machine->charge);
    uint64_t limit = budget_limit(life->tenant->tenant->budget);
    g_autofree char *size = size_format(bytes);
    journal_write(
        LOG_INFO, MESSAGE_MACHINE_ADMITTED,
        &(JournalAbout){
            .tenant = life->tenant->id, .machine = life->uuid, .bytes = &bytes, .limit = &limit},
        "Admitted machine %s (%s) of tenant %s with %s.", life->machine->name, life->uuid,
        life->tenant->id, size);
    bus_machine_added(life->manager, life->uuid);
    bus_reserved_changed(life->manager, life->tenant->id);
    manager_notify_status(life->manager);
}

static void refuse_running(const MachineLife *life, GError **error)
{
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_MACHINE_EXISTS,
                "Machine %s (%s) runs already as process %d: stop it before it is admitted again.",
                life->machine->name, life->uuid, (int)life->machine->leader);
}

AdmissionOutcome machine_admit(Manager *manager, const AdmissionRequest *request, GError **error)
{
    MachineLife *old = g_hash_table_lookup(manager->machines, request->uuid);
    if (old && old->machine->state == MACHINE_RUNNING) {
        if (machine_life_check_alive(old)) {
            refuse_running(old, error);
            return ADMISSION_REFUSED;
        }
        old = g_hash_table_lookup(manager->machines, request->uuid);
    }
    if (old && old->machine->state == MACHINE_REAPING)
        return ADMISSION_WAIT;
    g_autoptr(GError) refusal = NULL;
    MachineLife *life =
        old ? admit_again(manager, old, request, &refusal) : admit_new(manager, request, &refusal);
    if (!life) {
        manager_note_refusal(manager, request->tenant, request->uuid, request->bytes, refusal);
        g_propagate_error(error, g_steal_pointer(&refusal));
        return ADMISSION_REFUSED;
    }
    admit_announce(life);
    return ADMISSION_DONE;
}
