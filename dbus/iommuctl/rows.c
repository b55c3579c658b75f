/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/iommuctl/rows.h"

#include <errno.h>
#include <string.h>

/* Reads one row at the message's position: > 0, 0 at the end of the array, or a negative errno. */
typedef int (*ReadRow)(sd_bus_message *message, void *row);

static int read_rows(sd_bus_message *message, const char *contents, size_t size, ReadRow read,
                     GDestroyNotify row_free, GPtrArray **ret_rows)
{
    g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func(row_free);
    int r = sd_bus_message_enter_container(message, SD_BUS_TYPE_ARRAY, contents);

    while (r >= 0) {
        void *row = g_malloc0(size);

        r = read(message, row);
        if (r > 0) {
            g_ptr_array_add(rows, row);
            continue;
        }
        row_free(row);
        if (r == 0) {
            *ret_rows = g_steal_pointer(&rows);
            return 0;
        }
    }
    return r;
}

static void tenant_row_free(void *data)
{
    TenantRow *row = data;

    g_free(row->id);
    g_free(row);
}

static int tenant_row_read(sd_bus_message *message, void *data)
{
    TenantRow *row = data;
    const char *id;
    int r = sd_bus_message_read(message, "(stttto)", &id, &row->limit, &row->reserved, &row->pinned,
                                &row->orphaned, NULL);

    if (r > 0)
        row->id = g_strdup(id);
    return r;
}

int rows_tenants(sd_bus *bus, sd_bus_error *error, GPtrArray **ret_rows)
{
    g_autoptr(sd_bus_message) reply = NULL;
    int r = client_call(bus, BUS_PATH, BUS_INTERFACE_MANAGER, "ListTenants", CLIENT_TIMEOUT, error,
                        &reply, NULL);

    if (r < 0)
        return r;
    return read_rows(reply, "(stttto)", sizeof(TenantRow), tenant_row_read, tenant_row_free,
                     ret_rows);
}

static void machine_row_free(void *data)
{
    MachineRow *row = data;

    g_free(row->uuid);
    g_free(row->name);
    g_free(row->tenant);
    g_free(row->state);
    g_free(row);
}

static int machine_row_read(sd_bus_message *message, void *data)
{
    MachineRow *row = data;
    const char *uuid;
    const char *name;
    const char *tenant;
    const char *state;
    int r = sd_bus_message_read(message, "(sssstttuo)", &uuid, &name, &tenant, &state,
                                &row->reserved, &row->pinned, &row->orphaned, &row->leader, NULL);

    if (r > 0) {
        row->uuid = g_strdup(uuid);
        row->name = g_strdup(name);
        row->tenant = g_strdup(tenant);
        row->state = g_strdup(state);
    }
    return r;
}

int rows_machines(sd_bus *bus, sd_bus_error *error, GPtrArray **ret_rows)
{
    g_autoptr(sd_bus_message) reply = NULL;
    int r = client_call(bus, BUS_PATH, BUS_INTERFACE_MANAGER, "ListMachines", CLIENT_TIMEOUT, error,
                        &reply, NULL);

    if (r < 0)
        return r;
    return read_rows(reply, "(sssstttuo)", sizeof(MachineRow), machine_row_read, machine_row_free,
                     ret_rows);
}

static void device_row_free(void *data)
{
    DeviceRow *row = data;

    g_free(row->address);
    g_free(row->driver);
    g_free(row->tenant);
    g_free(row->machine);
    g_free(row->reason);
    g_free(row->description);
    g_free(row);
}

static int device_row_read(sd_bus_message *message, void *data)
{
    DeviceRow *row = data;
    const char *address;
    const char *driver;
    const char *tenant;
    const char *machine;
    const char *reason;
    const char *description;
    int assignable;
    int r = sd_bus_message_read(message, "(sisssbsso)", &address, &row->group, &driver, &tenant,
                                &machine, &assignable, &reason, &description, NULL);

    if (r > 0) {
        row->address = g_strdup(address);
        row->driver = g_strdup(driver);
        row->tenant = g_strdup(tenant);
        row->machine = g_strdup(machine);
        row->assignable = assignable != 0;
        row->reason = g_strdup(reason);
        row->description = g_strdup(description);
    }
    return r;
}

int rows_devices(sd_bus *bus, sd_bus_error *error, GPtrArray **ret_rows)
{
    g_autoptr(sd_bus_message) reply = NULL;
    int r = client_call(bus, BUS_PATH, BUS_INTERFACE_MANAGER, "ListDevices", CLIENT_TIMEOUT, error,
                        &reply, NULL);

    if (r < 0)
        return r;
    return read_rows(reply, "(sisssbsso)", sizeof(DeviceRow), device_row_read, device_row_free,
                     ret_rows);
}

static void object_row_free(void *data)
{
    ObjectRow *row = data;

    g_free(row->type);
    g_free(row->machine);
    g_free(row);
}

static int object_row_read(sd_bus_message *message, void *data)
{
    ObjectRow *row = data;
    const char *type;
    const char *machine;
    int r =
        sd_bus_message_read(message, "(ussut)", &row->id, &type, &machine, &row->pid, &row->pinned);

    if (r > 0) {
        row->type = g_strdup(type);
        row->machine = g_strdup(machine);
    }
    return r;
}

int rows_objects(sd_bus *bus, const char *tenant_path, sd_bus_error *error, GPtrArray **ret_rows)
{
    g_autoptr(sd_bus_message) reply = NULL;
    int r = client_call(bus, tenant_path, BUS_INTERFACE_TENANT, "ListObjects", CLIENT_TIMEOUT,
                        error, &reply, NULL);

    if (r < 0)
        return r;
    return read_rows(reply, "(ussut)", sizeof(ObjectRow), object_row_read, object_row_free,
                     ret_rows);
}

int rows_find_machine(GPtrArray *machines, const char *text, const MachineRow **ret_machine)
{
    const MachineRow *found = NULL;

    for (unsigned i = 0; i < machines->len; i++) {
        const MachineRow *machine = machines->pdata[i];

        if (g_ascii_strcasecmp(machine->uuid, text) == 0) {
            *ret_machine = machine;
            return 0;
        }
    }
    for (unsigned i = 0; i < machines->len; i++) {
        const MachineRow *machine = machines->pdata[i];

        if (strcmp(machine->name, text) != 0)
            continue;
        if (found)
            return -ENOTUNIQ;
        found = machine;
    }
    if (!found)
        return -ENXIO;
    *ret_machine = found;
    return 0;
}
