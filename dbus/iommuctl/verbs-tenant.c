/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/iommuctl/verbs-tenant.h"

#include "dbus/iommuctl/base/figures.h"
#include "dbus/iommuctl/base/lookup.h"
#include "dbus/iommuctl/options.h"

static const FigureId list_view[] = {FIGURE_ID,     FIGURE_LIMIT,    FIGURE_RESERVED,
                                     FIGURE_PINNED, FIGURE_ORPHANED, FIGURES_END};

static const FigureId show_view[] = {
    FIGURE_ID,        FIGURE_LIMIT,    FIGURE_RESERVED,   FIGURE_PINNED,
    FIGURE_PEAK,      FIGURE_ORPHANED, FIGURE_UNIQUE,     FIGURE_MAPPED,
    FIGURE_MAPS,      FIGURE_UNMAPS,   FIGURE_REFUSALS,   FIGURE_COUNT,
    FIGURE_ISOLATION, FIGURE_SHARED,   FIGURE_ACCOUNTING, FIGURE_DEVICE_PATTERNS,
    FIGURE_DEVICES,   FIGURE_MACHINES, FIGURE_SOURCE,     FIGURES_END};

int verb_tenant_list(Iommuctl *ctl, char **arguments)
{
    g_auto(Managed) managed = {0};
    int r = get_managed(ctl, &managed);
    if (r < 0)
        return r;
    g_autoptr(GPtrArray) tenants = managed_sorted(managed.tenants, "Id");
    g_autoptr(Table) table = figures_list(list_view, FIGURES_LIST, tenants);
    table_print(table, &ctl->output);
    return 0;
}

int verb_tenant_show(Iommuctl *ctl, char **arguments)
{
    g_auto(Managed) managed = {0};
    const Properties *tenant;
    int r = get_managed(ctl, &managed);
    if (r >= 0)
        r = pick_tenant(ctl, &managed, arguments[0], &tenant);
    if (r < 0)
        return r;
    g_autoptr(Table) table = figures_record(show_view, tenant);
    table_print_record(table, &ctl->output);
    return 0;
}

static int append_devices(sd_bus_message *message, const GPtrArray *patterns)
{
    int r = sd_bus_message_open_container(message, SD_BUS_TYPE_DICT_ENTRY, "sv");
    if (r >= 0)
        r = sd_bus_message_append(message, "s", "Devices");
    if (r >= 0)
        r = sd_bus_message_open_container(message, SD_BUS_TYPE_VARIANT, "as");
    if (r >= 0)
        r = sd_bus_message_open_container(message, SD_BUS_TYPE_ARRAY, "s");
    for (unsigned i = 0; r >= 0 && i < patterns->len; i++)
        r = sd_bus_message_append(message, "s", patterns->pdata[i]);
    for (unsigned i = 0; r >= 0 && i < 3; i++)
        r = sd_bus_message_close_container(message);
    return r;
}

static int append_text(sd_bus_message *message, const char *key, const char *value)
{
    return value ? sd_bus_message_append(message, "{sv}", key, "s", value) : 0;
}

/* The a{sv} of CreateTenant: only what was given, the rest is the service's default. */
static int append_options(sd_bus_message *message, const Options *options)
{
    int r = sd_bus_message_open_container(message, SD_BUS_TYPE_ARRAY, "{sv}");
    if (r >= 0 && options->limit.given)
        r = sd_bus_message_append(message, "{sv}", "LimitBytes", "t", options->limit.value);
    if (r >= 0)
        r = append_text(message, "Count", options->count);
    if (r >= 0)
        r = append_text(message, "Isolation", options->isolation);
    if (r >= 0)
        r = append_text(message, "AccountingMode", options->accounting);
    if (r >= 0 && options->devices->len > 0)
        r = append_devices(message, options->devices);
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
        r = append_options(message, ctl->options);
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
