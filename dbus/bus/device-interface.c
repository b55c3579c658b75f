/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* org.iommud1.Device */
#include "dbus/base/errors.h"
#include "dbus/bus/bus.h"
#include "dbus/core/device-rebind.h"

#include <string.h>

static int bind_device(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    Manager *manager = userdata;
    const char *driver;
    g_autofree char *address = bus_path_device(sd_bus_message_get_path(message));
    int r = sd_bus_message_read(message, "s", &driver);
    return r < 0 ? r : rebind_to(manager, address, driver, message, ret_error);
}

static int restore_device(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    g_autofree char *address = bus_path_device(sd_bus_message_get_path(message));
    return rebind_restore(userdata, address, message, ret_error);
}

/* ---- properties ----
 * The vtable's userdata is the manager: a HostDevice does not live longer than one turn of the
 * event loop. */

static const HostDevice *device_at(Manager *manager, const char *path)
{
    g_autofree char *address = bus_path_device(path);
    return address ? manager_get_device(manager, address, NULL) : NULL;
}

static const Machine *holder_of(Manager *manager, const HostDevice *device)
{
    return registry_device_holder(manager->registry, device->address);
}

static int get_text(sd_bus *bus, const char *path, const char *interface, const char *property,
                    sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    const HostDevice *device = device_at(userdata, path);
    if (!device)
        return -ENODEV;
    const Machine *holder = holder_of(userdata, device);
    const char *value = g_str_equal(property, "Address")  ? device->address
                        : g_str_equal(property, "Driver") ? device->driver
                        : g_str_equal(property, "Cdev")   ? device->cdev
                        : !holder                         ? ""
                        : g_str_equal(property, "Tenant") ? holder->tenant->config->id
                                                          : holder->uuid;
    return sd_bus_message_append(reply, "s", value);
}

static int get_identity(sd_bus *bus, const char *path, const char *interface, const char *property,
                        sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    const HostDevice *device = device_at(userdata, path);
    if (!device)
        return -ENODEV;
    if (g_str_equal(property, "Class"))
        return sd_bus_message_append(reply, "u", device->class_code);
    return sd_bus_message_append(
        reply, "q", g_str_equal(property, "Vendor") ? device->vendor : device->product);
}

static int get_bridge(sd_bus *bus, const char *path, const char *interface, const char *property,
                      sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    const HostDevice *device = device_at(userdata, path);
    return device ? sd_bus_message_append(reply, "b", (int)device->bridge) : -ENODEV;
}

static int get_group(sd_bus *bus, const char *path, const char *interface, const char *property,
                     sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    const HostDevice *device = device_at(userdata, path);
    return device ? sd_bus_message_append(reply, "i", device->group) : -ENODEV;
}

static int get_group_members(sd_bus *bus, const char *path, const char *interface,
                             const char *property, sd_bus_message *reply, void *userdata,
                             sd_bus_error *ret_error)
{
    const HostDevice *device = device_at(userdata, path);
    const HostDevice *devices;
    size_t n;
    if (!device || !manager_devices(userdata, &devices, &n, NULL))
        return -ENODEV;
    int r = sd_bus_message_open_container(reply, 'a', "s");
    for (size_t i = 0; r >= 0 && i < n; i++) {
        if (device->group >= 0 && devices[i].group == device->group)
            r = sd_bus_message_append_basic(reply, 's', devices[i].address);
    }
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int get_assignable(sd_bus *bus, const char *path, const char *interface,
                          const char *property, sd_bus_message *reply, void *userdata,
                          sd_bus_error *ret_error)
{
    Manager *manager = userdata;
    const HostDevice *device = device_at(manager, path);
    const HostDevice *devices;
    size_t n;
    g_autofree char *reason = NULL;
    if (!device || !manager_devices(manager, &devices, &n, NULL))
        return -ENODEV;
    bool assignable = registry_device_assignable(manager->registry, device, devices, n, &reason);
    if (g_str_equal(property, "Assignable"))
        return sd_bus_message_append(reply, "b", (int)assignable);
    return sd_bus_message_append(reply, "s", reason ? reason : "");
}

#define OPEN SD_BUS_VTABLE_UNPRIVILEGED /* access.c says who may */
#define CONST SD_BUS_VTABLE_PROPERTY_CONST

static const sd_bus_vtable vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD_WITH_ARGS("Bind", SD_BUS_ARGS("s", driver), SD_BUS_NO_RESULT, bind_device, OPEN),
    SD_BUS_METHOD_WITH_ARGS("Restore", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, restore_device, OPEN),
    SD_BUS_PROPERTY("Address", "s", get_text, 0, CONST),
    SD_BUS_PROPERTY("Vendor", "q", get_identity, 0, CONST),
    SD_BUS_PROPERTY("Product", "q", get_identity, 0, CONST),
    SD_BUS_PROPERTY("Class", "u", get_identity, 0, CONST),
    SD_BUS_PROPERTY("Bridge", "b", get_bridge, 0, CONST),
    SD_BUS_PROPERTY("Driver", "s", get_text, 0, 0),
    SD_BUS_PROPERTY("Cdev", "s", get_text, 0, 0),
    SD_BUS_PROPERTY("Group", "i", get_group, 0, CONST),
    SD_BUS_PROPERTY("GroupMembers", "as", get_group_members, 0, 0),
    SD_BUS_PROPERTY("Tenant", "s", get_text, 0, 0),
    SD_BUS_PROPERTY("Machine", "s", get_text, 0, 0),
    SD_BUS_PROPERTY("Assignable", "b", get_assignable, 0, 0),
    SD_BUS_PROPERTY("Reason", "s", get_assignable, 0, 0),
    SD_BUS_VTABLE_END,
};

static int find(sd_bus *bus, const char *path, const char *interface, void *userdata,
                void **ret_found, sd_bus_error *ret_error)
{
    const HostDevice *device = device_at(userdata, path);
    g_autofree char *canonical = device ? bus_device_path(device->address) : NULL;
    *ret_found = g_strcmp0(canonical, path) == 0 ? userdata : NULL;
    return *ret_found != NULL;
}

static int enumerate(sd_bus *bus, const char *prefix, void *userdata, char ***ret_nodes,
                     sd_bus_error *ret_error)
{
    const HostDevice *devices;
    size_t n;
    if (!manager_devices(userdata, &devices, &n, NULL))
        n = 0;
    char **paths = g_new0(char *, n + 1);
    for (size_t i = 0; i < n; i++)
        paths[i] = bus_device_path(devices[i].address);
    *ret_nodes = paths;
    return 0;
}

int bus_device_register(Manager *manager)
{
    int r = sd_bus_add_fallback_vtable(manager->bus, NULL, BUS_PATH_DEVICE, BUS_INTERFACE_DEVICE,
                                       vtable, find, manager);
    return r < 0 ? r
                 : sd_bus_add_node_enumerator(manager->bus, NULL, BUS_PATH_DEVICE, enumerate,
                                              manager);
}
