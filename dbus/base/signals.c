/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/base/signals.h"

#include "dbus/base/names.h"
#include "dbus/base/paths.h"

/* A failed announcement is no reason to refuse what has already happened: when the bus is gone the
 * service ends anyway, by sd_bus_set_exit_on_disconnect(). */

static void object_added(sd_bus *bus, const char *path, const char *signal, const char *name)
{
    if (!bus)
        return;
    (void)sd_bus_emit_object_added(bus, path);
    (void)sd_bus_emit_signal(bus, BUS_PATH, BUS_INTERFACE_MANAGER, signal, "so", name, path);
}

static void object_removed(sd_bus *bus, const char *path, const char *interface, const char *signal,
                           const char *name)
{
    if (!bus)
        return;
    /* Not sd_bus_emit_object_removed(): that one asks the object, which may be gone already. */
    const char *interfaces[] = {"org.freedesktop.DBus.Peer", "org.freedesktop.DBus.Introspectable",
                                "org.freedesktop.DBus.Properties", interface, NULL};
    (void)sd_bus_emit_interfaces_removed_strv(bus, path, (char **)interfaces);
    (void)sd_bus_emit_signal(bus, BUS_PATH, BUS_INTERFACE_MANAGER, signal, "so", name, path);
}

void signal_tenant_added(sd_bus *bus, const char *id)
{
    g_autofree char *path = bus_tenant_path(id);
    object_added(bus, path, "TenantNew", id);
}

void signal_tenant_removed(sd_bus *bus, const char *id)
{
    g_autofree char *path = bus_tenant_path(id);
    object_removed(bus, path, BUS_INTERFACE_TENANT, "TenantRemoved", id);
}

void signal_machine_added(sd_bus *bus, const char *uuid)
{
    g_autofree char *path = bus_machine_path(uuid);
    object_added(bus, path, "MachineNew", uuid);
}

void signal_machine_removed(sd_bus *bus, const char *uuid)
{
    g_autofree char *path = bus_machine_path(uuid);
    object_removed(bus, path, BUS_INTERFACE_MACHINE, "MachineRemoved", uuid);
}

void signal_tenant_changed(sd_bus *bus, const char *id, const char *property)
{
    g_autofree char *path = bus_tenant_path(id);
    if (bus)
        (void)sd_bus_emit_properties_changed(bus, path, BUS_INTERFACE_TENANT, property, NULL);
}

void signal_machine_changed(sd_bus *bus, const char *uuid, const char *property)
{
    g_autofree char *path = bus_machine_path(uuid);
    if (bus)
        (void)sd_bus_emit_properties_changed(bus, path, BUS_INTERFACE_MACHINE, property, NULL);
}

void signal_manager_changed(sd_bus *bus, const char *property)
{
    if (bus)
        (void)sd_bus_emit_properties_changed(bus, BUS_PATH, BUS_INTERFACE_MANAGER, property, NULL);
}

void signal_reserved_changed(sd_bus *bus, const char *tenant)
{
    signal_tenant_changed(bus, tenant, "ReservedBytes");
    signal_manager_changed(bus, "ReservedBytes");
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

void signal_limit_exceeded(sd_bus *bus, const Refusal *refusal)
{
    g_autoptr(sd_bus_message) message = NULL;
    if (!bus)
        return;
    int r =
        sd_bus_message_new_signal(bus, &message, BUS_PATH, BUS_INTERFACE_MANAGER, "LimitExceeded");
    if (r >= 0)
        r = sd_bus_message_append(message, "sstt", refusal->tenant, refusal->machine,
                                  refusal->requested, refusal->left);
    if (r >= 0)
        r = append_details(message, refusal);
    if (r >= 0)
        (void)sd_bus_send(bus, message, NULL);
}

void signal_refused(sd_bus *bus, const Refusal *refusal)
{
    g_autoptr(sd_bus_message) message = NULL;
    if (!bus)
        return;
    int r = sd_bus_message_new_signal(bus, &message, BUS_PATH, BUS_INTERFACE_MANAGER, "Refused");
    if (r >= 0)
        r = sd_bus_message_append(message, "ssss", refusal->tenant, refusal->machine,
                                  refusal->ioctl, refusal->error);
    if (r >= 0)
        r = append_details(message, refusal);
    if (r >= 0)
        (void)sd_bus_send(bus, message, NULL);
}

void signal_reaped(sd_bus *bus, const char *tenant, const char *uuid, uint32_t objects,
                   uint64_t bytes)
{
    if (bus)
        (void)sd_bus_emit_signal(bus, BUS_PATH, BUS_INTERFACE_MANAGER, "Reaped", "ssut", tenant,
                                 uuid, objects, bytes);
}
