/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Verbs about tenants. */
#include "dbus/iommuctl/iommuctl.h"

static Table *tenant_table(void)
{
    Table *table = table_new();

    table_add_column(table, "TENANT", "id", TABLE_LEFT);
    table_add_column(table, "LIMIT", "limit_bytes", TABLE_RIGHT);
    table_add_column(table, "RESERVED", "reserved_bytes", TABLE_RIGHT);
    table_add_column(table, "PINNED", "pinned_bytes", TABLE_RIGHT);
    table_add_column(table, "ORPHANED", "orphaned_bytes", TABLE_RIGHT);
    return table;
}

int verb_tenant_list(Iommuctl *ctl, char **arguments)
{
    g_autoptr(GPtrArray) tenants = NULL;
    g_autoptr(Table) table = tenant_table();
    int r = rows_tenants(ctl->bus, &ctl->error, &tenants);

    if (r < 0)
        return r;
    for (unsigned i = 0; i < tenants->len; i++) {
        const TenantRow *tenant = tenants->pdata[i];

        table_add_string(table, tenant->id);
        table_add_size(table, tenant->limit);
        table_add_size(table, tenant->reserved);
        table_add_size(table, tenant->pinned);
        table_add_size(table, tenant->orphaned);
        if (tenant->orphaned > 0)
            table_mark(table, MARK_BAD);
    }
    table_print(table, &ctl->output);
    return 0;
}

/* The UUIDs of machines by their paths. */
static char **machine_uuids(const char *const *paths)
{
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();

    for (; *paths; paths++) {
        g_autofree char *uuid = bus_path_machine(*paths);

        if (uuid)
            g_strv_builder_add(builder, uuid);
    }
    return g_strv_builder_end(builder);
}

static void print_tenant(const Properties *tenant, const Output *output)
{
    g_autoptr(Table) table = table_new();
    g_auto(GStrv) machines = machine_uuids(properties_strings(tenant, "Machines"));

    table_add_column(table, "Tenant", "id", TABLE_LEFT);
    table_add_column(table, "Limit", "limit_bytes", TABLE_LEFT);
    table_add_column(table, "Reserved", "reserved_bytes", TABLE_LEFT);
    table_add_column(table, "Pinned", "pinned_bytes", TABLE_LEFT);
    table_add_column(table, "Peak", "peak_bytes", TABLE_LEFT);
    table_add_column(table, "Orphaned", "orphaned_bytes", TABLE_LEFT);
    add_figure_columns(table);
    table_add_column(table, "Count", "count", TABLE_LEFT);
    table_add_column(table, "Isolation", "isolation", TABLE_LEFT);
    table_add_column(table, "Accounting", "accounting_mode", TABLE_LEFT);
    table_add_column(table, "Devices", "devices", TABLE_LEFT);
    table_add_column(table, "Machines", "machines", TABLE_LEFT);
    table_add_column(table, "Defined in", "source", TABLE_LEFT);

    table_add_string(table, properties_string(tenant, "Id"));
    table_add_size(table, properties_number(tenant, "LimitBytes"));
    table_add_size(table, properties_number(tenant, "ReservedBytes"));
    table_add_size(table, properties_number(tenant, "PinnedBytes"));
    table_add_size(table, properties_number(tenant, "PeakBytes"));
    table_add_size(table, properties_number(tenant, "OrphanedBytes"));
    if (properties_number(tenant, "OrphanedBytes") > 0)
        table_mark(table, MARK_BAD);
    add_figures(table, tenant);
    table_add_string(table, properties_string(tenant, "Count"));
    table_add_string(table, properties_string(tenant, "Isolation"));
    table_add_string(table, properties_string(tenant, "AccountingMode"));
    table_add_strings(table, properties_strings(tenant, "Devices"));
    table_add_strings(table, (const char *const *)machines);
    table_add_string(table, properties_string(tenant, "Source"));
    table_print_record(table, output);
}

int verb_tenant_show(Iommuctl *ctl, char **arguments)
{
    g_autofree char *path = NULL;
    g_autoptr(Properties) tenant = NULL;
    int r = find_tenant(ctl, arguments[0], &path);

    if (r >= 0)
        r = properties_get(ctl->bus, BUS_NAME, path, BUS_INTERFACE_TENANT, CLIENT_TIMEOUT,
                           &ctl->error, &tenant);
    if (r < 0)
        return r;
    print_tenant(tenant, &ctl->output);
    return 0;
}

static int append_devices(sd_bus_message *message, GPtrArray *patterns)
{
    int r = sd_bus_message_open_container(message, SD_BUS_TYPE_DICT_ENTRY, "sv");

    g_ptr_array_add(patterns, NULL);
    if (r >= 0)
        r = sd_bus_message_append(message, "s", "Devices");
    if (r >= 0)
        r = sd_bus_message_open_container(message, SD_BUS_TYPE_VARIANT, "as");
    if (r >= 0)
        r = sd_bus_message_append_strv(message, (char **)patterns->pdata);
    if (r >= 0)
        r = sd_bus_message_close_container(message);
    return r < 0 ? r : sd_bus_message_close_container(message);
}

/* The a{sv} of CreateTenant: only what was given, the rest is the service's default. */
static int append_options(sd_bus_message *message, const Iommuctl *ctl)
{
    int r = sd_bus_message_open_container(message, SD_BUS_TYPE_ARRAY, "{sv}");

    if (r >= 0 && (ctl->given & OPTION_LIMIT))
        r = sd_bus_message_append(message, "{sv}", "LimitBytes", "t", ctl->limit);
    if (r >= 0 && ctl->count)
        r = sd_bus_message_append(message, "{sv}", "Count", "s", ctl->count);
    if (r >= 0 && ctl->isolation)
        r = sd_bus_message_append(message, "{sv}", "Isolation", "s", ctl->isolation);
    if (r >= 0 && ctl->accounting)
        r = sd_bus_message_append(message, "{sv}", "AccountingMode", "s", ctl->accounting);
    if (r >= 0 && (ctl->given & OPTION_DEVICE))
        r = append_devices(message, ctl->devices);
    return r < 0 ? r : sd_bus_message_close_container(message);
}

int verb_tenant_create(Iommuctl *ctl, char **arguments)
{
    g_autoptr(sd_bus_message) message = NULL;
    int r = sd_bus_message_new_method_call(ctl->bus, &message, BUS_NAME, BUS_PATH,
                                           BUS_INTERFACE_MANAGER, "CreateTenant");

    if (r >= 0)
        r = sd_bus_message_append(message, "s", arguments[0]);
    if (r >= 0)
        r = append_options(message, ctl);
    if (r < 0)
        return r;
    return client_call_message(ctl->bus, message, CLIENT_TIMEOUT, &ctl->error, NULL);
}

int verb_tenant_delete(Iommuctl *ctl, char **arguments)
{
    return client_call(ctl->bus, BUS_PATH, BUS_INTERFACE_MANAGER, "DeleteTenant",
                       CLIENT_TIMEOUT_REAP, &ctl->error, NULL, "s", arguments[0]);
}

int verb_tenant_set_limit(Iommuctl *ctl, char **arguments)
{
    g_autofree char *path = NULL;
    uint64_t limit;
    int r = parse_size(ctl, arguments[1], &limit);

    if (r >= 0)
        r = find_tenant(ctl, arguments[0], &path);
    if (r < 0)
        return r;
    return client_call(ctl->bus, path, BUS_INTERFACE_TENANT, "SetLimit", CLIENT_TIMEOUT,
                       &ctl->error, NULL, "t", limit);
}
