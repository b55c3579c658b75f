/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/core/machine-devices.h"

#include "dbus/base/journal.h"
#include "dbus/base/signals.h"
#include "kernel/base/pci-address.h"
#include "policy/size.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- whom a reset would hit ---- */

/* Whether a reset of the device's bus or slot would reset another machine's, as far as addresses
 * tell: one on its bus. What is behind a bridge on that bus is taken for affected. */
static bool reset_is_shared(Manager *manager, const MachinePolicy *own, const char *address)
{
    const HostDevice *beside;
    size_t n;
    if (!host_devices_bus(manager->devices, address, &beside, &n, NULL))
        return true;
    for (size_t i = 0; i < n; i++) {
        if (g_str_equal(beside[i].address, address))
            continue;
        const MachinePolicy *holder = registry_device_holder(manager->registry, beside[i].address);
        if (beside[i].bridge || (holder && holder != own))
            return true;
    }
    return false;
}

static gboolean admit_device(const Machine *machine, const char *address, GError **error)
{
    Manager *manager = machine->manager;
    bool shared = reset_is_shared(manager, &machine->policy, address);
    return accounting_admit_device(manager->accounting, address, machine_tenant(machine)->ledger_id,
                                   machine->ledger_id, shared, error);
}

/* Whoever has a device on the same bus may no longer reset it, or may again. Holders are looked up
 * by each address that the bus can have: the host's devices need not be listed for that. */
static void update_neighbours(Manager *manager, const char *address)
{
    int bus = (int)(strrchr(address, ':') - address);
    for (unsigned slot = 0; slot < 32; slot++) {
        for (unsigned function = 0; function < 8; function++) {
            char beside[PCI_ADDRESS_SIZE];
            snprintf(beside, sizeof(beside), "%.*s:%02x.%u", bus, address, slot, function);
            const Machine *holder = (Machine *)registry_device_holder(manager->registry, beside);
            if (holder && holder->ledger_id && !g_str_equal(beside, address))
                (void)admit_device(holder, beside, NULL);
        }
    }
}

void devices_update_neighbours(Manager *manager, const char *const *addresses)
{
    for (size_t i = 0; addresses && addresses[i]; i++)
        update_neighbours(manager, addresses[i]);
}

gboolean devices_admit(Manager *manager, const char *const *addresses, uint32_t tenant,
                       uint32_t machine, const MachinePolicy *own, GError **error)
{
    for (size_t i = 0; addresses && addresses[i]; i++) {
        bool shared = reset_is_shared(manager, own, addresses[i]);
        if (!accounting_admit_device(manager->accounting, addresses[i], tenant, machine, shared,
                                     error))
            return FALSE;
    }
    return TRUE;
}

gboolean machine_admit_devices(Machine *machine, GError **error)
{
    const GPtrArray *devices = machine->policy.devices;
    for (unsigned i = 0; machine->ledger_id && i < devices->len; i++) {
        if (!admit_device(machine, g_ptr_array_index(devices, i), error))
            return FALSE;
        update_neighbours(machine->manager, g_ptr_array_index(devices, i));
    }
    return TRUE;
}

void devices_dismiss(Manager *manager, const char *const *addresses, uint32_t machine)
{
    for (size_t i = 0; addresses && addresses[i]; i++) {
        accounting_dismiss_device(manager->accounting, addresses[i], machine);
        update_neighbours(manager, addresses[i]);
    }
}

/* ---- changes ---- */

static gboolean tell_of_device(Machine *machine, const char *address, GError **error)
{
    if (!writer_commit(machine->manager->writer, error))
        return FALSE;
    if (machine->ledger_id && !admit_device(machine, address, error))
        return FALSE;
    update_neighbours(machine->manager, address);
    return TRUE;
}

gboolean machine_add_device(Machine *machine, const char *address, GError **error)
{
    Manager *manager = machine->manager;
    const HostDevice *list;
    size_t n;
    if (!host_devices_list(manager->devices, &list, &n, error) ||
        !registry_add_device(manager->registry, &machine->policy, address, list, n, error))
        return FALSE;
    machine_mark(machine);
    if (!tell_of_device(machine, address, error)) {
        const char *const gone[] = {address, NULL};
        (void)registry_remove_device(manager->registry, &machine->policy, address, NULL);
        devices_dismiss(manager, gone, machine->ledger_id);
        machine_mark(machine);
        return FALSE;
    }
    signal_machine_changed(manager->bus, machine_uuid(machine), "Devices");
    return TRUE;
}

gboolean machine_remove_device(Machine *machine, const char *address, GError **error)
{
    Manager *manager = machine->manager;
    const char *const gone[] = {address, NULL};
    if (!registry_remove_device(manager->registry, &machine->policy, address, error))
        return FALSE;
    machine_mark(machine);
    if (!writer_commit(manager->writer, error)) {
        registry_put_back_device(manager->registry, &machine->policy, address);
        machine_mark(machine);
        return FALSE;
    }
    devices_dismiss(manager, gone, machine->ledger_id);
    signal_machine_changed(manager->bus, machine_uuid(machine), "Devices");
    return TRUE;
}

