/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Verbs about devices: who may use them, and which driver has them. */
#include "dbus/iommuctl/iommuctl.h"

#include <errno.h>
#include <string.h>

/* All devices of one group, by address as they come. -1: of none. */
static char **group_members(GPtrArray *devices, int32_t group)
{
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();

    for (unsigned i = 0; group >= 0 && i < devices->len; i++) {
        const DeviceRow *device = devices->pdata[i];

        if (device->group == group)
            g_strv_builder_add(builder, device->address);
    }
    return g_strv_builder_end(builder);
}

/* The others of a group in few words: a chipset's group can have dozens of members. */
static char *others_text(const DeviceRow *device, char **members)
{
    unsigned n = g_strv_length(members);

    for (; *members; members++) {
        if (strcmp(*members, device->address) != 0)
            return n > 2 ? g_strdup_printf("%s +%u", *members, n - 2) : g_strdup(*members);
    }
    return g_strdup("");
}

static const char *machine_name(GPtrArray *machines, const char *uuid)
{
    const MachineRow *machine = NULL;

    if (!*uuid || rows_find_machine(machines, uuid, &machine) < 0)
        return uuid;
    return machine->name;
}

static Table *device_table(void)
{
    Table *table = table_new();

    table_add_column(table, "DEVICE", "address", TABLE_LEFT);
    table_add_column(table, "GROUP", "group", TABLE_RIGHT);
    table_add_column(table, "TOGETHER WITH", NULL, TABLE_LEFT);
    table_add_column(table, NULL, "group_members", TABLE_LEFT);
    table_add_column(table, "DRIVER", "driver", TABLE_LEFT);
    table_add_column(table, "TENANT", "tenant", TABLE_LEFT);
    table_add_column(table, "MACHINE", "machine_name", TABLE_LEFT);
    table_add_column(table, NULL, "machine", TABLE_LEFT);
    table_add_column(table, "DESCRIPTION", "description", TABLE_LEFT);
    table_add_column(table, "ASSIGNABLE", "assignable", TABLE_LEFT);
    table_add_column(table, "WHY NOT", "reason", TABLE_LEFT);
    return table;
}

static void add_device(Table *table, const DeviceRow *device, GPtrArray *devices,
                       GPtrArray *machines)
{
    g_auto(GStrv) members = group_members(devices, device->group);
    g_autofree char *others = others_text(device, members);

    table_add_string(table, device->address);
    if (device->group >= 0)
        table_add_number(table, device->group);
    else
        table_add_none(table);
    table_add_string(table, others);
    table_add_strings(table, (const char *const *)members);
    table_add_string(table, device->driver);
    table_add_string(table, device->tenant);
    table_add_string(table, machine_name(machines, device->machine));
    table_add_string(table, device->machine);
    table_add_string(table, device->description);
    table_add_bool(table, device->assignable);
    table_mark(table, device->assignable ? MARK_GOOD : MARK_FAINT);
    if (device->assignable)
        table_add_none(table);
    else
        table_add_string(table, device->reason);
}

int verb_devices(Iommuctl *ctl, char **arguments)
{
    g_autoptr(GPtrArray) devices = NULL;
    g_autoptr(GPtrArray) machines = NULL;
    g_autoptr(Table) table = device_table();
    int r = rows_devices(ctl->bus, &ctl->error, &devices);

    if (r >= 0)
        r = rows_machines(ctl->bus, &ctl->error, &machines);
    if (r < 0)
        return r;
    for (unsigned i = 0; i < devices->len; i++)
        add_device(table, devices->pdata[i], devices, machines);
    table_print(table, &ctl->output);
    return 0;
}

int verb_device_bind(Iommuctl *ctl, char **arguments)
{
    g_autofree char *path = NULL;
    int r = find_device(ctl, arguments[0], &path);

    if (r < 0)
        return r;
    return client_call(ctl->bus, path, BUS_INTERFACE_DEVICE, "Bind", CLIENT_TIMEOUT, &ctl->error,
                       NULL, "s", arguments[1]);
}

int verb_device_restore(Iommuctl *ctl, char **arguments)
{
    g_autofree char *path = NULL;
    int r = find_device(ctl, arguments[0], &path);

    if (r < 0)
        return r;
    return client_call(ctl->bus, path, BUS_INTERFACE_DEVICE, "Restore", CLIENT_TIMEOUT, &ctl->error,
                       NULL, NULL);
}
