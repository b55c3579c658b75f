/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* org.iommud1.Machine */
#include "dbus/accounting/accounting.h"
#include "dbus/base/errors.h"
#include "dbus/bus/options.h"
#include "dbus/bus/bus.h"
#include "dbus/core/machine.h"
#include "dbus/core/machine-release.h"
#include "dbus/core/tenant.h"

static int check_not_reaping(const MachineLife *life, sd_bus_error *ret_error)
{
    if (life->machine->state != MACHINE_REAPING)
        return 0;
    g_autoptr(GError) error =
        g_error_new(IOMMUD_ERROR, IOMMUD_ERROR_NO_SUCH_MACHINE,
                    "Machine %s (%s) is dead and being reaped: it changes no more.",
                    life->machine->name, life->uuid);
    return bus_error_set(ret_error, error);
}

static int change_device(sd_bus_message *message, MachineLife *life, sd_bus_error *ret_error,
                         gboolean (*change)(MachineLife *, const char *, GError **))
{
    const char *given;
    g_autoptr(GError) error = NULL;
    int r = sd_bus_message_read(message, "s", &given);
    if (r >= 0)
        r = check_not_reaping(life, ret_error);
    if (r < 0)
        return r;
    g_autofree char *address = device_address_parse(given, &error);
    if (!address || !change(life, address, &error))
        return bus_error_set(ret_error, error);
    return sd_bus_reply_method_return(message, "");
}

static int add_device(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    return change_device(message, userdata, ret_error, machine_life_add_device);
}

static int remove_device(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    return change_device(message, userdata, ret_error, machine_life_remove_device);
}

static const BusOption reservation_options[] = {
    {"UniqueBytes", "t", "bytes", 0},
    {NULL},
};

static int set_reservation(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    MachineLife *life = userdata;
    uint64_t bytes;
    uint64_t unique_bytes = 0;
    g_autoptr(GError) error = NULL;
    int r = sd_bus_message_read(message, "t", &bytes);
    if (r >= 0)
        r = bus_options_read(message, reservation_options, &unique_bytes, ret_error);
    if (r >= 0)
        r = check_not_reaping(life, ret_error);
    if (r < 0)
        return r;
    if (!machine_life_set_reservation(life, bytes, unique_bytes, &error))
        return bus_error_set(ret_error, error);
    return sd_bus_reply_method_return(message, "");
}

static int release(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    return machine_release(userdata, "by its own interface", message, ret_error);
}

/* ---- properties ---- */

static int get_text(sd_bus *bus, const char *path, const char *interface, const char *property,
                    sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    const MachineLife *life = userdata;
    return sd_bus_message_append(reply, "s",
                                 g_str_equal(property, "Uuid") ? life->uuid
                                 : g_str_equal(property, "Name")
                                     ? life->machine->name
                                     : machine_state_to_string(life->machine->state));
}

static int get_tenant(sd_bus *bus, const char *path, const char *interface, const char *property,
                      sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    const MachineLife *life = userdata;
    g_autofree char *tenant_path = bus_tenant_path(life->tenant->id);
    return sd_bus_message_append(reply, "o", tenant_path);
}

static int get_leader(sd_bus *bus, const char *path, const char *interface, const char *property,
                      sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    const MachineLife *life = userdata;
    return sd_bus_message_append(reply, "u", (uint32_t)life->machine->leader);
}

static int get_number(sd_bus *bus, const char *path, const char *interface, const char *property,
                      sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    MachineLife *life = userdata;
    uint64_t value = g_str_equal(property, "ReservedBytes") ? charge_bytes(life->machine->charge)
                     : g_str_equal(property, "PinnedBytes") ? machine_life_pinned(life)
                                                            : machine_life_orphaned(life);
    return sd_bus_message_append(reply, "t", value);
}

static int get_figure(sd_bus *bus, const char *path, const char *interface, const char *property,
                      sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    MachineLife *life = userdata;
    Figures figures;
    machine_life_figures(life, &figures);
    return bus_append_figure(reply, property, &figures);
}