/* The kernel's account has the last word. */
static gboolean promise(const Machine *machine, uint64_t before, GError **error)
{
    g_autofree char *what =
        g_strdup_printf("machine %s (%s)", machine->policy.name, machine_uuid(machine));
    const AccountingPromise wanted = {
        .machine = machine->ledger_id,
        .bytes = charge_bytes(machine->policy.charge),
        .before = before,
        .budget = machine->policy.tenant->budget,
        .what = what,
    };
    return accounting_promise(machine->manager->accounting, &wanted, error);
}

gboolean machine_set_reservation(Machine *machine, uint64_t bytes, uint64_t unique_bytes,
                                 GError **error)
{
    Manager *manager = machine->manager;
    Charge *charge = machine->policy.charge;
    const char *tenant = tenant_id(machine_tenant(machine));
    uint64_t before = charge_bytes(charge);
    g_autoptr(GError) refusal = NULL;
    if (!registry_set_reservation(&machine->policy, bytes, unique_bytes, &refusal)) {
        manager_log_refusal(manager, tenant, machine_uuid(machine), bytes - before, refusal);
        g_propagate_error(error, g_steal_pointer(&refusal));
        return FALSE;
    }
    if (!promise(machine, before, &refusal)) {
        charge_put_back(charge, before);
        manager_log_refusal(manager, tenant, machine_uuid(machine), bytes - before, refusal);
        g_propagate_error(error, g_steal_pointer(&refusal));
        return FALSE;
    }
    machine_mark(machine);
    if (!writer_commit(manager->writer, error)) {
        charge_put_back(charge, before);
        accounting_promise_again(manager->accounting, machine->ledger_id, before);
        machine_mark(machine);
        return FALSE;
    }
    signal_machine_changed(manager->bus, machine_uuid(machine), "ReservedBytes");
    signal_reserved_changed(manager->bus, tenant);
    return TRUE;
}

/* ---- what libvirt plugs in ---- */

/* The limit of its leader. False: it has none, or the leader is gone. By number, and then by pidfd:
 * so it was the leader's. */
static bool read_limit(const Machine *machine, uint64_t *ret_limit)
{
    Host *host = machine->manager->host;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    return host->ops->lock_limit(host, machine->leader.pid, ret_limit) >= 0 &&
           pidref_is_alive(&machine->leader) && *ret_limit != UINT64_MAX && *ret_limit > page;
}

/* So that whoever plugs in something next asks, however little it is. */
static void lower_limit(Machine *machine)
{
    Host *host = machine->manager->host;
    uint64_t limit;
    if (!read_limit(machine, &limit) || limit == machine->plug_lowered)
        return;
    limit -= (uint64_t)sysconf(_SC_PAGESIZE);
    int r = host->ops->set_lock_limit(host, machine->leader.pid, limit);
    if (r < 0 && r != -ESRCH)
        journal_write(
            LOG_WARNING, MESSAGE_KERNEL_NOT_TOLD, &(JournalFields){JOURNAL_MACHINE(machine)},
            "The limit of locked memory of machine %s (%s) can't be set: %s. What is plugged "
            "in next is only checked when it is mapped.",
            machine->policy.name, machine_uuid(machine), g_strerror(-r));
    if (r < 0)
        return;
    machine->plug_lowered = limit;
    machine_mark(machine);
}

/* Pages that are mapped twice count once for such a tenant, and a limit does not tell how many of
 * those there will be. */
static bool is_followed(const Machine *machine)
{
    return machine->follows_limit && machine->ledger_id != 0 &&
           machine_tenant(machine)->policy.config->count != COUNT_UNIQUE;
}

void machine_begin_plugs(Machine *machine)
{
    uint64_t limit, reserved = charge_bytes(machine->policy.charge);
    if (!is_followed(machine) || !read_limit(machine, &limit) ||
        !accounting_follow_limit(machine->manager->accounting, machine->ledger_id, limit, reserved))
        return;
    machine->plug_limit = limit;
    machine->plug_reserved = reserved;
    lower_limit(machine);
}

void machine_resume_plugs(Machine *machine)
{
    if (machine->plug_limit == 0 || machine->policy.state != MACHINE_RUNNING ||
        !accounting_follow_limit(machine->manager->accounting, machine->ledger_id,
                                 machine->plug_limit, machine->plug_reserved))
        return;
    lower_limit(machine);
}

void machine_follow_plug(Machine *machine)
{
    Manager *manager = machine->manager;
    uint64_t before = charge_bytes(machine->policy.charge), promised;
    lower_limit(machine);
    if (!accounting_promised(manager->accounting, machine->ledger_id, &promised) ||
        promised == before)
        return;
    charge_put_back(machine->policy.charge, promised);
    machine_mark(machine);
    g_autofree char *size = size_format(promised);
    journal_write(
        LOG_INFO, MESSAGE_MACHINE_PLUGGED,
        &(JournalFields){JOURNAL_MACHINE(machine), .bytes = &promised},
        "Machine %s (%s) of tenant %s gets something plugged in, and has %s reserved now.",
        machine->policy.name, machine_uuid(machine), tenant_id(machine_tenant(machine)), size);
    signal_machine_changed(manager->bus, machine_uuid(machine), "ReservedBytes");
    signal_reserved_changed(manager->bus, tenant_id(machine_tenant(machine)));
}
