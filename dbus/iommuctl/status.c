/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/iommuctl/status.h"

#include "dbus/iommuctl/base/failure.h"
#include "dbus/iommuctl/base/figures.h"
#include "dbus/iommuctl/base/lookup.h"
#include "policy/size.h"

#include <string.h>

static const FigureId tree_view[] = {FIGURE_STATE,    FIGURE_RESERVED, FIGURE_PINNED, FIGURE_LIMIT,
                                     FIGURE_ORPHANED, FIGURE_REFUSALS, FIGURES_END};

/* Of --json; what is nested follows. */
static const FigureId version_view[] = {FIGURE_VERSION, FIGURES_END};
static const FigureId host_view[] = {
    FIGURE_FEATURES,      FIGURE_MEMORY,       FIGURE_KERNEL_PINNED, FIGURE_BUDGET,
    FIGURE_RESERVED,      FIGURE_PINNED,       FIGURE_ORPHANED,      FIGURE_DEFAULT_TENANT,
    FIGURE_GUARD_STATE,   FIGURE_GUARD_REASON, FIGURE_LEDGER_STATE,  FIGURE_LEDGER_REASON,
    FIGURE_REQUIRE_GUARD, FIGURE_DRIFT,        FIGURE_UNTRACKED,     FIGURE_UNKNOWN_IOCTLS,
    FIGURES_END};
static const FigureId tenant_view[] = {
    FIGURE_ID,       FIGURE_LIMIT,           FIGURE_RESERVED,  FIGURE_PINNED, FIGURE_PEAK,
    FIGURE_ORPHANED, FIGURE_UNIQUE,          FIGURE_MAPPED,    FIGURE_MAPS,   FIGURE_UNMAPS,
    FIGURE_REFUSALS, FIGURE_COUNT,           FIGURE_ISOLATION, FIGURE_SHARED, FIGURE_ACCOUNTING,
    FIGURE_SOURCE,   FIGURE_DEVICE_PATTERNS, FIGURES_END};
static const FigureId machine_view[] = {
    FIGURE_UUID,   FIGURE_NAME,     FIGURE_STATE,   FIGURE_LEADER, FIGURE_IOMMUFD, FIGURE_RESERVED,
    FIGURE_PINNED, FIGURE_ORPHANED, FIGURE_PEAK,    FIGURE_UNIQUE, FIGURE_MAPPED,  FIGURE_MAPS,
    FIGURE_UNMAPS, FIGURE_REFUSALS, FIGURE_DEVICES, FIGURES_END};
static const FigureId device_view[] = {
    FIGURE_ADDRESS,    FIGURE_VENDOR, FIGURE_PRODUCT, FIGURE_CLASS,  FIGURE_BRIDGE,
    FIGURE_GROUP,      FIGURE_DRIVER, FIGURE_CDEV,    FIGURE_TENANT, FIGURE_MACHINE,
    FIGURE_ASSIGNABLE, FIGURE_REASON, FIGURES_END};

/* What the host, its tenants, machines and devices are at one moment. */
typedef struct {
    Managed managed;
    Properties *host;     /* what is configured, with the sums of what its tenants have */
    GPtrArray *tenants;   /* Properties, in order; not owned */
    GHashTable *machines; /* the path of a tenant -> GPtrArray of its machines, in order */
    GHashTable *devices;  /* the UUID of a machine -> GPtrArray of its devices, in order */
} Status;

static void status_clear(Status *status)
{
    g_clear_pointer(&status->devices, g_hash_table_unref);
    g_clear_pointer(&status->machines, g_hash_table_unref);
    g_clear_pointer(&status->tenants, g_ptr_array_unref);
    properties_free(status->host);
    managed_clear(&status->managed);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Status, status_clear)

static void free_array(void *array)
{
    g_ptr_array_unref(array);
}

