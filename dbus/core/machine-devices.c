/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/core/machine-devices.h"

#include "dbus/base/signals.h"
#include "kernel/base/pci-address.h"

#include <stdio.h>
#include <string.h>

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
