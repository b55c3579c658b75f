/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/iommuctl/verbs-device.h"

#include "dbus/iommuctl/base/figures.h"
#include "dbus/iommuctl/base/lookup.h"

#include <string.h>

/* The columns of the list, with what is said in other words between them. */
static const FigureId where_view[] = {FIGURE_ADDRESS, FIGURE_GROUP, FIGURES_END};
static const FigureId whose_view[] = {FIGURE_GROUP_MEMBERS, FIGURE_DRIVER, FIGURE_TENANT,
                                      FIGURE_MACHINE, FIGURES_END};
static const FigureId may_view[] = {FIGURE_ASSIGNABLE, FIGURE_REASON, FIGURES_END};

/* The others of its group in few words: a chipset's group can have dozens of members. */
static char *others_text(const Properties *device)
{
    const char *address = properties_string(device, "Address");
    const char *const *members = properties_strings(device, "GroupMembers");
    unsigned n = g_strv_length((char **)members);
    for (; *members; members++) {
        if (strcmp(*members, address) != 0)
            return n > 2 ? g_strdup_printf("%s +%u", *members, n - 2) : g_strdup(*members);
    }
    return g_strdup("");
}

static const char *machine_name(const Managed *managed, const Properties *device)
{
    const char *uuid = properties_string(device, "Machine");
    const Properties *machine = managed_machine(managed, uuid);
    return machine ? properties_string(machine, "Name") : uuid;
}

static Table *device_table(void)
{
    Table *table = table_new();
    figures_add_columns(table, where_view, FIGURES_LIST);
    table_add_column(table, "TOGETHER WITH", NULL, TABLE_LEFT);
    figures_add_columns(table, whose_view, FIGURES_LIST);
    table_add_column(table, "MACHINE", "machine_name", TABLE_LEFT);
    table_add_column(table, "DESCRIPTION", "description", TABLE_LEFT);
    figures_add_columns(table, may_view, FIGURES_LIST);
    return table;
}

static void add_device(Table *table, const Properties *device, const Managed *managed)
{
    g_autofree char *others = others_text(device);
    g_autofree char *identity = device_identity(device);
    figures_add_cells(table, where_view, device);
    table_add_string(table, others);
    figures_add_cells(table, whose_view, device);
    table_add_string(table, machine_name(managed, device));
    table_add_string(table, identity);
    figures_add_cells(table, may_view, device);
}

int verb_devices(Iommuctl *ctl, char **arguments)
{
    g_auto(Managed) managed = {0};
    int r = get_managed(ctl, &managed);
    if (r < 0)
        return r;
    g_autoptr(GPtrArray) devices = managed_sorted(managed.devices, "Address");
    g_autoptr(Table) table = device_table();
    for (unsigned i = 0; i < devices->len; i++)
        add_device(table, devices->pdata[i], &managed);
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