/* Objects in the order of one property, by the value of another. */
static GHashTable *group_by(GHashTable *objects, const char *property, const char *order)
{
    g_autoptr(GPtrArray) sorted = managed_sorted(objects, order);
    GHashTable *groups = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, free_array);
    for (unsigned i = 0; i < sorted->len; i++) {
        Properties *object = sorted->pdata[i];
        const char *key = properties_string(object, property);
        GPtrArray *group = g_hash_table_lookup(groups, key);
        if (!group) {
            group = g_ptr_array_new();
            g_hash_table_insert(groups, (void *)key, group);
        }
        g_ptr_array_add(group, object);
    }
    return groups;
}

/* The host's sums are made here, of the same answer as the rest, so that they fit it. */
static void sum_up(Status *status)
{
    static const char *const sums[] = {"ReservedBytes", "PinnedBytes", "OrphanedBytes", "Refusals"};
    for (size_t i = 0; i < G_N_ELEMENTS(sums); i++)
        properties_set_number(status->host, sums[i], managed_sum(&status->managed, sums[i]));
    properties_set_number(status->host, "LimitBytes", figure_number(FIGURE_BUDGET, status->host));
}

static int status_load(Status *status, Iommuctl *ctl)
{
    int r = properties_get(ctl->bus, BUS_NAME, BUS_PATH, BUS_INTERFACE_MANAGER, CLIENT_TIMEOUT,
                           &ctl->error, &status->host);
    if (r >= 0)
        r = get_managed(ctl, &status->managed);
    if (r < 0)
        return r;
    status->tenants = managed_sorted(status->managed.tenants, "Id");
    status->machines = group_by(status->managed.machines, "Tenant", "Name");
    status->devices = group_by(status->managed.devices, "Machine", "Address");
    sum_up(status);
    return 0;
}

static const GPtrArray *machines_of(const Status *status, const Properties *tenant)
{
    g_autofree char *path = bus_tenant_path(properties_string(tenant, "Id"));
    return g_hash_table_lookup(status->machines, path);
}

/* ---- the tree ---- */

static size_t add_row(Table *table, const char *name, const Properties *object, const char *remark)
{
    size_t row = table_rows(table);
    table_add_string(table, name);
    figures_add_cells(table, tree_view, object);
    if (remark)
        table_add_string(table, remark);
    else
        table_add_none(table);
    table_set_style(table, STYLE_FAINT);
    return row;
}

static void add_device(Table *table, size_t machine, const Properties *device)
{
    const char *driver = properties_string(device, "Driver");
    g_autofree char *identity = device_identity(device);
    g_autofree char *remark = g_strdup_printf("%s, driver %s", identity, *driver ? driver : "none");
    table_set_parent(table, machine);
    add_row(table, properties_string(device, "Address"), device, remark);
}

static void add_machine(Table *table, size_t tenant, const Status *status,
                        const Properties *machine)
{
    const GPtrArray *devices =
        g_hash_table_lookup(status->devices, properties_string(machine, "Uuid"));
    uint64_t leader = figure_number(FIGURE_LEADER, machine);
    g_autofree char *remark =
        leader > 0 ? g_strdup_printf("process %" G_GUINT64_FORMAT, leader) : NULL;
    table_set_parent(table, tenant);
    size_t row = add_row(table, properties_string(machine, "Name"), machine, remark);
    for (unsigned i = 0; devices && i < devices->len; i++)
        add_device(table, row, devices->pdata[i]);
}

static void add_tenant(Table *table, size_t host, const Status *status, const Properties *tenant)
{
    const GPtrArray *machines = machines_of(status, tenant);
    table_set_parent(table, host);
    size_t row = add_row(table, properties_string(tenant, "Id"), tenant, NULL);
    for (unsigned i = 0; machines && i < machines->len; i++)
        add_machine(table, row, status, machines->pdata[i]);
}

/* ids: of tenants; empty: all. */
static bool is_chosen(const Properties *tenant, char **ids)
{
    return !*ids || g_strv_contains((const char *const *)ids, properties_string(tenant, "Id"));
}

