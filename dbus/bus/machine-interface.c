/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/bus/machine-interface.h"

#include "dbus/base/errors.h"
#include "dbus/bus/machine-release.h"
#include "dbus/bus/options.h"
#include "dbus/core/machine-devices.h"
#include "dbus/core/usage.h"

static Machine *machine_at(Service *service, const char *path)
{
    g_autofree char *uuid = bus_path_machine(path);
    return uuid ? manager_find_machine(service->manager, uuid) : NULL;
}

/* The machine that a call is about, which exists() has just seen. */
static Machine *machine_of(sd_bus_message *message, void *userdata)
{
    return machine_at(userdata, sd_bus_message_get_path(message));
}

static int check_not_reaping(const Machine *machine, sd_bus_error *ret_error)
{
    if (machine_is_live(machine))
        return 0;
    g_autoptr(GError) error =
        g_error_new(IOMMUD_ERROR, IOMMUD_ERROR_NO_SUCH_MACHINE,
                    "Machine %s (%s) is dead and being reaped: it changes no more.",
                    machine->policy.name, machine_uuid(machine));
    return bus_error_set(ret_error, error);
}

static int change_device(sd_bus_message *message, Machine *machine, sd_bus_error *ret_error,
                         gboolean (*change)(Machine *, const char *, GError **))
{
    g_autofree char *address = NULL;
    g_autoptr(GError) error = NULL;
    int r = bus_read_device(message, &address, ret_error);
    if (r >= 0)
        r = check_not_reaping(machine, ret_error);
    if (r < 0)
        return r;
    if (!change(machine, address, &error))
        return bus_error_set(ret_error, error);
    return sd_bus_reply_method_return(message, "");
}

static int add_device(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    return change_device(message, machine_of(message, userdata), ret_error, machine_add_device);
}

static int remove_device(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    return change_device(message, machine_of(message, userdata), ret_error, machine_remove_device);
}

static int set_reservation(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    static const BusOption options[] = {
        {"UniqueBytes", "t", "bytes", 0},
        {NULL},
    };
    Machine *machine = machine_of(message, userdata);
    uint64_t bytes;
    uint64_t unique_bytes = 0;
    g_autoptr(GError) error = NULL;
    int r = sd_bus_message_read(message, "t", &bytes);
    if (r >= 0)
        r = bus_options_read(message, options, &unique_bytes, ret_error);
    if (r >= 0)
        r = check_not_reaping(machine, ret_error);
    if (r < 0)
        return r;
    if (!machine_set_reservation(machine, bytes, unique_bytes, &error))
        return bus_error_set(ret_error, error);
    return sd_bus_reply_method_return(message, "");
}

static int release(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    return bus_release_machine(userdata, machine_of(message, userdata), "by its own interface",
                               message, ret_error);
}

/* ---- properties ---- */

static int get_text(sd_bus *bus, const char *path, const char *interface, const char *property,
                    sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    const MachinePolicy *policy = &machine_at(userdata, path)->policy;
    return sd_bus_message_append(reply, "s",
                                 g_str_equal(property, "Uuid") ? policy->uuid
                                 : g_str_equal(property, "Name")
                                     ? policy->name
                                     : machine_state_to_string(policy->state));
}

static int get_tenant(sd_bus *bus, const char *path, const char *interface, const char *property,
                      sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    const Machine *machine = machine_at(userdata, path);
    g_autofree char *tenant_path = bus_tenant_path(tenant_id(machine_tenant(machine)));
    return sd_bus_message_append(reply, "o", tenant_path);
}

static int get_leader(sd_bus *bus, const char *path, const char *interface, const char *property,
                      sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    return sd_bus_message_append(reply, "u", (uint32_t)machine_at(userdata, path)->leader.pid);
}

static int get_reserved(sd_bus *bus, const char *path, const char *interface, const char *property,
                        sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    return sd_bus_message_append(reply, "t",
                                 charge_bytes(machine_at(userdata, path)->policy.charge));
}

static int get_usage(sd_bus *bus, const char *path, const char *interface, const char *property,
                     sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    Usage usage;
    machine_usage(machine_at(userdata, path), &usage);
    return bus_append_usage(reply, property, &usage);
}

static int get_devices(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    g_auto(GStrv) devices = machine_devices(machine_at(userdata, path));
    return bus_append_strings(reply, (const char *const *)devices);
}

static int get_iommufd(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    return sd_bus_message_append(reply, "b", (int)machine_at(userdata, path)->policy.iommufd);
}

#define CONST SD_BUS_VTABLE_PROPERTY_CONST
#define CHANGES SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE

/* Methods are for everybody as far as sd-bus is concerned: access.c says who may. */
static const sd_bus_vtable vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD_WITH_ARGS("AddDevice", SD_BUS_ARGS("s", address), SD_BUS_NO_RESULT, add_device,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("RemoveDevice", SD_BUS_ARGS("s", address), SD_BUS_NO_RESULT,
                            remove_device, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("SetReservation", SD_BUS_ARGS("t", bytes, "a{sv}", options),
                            SD_BUS_NO_RESULT, set_reservation, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Release", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, release,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_PROPERTY("Uuid", "s", get_text, 0, CONST),
    SD_BUS_PROPERTY("Name", "s", get_text, 0, CONST),
    SD_BUS_PROPERTY("Tenant", "o", get_tenant, 0, CONST),
    SD_BUS_PROPERTY("Leader", "u", get_leader, 0, CHANGES),
    SD_BUS_PROPERTY("State", "s", get_text, 0, CHANGES),
    SD_BUS_PROPERTY("ReservedBytes", "t", get_reserved, 0, CHANGES),
    SD_BUS_PROPERTY("PinnedBytes", "t", get_usage, 0, 0),
    SD_BUS_PROPERTY("OrphanedBytes", "t", get_usage, 0, 0),
    SD_BUS_PROPERTY("PeakBytes", "t", get_usage, 0, 0),
    SD_BUS_PROPERTY("UniqueBytes", "t", get_usage, 0, 0),
    SD_BUS_PROPERTY("MappedBytes", "t", get_usage, 0, 0),
    SD_BUS_PROPERTY("Maps", "t", get_usage, 0, 0),
    SD_BUS_PROPERTY("Unmaps", "t", get_usage, 0, 0),
    SD_BUS_PROPERTY("Refusals", "t", get_usage, 0, 0),
    SD_BUS_PROPERTY("Devices", "as", get_devices, 0, CHANGES),
    SD_BUS_PROPERTY("Iommufd", "b", get_iommufd, 0, CONST),
    SD_BUS_VTABLE_END,
};

static bool exists(Service *service, const char *path)
{
    return machine_at(service, path) != NULL;
}

static char **list(Service *service)
{
    g_autoptr(GPtrArray) machines = registry_machines(service->manager->registry);
    char **paths = g_new0(char *, machines->len + 1);
    for (unsigned i = 0; i < machines->len; i++)
        paths[i] = bus_machine_path(machine_uuid(g_ptr_array_index(machines, i)));
    return paths;
}

int bus_machine_register(Service *service)
{
    static const BusKind kind = {
        .prefix = BUS_PATH_MACHINE,
        .interface = BUS_INTERFACE_MACHINE,
        .vtable = vtable,
        .exists = exists,
        .list = list,
    };
    return bus_register_kind(service, &kind);
}
