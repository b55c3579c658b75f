/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Verbs about machines. */
#include "dbus/iommuctl/iommuctl.h"

#include <string.h>

static Mark state_mark(const char *state)
{
    if (strcmp(state, "running") == 0)
        return MARK_GOOD;
    return strcmp(state, "reaping") == 0 ? MARK_WARNING : MARK_NONE;
}

static void add_machine(Table *table, const MachineRow *machine)
{
    table_add_string(table, machine->uuid);
    table_add_string(table, machine->name);
    table_add_string(table, machine->tenant);
    table_add_string(table, machine->state);
    table_mark(table, state_mark(machine->state));
    table_add_size(table, machine->reserved);
    table_add_size(table, machine->pinned);
    table_add_size(table, machine->orphaned);
    if (machine->orphaned > 0)
        table_mark(table, MARK_BAD);
    if (machine->leader > 0)
        table_add_number(table, machine->leader);
    else
        table_add_none(table);
}

int verb_machines(Iommuctl *ctl, char **arguments)
{
    g_autoptr(GPtrArray) machines = NULL;
    g_autoptr(Table) table = table_new();
    const char *tenant = arguments[0];
    int r = 0;

    if (tenant) {
        g_autofree char *path = NULL;

        r = find_tenant(ctl, tenant, &path);
    }
    if (r >= 0)
        r = rows_machines(ctl->bus, &ctl->error, &machines);
    if (r < 0)
        return r;
    table_add_column(table, "UUID", "uuid", TABLE_LEFT);
    table_add_column(table, "NAME", "name", TABLE_LEFT);
    table_add_column(table, "TENANT", "tenant", TABLE_LEFT);
    table_add_column(table, "STATE", "state", TABLE_LEFT);
    table_add_column(table, "RESERVED", "reserved_bytes", TABLE_RIGHT);
    table_add_column(table, "PINNED", "pinned_bytes", TABLE_RIGHT);
    table_add_column(table, "ORPHANED", "orphaned_bytes", TABLE_RIGHT);
    table_add_column(table, "LEADER", "leader", TABLE_RIGHT);
    for (unsigned i = 0; i < machines->len; i++) {
        const MachineRow *machine = machines->pdata[i];

        if (!tenant || strcmp(machine->tenant, tenant) == 0)
            add_machine(table, machine);
    }
    table_print(table, &ctl->output);
    return 0;
}

void add_figure_columns(Table *table)
{
    table_add_column(table, "Unique", "unique_bytes", TABLE_LEFT);
    table_add_column(table, "Mapped", "mapped_bytes", TABLE_LEFT);
    table_add_column(table, "Maps", "maps", TABLE_LEFT);
    table_add_column(table, "Unmaps", "unmaps", TABLE_LEFT);
    table_add_column(table, "Refused", "refusals", TABLE_LEFT);
}

void add_figures(Table *table, const Properties *properties)
{
    table_add_size(table, properties_number(properties, "UniqueBytes"));
    table_add_size(table, properties_number(properties, "MappedBytes"));
    table_add_number(table, (int64_t)properties_number(properties, "Maps"));
    table_add_number(table, (int64_t)properties_number(properties, "Unmaps"));
    table_add_number(table, (int64_t)properties_number(properties, "Refusals"));
}

static void print_machine(const Properties *machine, const Output *output)
{
    g_autoptr(Table) table = table_new();
    g_autofree char *tenant = bus_path_tenant(properties_string(machine, "Tenant"));
    const char *state = properties_string(machine, "State");
    uint64_t leader = properties_number(machine, "Leader");

    table_add_column(table, "Machine", "name", TABLE_LEFT);
    table_add_column(table, "UUID", "uuid", TABLE_LEFT);
    table_add_column(table, "Tenant", "tenant", TABLE_LEFT);
    table_add_column(table, "State", "state", TABLE_LEFT);
    table_add_column(table, "Leader", "leader", TABLE_LEFT);
    table_add_column(table, "IOMMUFD", "iommufd", TABLE_LEFT);
    table_add_column(table, "Reserved", "reserved_bytes", TABLE_LEFT);
    table_add_column(table, "Pinned", "pinned_bytes", TABLE_LEFT);
    table_add_column(table, "Peak", "peak_bytes", TABLE_LEFT);
    table_add_column(table, "Orphaned", "orphaned_bytes", TABLE_LEFT);
    add_figure_columns(table);
    table_add_column(table, "Devices", "devices", TABLE_LEFT);

    table_add_string(table, properties_string(machine, "Name"));
    table_add_string(table, properties_string(machine, "Uuid"));
    table_add_string(table, tenant ? tenant : "");
    table_add_string(table, state);
    table_mark(table, state_mark(state));
    if (leader > 0)
        table_add_number(table, (int64_t)leader);
    else
        table_add_none(table);
    table_add_bool(table, properties_number(machine, "Iommufd") != 0);
    table_add_size(table, properties_number(machine, "ReservedBytes"));
    table_add_size(table, properties_number(machine, "PinnedBytes"));
    table_add_size(table, properties_number(machine, "PeakBytes"));
    table_add_size(table, properties_number(machine, "OrphanedBytes"));
    if (properties_number(machine, "OrphanedBytes") > 0)
        table_mark(table, MARK_BAD);
    add_figures(table, machine);
    table_add_strings(table, properties_strings(machine, "Devices"));
    table_print_record(table, output);
}

int verb_machine_show(Iommuctl *ctl, char **arguments)
{
    g_autofree char *uuid = NULL;
    g_autofree char *path = NULL;
    g_autoptr(Properties) machine = NULL;
    int r = find_machine(ctl, arguments[0], &uuid);

    if (r < 0)
        return r;
    path = bus_machine_path(uuid);
    r = properties_get(ctl->bus, BUS_NAME, path, BUS_INTERFACE_MACHINE, CLIENT_TIMEOUT, &ctl->error,
                       &machine);
    if (r < 0)
        return r;
    print_machine(machine, &ctl->output);
    return 0;
}

int verb_machine_release(Iommuctl *ctl, char **arguments)
{
    g_autofree char *uuid = NULL;
    int r = find_machine(ctl, arguments[0], &uuid);

    if (r < 0)
        return r;
    return client_call(ctl->bus, BUS_PATH, BUS_INTERFACE_MANAGER, "ReleaseMachine",
                       CLIENT_TIMEOUT_REAP, &ctl->error, NULL, "ss", uuid,
                       "iommuctl machine release");
}
