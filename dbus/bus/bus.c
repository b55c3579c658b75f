/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/bus/bus.h"

/* ---- announcements ----
 * A failed announcement is no reason to refuse what has already happened: when the bus is gone the
 * service ends anyway, by sd_bus_set_exit_on_disconnect(). */

static void object_added(Manager *manager, const char *path, const char *signal, const char *name)
{
    if (!manager->bus)
        return;
    (void)sd_bus_emit_object_added(manager->bus, path);
    (void)sd_bus_emit_signal(manager->bus, BUS_PATH, BUS_INTERFACE_MANAGER, signal, "so", name,
                             path);
}

static void object_removed(Manager *manager, const char *path, const char *interface,
                           const char *signal, const char *name)
{
    if (!manager->bus)
        return;
    /* Not sd_bus_emit_object_removed(): that one asks the object, which may be gone already. */
    const char *interfaces[] = {"org.freedesktop.DBus.Peer", "org.freedesktop.DBus.Introspectable",
                                "org.freedesktop.DBus.Properties", interface, NULL};
    (void)sd_bus_emit_interfaces_removed_strv(manager->bus, path, (char **)interfaces);
    (void)sd_bus_emit_signal(manager->bus, BUS_PATH, BUS_INTERFACE_MANAGER, signal, "so", name,
                             path);
}

void bus_tenant_added(Manager *manager, const char *id)
{
    g_autofree char *path = bus_tenant_path(id);
    object_added(manager, path, "TenantNew", id);
}

void bus_tenant_removed(Manager *manager, const char *id)
{
    g_autofree char *path = bus_tenant_path(id);
    object_removed(manager, path, BUS_INTERFACE_TENANT, "TenantRemoved", id);
}

void bus_machine_added(Manager *manager, const char *uuid)
{
    g_autofree char *path = bus_machine_path(uuid);
    object_added(manager, path, "MachineNew", uuid);
}

void bus_machine_removed(Manager *manager, const char *uuid)
{
    g_autofree char *path = bus_machine_path(uuid);
    object_removed(manager, path, BUS_INTERFACE_MACHINE, "MachineRemoved", uuid);
}

void bus_tenant_changed(Manager *manager, const char *id, const char *property)
{
    g_autofree char *path = bus_tenant_path(id);
    if (manager->bus)
        (void)sd_bus_emit_properties_changed(manager->bus, path, BUS_INTERFACE_TENANT, property,
                                             NULL);
}

void bus_machine_changed(Manager *manager, const char *uuid, const char *property)
{
    g_autofree char *path = bus_machine_path(uuid);
    if (manager->bus)
        (void)sd_bus_emit_properties_changed(manager->bus, path, BUS_INTERFACE_MACHINE, property,
                                             NULL);
}

void bus_manager_changed(Manager *manager, const char *property)
{
    if (manager->bus)
        (void)sd_bus_emit_properties_changed(manager->bus, BUS_PATH, BUS_INTERFACE_MANAGER,
                                             property, NULL);
}

void bus_reserved_changed(Manager *manager, const char *tenant)
{
    bus_tenant_changed(manager, tenant, "ReservedBytes");
    bus_manager_changed(manager, "ReservedBytes");
}

static int append_text(sd_bus_message *message, const char *key, const char *value)
{
    return value && *value ? sd_bus_message_append(message, "{sv}", key, "s", value) : 0;
}

/* Which process, with which ioctl, on what: nothing of it when an admission was refused. */
static int append_details(sd_bus_message *message, const Refusal *refusal)
{
    int r = sd_bus_message_open_container(message, 'a', "{sv}");
    if (r >= 0 && refusal->pid)
        r = sd_bus_message_append(message, "{sv}", "Pid", "u", refusal->pid);
    if (r >= 0)
        r = append_text(message, "Command", refusal->command);
    if (r >= 0)
        r = append_text(message, "Ioctl", refusal->ioctl);
    if (r >= 0 && refusal->object)
        r = sd_bus_message_append(message, "{sv}", "Ids", "au", 1, refusal->object);
    if (r >= 0)
        r = append_text(message, "Owner", refusal->owner);
    return r < 0 ? r : sd_bus_message_close_container(message);
}

void bus_limit_exceeded(Manager *manager, const Refusal *refusal)
{
    g_autoptr(sd_bus_message) signal = NULL;
    if (!manager->bus)
        return;
    int r = sd_bus_message_new_signal(manager->bus, &signal, BUS_PATH, BUS_INTERFACE_MANAGER,
                                      "LimitExceeded");
    if (r >= 0)
        r = sd_bus_message_append(signal, "sstt", refusal->tenant, refusal->machine,
                                  refusal->requested, refusal->left);
    if (r >= 0)
        r = append_details(signal, refusal);
    if (r >= 0)
        (void)sd_bus_send(manager->bus, signal, NULL);
}

void bus_refused(Manager *manager, const Refusal *refusal)
{
    g_autoptr(sd_bus_message) signal = NULL;
    if (!manager->bus)
        return;
    int r = sd_bus_message_new_signal(manager->bus, &signal, BUS_PATH, BUS_INTERFACE_MANAGER,
                                      "Refused");
    if (r >= 0)
        r = sd_bus_message_append(signal, "ssss", refusal->tenant, refusal->machine, refusal->ioctl,
                                  refusal->error);
    if (r >= 0)
        r = append_details(signal, refusal);
    if (r >= 0)
        (void)sd_bus_send(manager->bus, signal, NULL);
}

void bus_reaped(Manager *manager, const char *tenant, const char *uuid, uint32_t objects,
                uint64_t bytes)
{
    if (manager->bus)
        (void)sd_bus_emit_signal(manager->bus, BUS_PATH, BUS_INTERFACE_MANAGER, "Reaped", "ssut",
                                 tenant, uuid, objects, bytes);
}

/* ---- the tree ---- */

int bus_append_figure(sd_bus_message *reply, const char *property, const Figures *figures)
{
    uint64_t value = g_str_equal(property, "PeakBytes")     ? figures->peak
                     : g_str_equal(property, "UniqueBytes") ? figures->unique
                     : g_str_equal(property, "MappedBytes") ? figures->mapped
                     : g_str_equal(property, "Maps")        ? figures->maps
                     : g_str_equal(property, "Unmaps")      ? figures->unmaps
                                                            : figures->refusals;
    return sd_bus_message_append(reply, "t", value);
}

int bus_append_strings(sd_bus_message *message, const char *const *strings)
{
    int r = sd_bus_message_open_container(message, 'a', "s");
    for (size_t i = 0; r >= 0 && strings && strings[i]; i++)
        r = sd_bus_message_append_basic(message, 's', strings[i]);
    return r < 0 ? r : sd_bus_message_close_container(message);
}

int bus_register(Manager *manager)
{
    int (*const parts[])(Manager *) = {
        bus_manager_register, bus_tenant_register,     bus_machine_register,
        bus_device_register,  bus_simulation_register,
    };
    int r = sd_bus_add_object_manager(manager->bus, NULL, BUS_PATH);
    for (size_t i = 0; r >= 0 && i < G_N_ELEMENTS(parts); i++)
        r = parts[i](manager);
    return r;
}
