/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/bus/device-interface.h"

#include "dbus/base/errors.h"
#include "dbus/core/device-rebind.h"
#include "policy/admission.h"

#include <string.h>

/* data is the call. */
static void on_rebound(const GError *error, void *data)
{
    bus_answer(data, error);
}

static int bind_device(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    Service *service = userdata;
    const char *driver;
    g_autofree char *address = bus_path_device(sd_bus_message_get_path(message));
    g_autoptr(GError) error = NULL;
    int r = sd_bus_message_read(message, "s", &driver);
    if (r < 0)
        return r;
    if (!device_bind(service->manager, address, driver, on_rebound, message, &error))
        return bus_error_set(ret_error, error);
    sd_bus_message_ref(message);
    return 1;
}

static int restore_device(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    Service *service = userdata;
    g_autofree char *address = bus_path_device(sd_bus_message_get_path(message));
    g_autoptr(GError) error = NULL;
    if (!device_restore(service->manager, address, on_rebound, message, &error))
        return bus_error_set(ret_error, error);
    sd_bus_message_ref(message);
    return 1;
}

/* ---- properties ----
 * A HostDevice does not live longer than one turn of the event loop. */

static const HostDevice *device_at(Service *service, const char *path)
{
    g_autofree char *address = bus_path_device(path);
    return address ? host_devices_find(service->manager->devices, address, NULL) : NULL;
}

static const MachinePolicy *holder_of(Service *service, const HostDevice *device)
{
    return registry_device_holder(service->manager->registry, device->address);
}

static bool list_devices(Service *service, const HostDevice **ret_list, size_t *ret_n)
{
    return host_devices_list(service->manager->devices, ret_list, ret_n, NULL);
}

static int get_text(sd_bus *bus, const char *path, const char *interface, const char *property,
                    sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    const HostDevice *device = device_at(userdata, path);
    if (!device)
        return -ENODEV;
    const MachinePolicy *holder = holder_of(userdata, device);
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
    if (!device || !list_devices(userdata, &devices, &n))
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
    Service *service = userdata;
    const HostDevice *device = device_at(service, path);
    const HostDevice *devices;
    size_t n;
    g_autofree char *reason = NULL;
    if (!device || !list_devices(service, &devices, &n))
        return -ENODEV;
    bool assignable =
        registry_device_assignable(service->manager->registry, device, devices, n, &reason);
    if (g_str_equal(property, "Assignable"))
        return sd_bus_message_append(reply, "b", (int)assignable);
    return sd_bus_message_append(reply, "s", reason ? reason : "");
}

#define CONST SD_BUS_VTABLE_PROPERTY_CONST

static const sd_bus_vtable vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD_WITH_ARGS("Bind", SD_BUS_ARGS("s", driver), SD_BUS_NO_RESULT, bind_device,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Restore", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, restore_device,
                            SD_BUS_VTABLE_UNPRIVILEGED),
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

/* At its canonical path only. */
static bool exists(Service *service, const char *path)
{
    const HostDevice *device = device_at(service, path);
    g_autofree char *canonical = device ? bus_device_path(device->address) : NULL;
    return g_strcmp0(canonical, path) == 0;
}

static char **list(Service *service)
{
    const HostDevice *devices;
    size_t n;
    if (!list_devices(service, &devices, &n))
        n = 0;
    char **paths = g_new0(char *, n + 1);
    for (size_t i = 0; i < n; i++)
        paths[i] = bus_device_path(devices[i].address);
    return paths;
}

int bus_device_register(Service *service)
{
    static const BusKind kind = {
        .prefix = BUS_PATH_DEVICE,
        .interface = BUS_INTERFACE_DEVICE,
        .vtable = vtable,
        .exists = exists,
        .list = list,
    };
    return bus_register_kind(service, &kind);
}