static void print_tree(const Status *status, char **ids, const Output *output)
{
    g_autoptr(Table) table = table_new();
    const char *remark = properties_has(status->host, "Features", "simulated") ? "simulated" : NULL;
    table_add_column(table, "HOST / TENANT / MACHINE / DEVICE", NULL, TABLE_TREE);
    figures_add_columns(table, tree_view, FIGURES_LIST);
    table_add_column(table, "", NULL, TABLE_LEFT);
    size_t host = add_row(table, g_get_host_name(), status->host, remark);
    for (unsigned i = 0; i < status->tenants->len; i++) {
        if (is_chosen(status->tenants->pdata[i], ids))
            add_tenant(table, host, status, status->tenants->pdata[i]);
    }
    table_print(table, output);
}

/* Without colours the tree alone does not catch the eye. */
static void print_orphans(const Status *status, char **ids, const Output *output)
{
    for (unsigned i = 0; i < status->tenants->len; i++) {
        const Properties *tenant = status->tenants->pdata[i];
        const char *id = properties_string(tenant, "Id");
        uint64_t orphaned = figure_number(FIGURE_ORPHANED, tenant);
        if (orphaned == 0 || !is_chosen(tenant, ids))
            continue;
        g_autofree char *bytes = size_format(orphaned);
        fprintf(output->file,
                "\n%s%s of tenant %s are pinned for no living process: try 'iommuctl reap %s'.%s\n",
                style_begin(output, STYLE_BAD), bytes, id, id, style_end(output, STYLE_BAD));
    }
}

/* ---- JSON ---- */

static Table *tenants_table(const Status *status)
{
    Table *table = table_new();
    g_autoptr(GPtrArray) none = g_ptr_array_new();
    figures_add_columns(table, tenant_view, FIGURES_JSON);
    table_add_column(table, NULL, "machines", TABLE_LEFT);
    for (unsigned i = 0; i < status->tenants->len; i++) {
        const Properties *tenant = status->tenants->pdata[i];
        const GPtrArray *machines = machines_of(status, tenant);
        figures_add_cells(table, tenant_view, tenant);
        table_add_table(table,
                        figures_list(machine_view, FIGURES_JSON, machines ? machines : none));
    }
    return table;
}

static void print_json(const Status *status, const Output *output)
{
    g_autoptr(GPtrArray) devices = managed_sorted(status->managed.devices, "Address");
    g_autoptr(Table) table = table_new();
    figures_add_columns(table, version_view, FIGURES_JSON);
    table_add_column(table, NULL, "host", TABLE_LEFT);
    table_add_column(table, NULL, "tenants", TABLE_LEFT);
    table_add_column(table, NULL, "devices", TABLE_LEFT);
    figures_add_cells(table, version_view, status->host);
    table_add_record(table, figures_record(host_view, status->host));
    table_add_table(table, tenants_table(status));
    table_add_table(table, figures_list(device_view, FIGURES_JSON, devices));
    table_print_record(table, output);
}

/* ---- the verb ---- */

static int check_tenants(Iommuctl *ctl, const Status *status, char **ids)
{
    const Properties *tenant;
    int r = 0;
    for (; r >= 0 && *ids; ids++)
        r = pick_tenant(ctl, &status->managed, *ids, &tenant);
    return r;
}

int verb_status(Iommuctl *ctl, char **arguments)
{
    g_auto(Status) status = {0};
    if (ctl->output.json != JSON_OFF && *arguments)
        return fail_usage(ctl, "'status --json' tells of the whole host: use 'tenant show TENANT "
                               "--json' for one tenant.");
    int r = status_load(&status, ctl);
    if (r >= 0)
        r = check_tenants(ctl, &status, arguments);
    if (r < 0)
        return r;
    if (ctl->output.json != JSON_OFF) {
        print_json(&status, &ctl->output);
        return 0;
    }
    print_tree(&status, arguments, &ctl->output);
    if (!ctl->output.quiet)
        print_orphans(&status, arguments, &ctl->output);
    return 0;
}
