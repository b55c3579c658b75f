/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/iommuctl/verbs-machine.h"

#include "dbus/iommuctl/base/figures.h"
#include "dbus/iommuctl/base/lookup.h"

#include <string.h>

static const FigureId list_view[] = {FIGURE_UUID,     FIGURE_NAME,     FIGURE_TENANT,
                                     FIGURE_STATE,    FIGURE_RESERVED, FIGURE_PINNED,
                                     FIGURE_ORPHANED, FIGURE_LEADER,   FIGURES_END};

static const FigureId show_view[] = {
    FIGURE_NAME,     FIGURE_UUID,   FIGURE_TENANT,   FIGURE_STATE,    FIGURE_LEADER, FIGURE_IOMMUFD,
    FIGURE_RESERVED, FIGURE_PINNED, FIGURE_PEAK,     FIGURE_ORPHANED, FIGURE_UNIQUE, FIGURE_MAPPED,
    FIGURE_MAPS,     FIGURE_UNMAPS, FIGURE_REFUSALS, FIGURE_DEVICES,  FIGURES_END};

/* Machines in order; tenant NULL: all. */
static GPtrArray *machines_of(const Managed *managed, const char *tenant)
{
    g_autofree char *path = tenant ? bus_tenant_path(tenant) : NULL;
    g_autoptr(GPtrArray) all = managed_sorted(managed->machines, "Name");
    GPtrArray *machines = g_ptr_array_new();
    for (unsigned i = 0; i < all->len; i++) {
        if (!path || strcmp(properties_string(all->pdata[i], "Tenant"), path) == 0)
            g_ptr_array_add(machines, all->pdata[i]);
    }
    return machines;
}

int verb_machines(Iommuctl *ctl, char **arguments)
{
    g_auto(Managed) managed = {0};
    const Properties *tenant;
    int r = get_managed(ctl, &managed);
    if (r >= 0 && arguments[0])
        r = pick_tenant(ctl, &managed, arguments[0], &tenant);
    if (r < 0)
        return r;
    g_autoptr(GPtrArray) machines = machines_of(&managed, arguments[0]);
    g_autoptr(Table) table = figures_list(list_view, FIGURES_LIST, machines);
    table_print(table, &ctl->output);
    return 0;
}

int verb_machine_show(Iommuctl *ctl, char **arguments)
{
    g_auto(Managed) managed = {0};
    const Properties *machine;
    int r = get_managed(ctl, &managed);
    if (r >= 0)
        r = pick_machine(ctl, &managed, arguments[0], &machine);
    if (r < 0)
        return r;
    g_autoptr(Table) table = figures_record(show_view, machine);
    table_print_record(table, &ctl->output);
    return 0;
}

int verb_machine_release(Iommuctl *ctl, char **arguments)
{
    g_auto(Managed) managed = {0};
    const Properties *machine;
    int r = get_managed(ctl, &managed);
    if (r >= 0)
        r = pick_machine(ctl, &managed, arguments[0], &machine);
    if (r < 0)
        return r;
    return client_call(ctl->bus, BUS_PATH, BUS_INTERFACE_MANAGER, "ReleaseMachine",
                       CLIENT_TIMEOUT_REAP, &ctl->error, NULL, "ss",
                       properties_string(machine, "Uuid"), "iommuctl machine release");
}