static int get_devices(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    g_auto(GStrv) devices = machine_life_devices(userdata);
    return bus_append_strings(reply, (const char *const *)devices);
}

static int get_iommufd(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    const MachineLife *life = userdata;
    return sd_bus_message_append(reply, "b", (int)life->machine->iommufd);
}

#define OPEN SD_BUS_VTABLE_UNPRIVILEGED /* access.c says who may */
#define CONST SD_BUS_VTABLE_PROPERTY_CONST
#define CHANGES SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE

static const sd_bus_vtable vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD_WITH_ARGS("AddDevice", SD_BUS_ARGS("s", address), SD_BUS_NO_RESULT, add_device,
                            OPEN),
    SD_BUS_METHOD_WITH_ARGS("RemoveDevice", SD_BUS_ARGS("s", address), SD_BUS_NO_RESULT,
                            remove_device, OPEN),
    SD_BUS_METHOD_WITH_ARGS("SetReservation", SD_BUS_ARGS("t", bytes, "a{sv}", options),
                            SD_BUS_NO_RESULT, set_reservation, OPEN),
    SD_BUS_METHOD_WITH_ARGS("Release", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, release, OPEN),
    SD_BUS_PROPERTY("Uuid", "s", get_text, 0, CONST),
    SD_BUS_PROPERTY("Name", "s", get_text, 0, CONST),
    SD_BUS_PROPERTY("Tenant", "o", get_tenant, 0, CONST),
    SD_BUS_PROPERTY("Leader", "u", get_leader, 0, CHANGES),
    SD_BUS_PROPERTY("State", "s", get_text, 0, CHANGES),
    SD_BUS_PROPERTY("ReservedBytes", "t", get_number, 0, CHANGES),
    SD_BUS_PROPERTY("PinnedBytes", "t", get_number, 0, 0),
    SD_BUS_PROPERTY("OrphanedBytes", "t", get_number, 0, 0),
    SD_BUS_PROPERTY("PeakBytes", "t", get_figure, 0, 0),
    SD_BUS_PROPERTY("UniqueBytes", "t", get_figure, 0, 0),
    SD_BUS_PROPERTY("MappedBytes", "t", get_figure, 0, 0),
    SD_BUS_PROPERTY("Maps", "t", get_figure, 0, 0),
    SD_BUS_PROPERTY("Unmaps", "t", get_figure, 0, 0),
    SD_BUS_PROPERTY("Refusals", "t", get_figure, 0, 0),
    SD_BUS_PROPERTY("Devices", "as", get_devices, 0, CHANGES),
    SD_BUS_PROPERTY("Iommufd", "b", get_iommufd, 0, CONST),
    SD_BUS_VTABLE_END,
};

static int find(sd_bus *bus, const char *path, const char *interface, void *userdata,
                void **ret_found, sd_bus_error *ret_error)
{
    Manager *manager = userdata;
    g_autofree char *uuid = bus_path_machine(path);
    *ret_found = uuid ? g_hash_table_lookup(manager->machines, uuid) : NULL;
    return *ret_found != NULL;
}

static int enumerate(sd_bus *bus, const char *prefix, void *userdata, char ***ret_nodes,
                     sd_bus_error *ret_error)
{
    Manager *manager = userdata;
    g_autoptr(GPtrArray) machines = registry_machines(manager->registry);
    char **paths = g_new0(char *, machines->len + 1);
    for (unsigned i = 0; i < machines->len; i++)
        paths[i] = bus_machine_path(((Machine *)g_ptr_array_index(machines, i))->uuid);
    *ret_nodes = paths;
    return 0;
}

int bus_machine_register(Manager *manager)
{
    int r = sd_bus_add_fallback_vtable(manager->bus, NULL, BUS_PATH_MACHINE, BUS_INTERFACE_MACHINE,
                                       vtable, find, manager);
    return r < 0 ? r
                 : sd_bus_add_node_enumerator(manager->bus, NULL, BUS_PATH_MACHINE, enumerate,
                                              manager);
}
