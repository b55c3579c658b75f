/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The host, its tenants, their machines and devices, as one tree. */
#include "dbus/iommuctl/iommuctl.h"
#include "dbus/iommuctl/json-text.h"
#include "dbus/client/managed-objects.h"
#include "policy/size.h"

#include <string.h>

/* Everything that the tree shows. */
typedef struct {
    Properties *manager;
    Managed figures; /* what the lists do not have */
    GPtrArray *tenants;
    GPtrArray *machines;
    GPtrArray *devices;
    char **chosen; /* ids of tenants; empty: all. Not owned */
    const Output *output;
    Table *table;
} Tree;

static void tree_clear(Tree *tree)
{
    properties_free(tree->manager);
    managed_clear(&tree->figures);
    g_clear_pointer(&tree->tenants, g_ptr_array_unref);
    g_clear_pointer(&tree->machines, g_ptr_array_unref);
    g_clear_pointer(&tree->devices, g_ptr_array_unref);
    table_free(tree->table);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Tree, tree_clear)

static int tree_load(Tree *tree, Iommuctl *ctl)
{
    int r = 0;

    for (char **id = tree->chosen; r >= 0 && *id; id++) {
        g_autofree char *path = NULL;

        r = find_tenant(ctl, *id, &path);
    }
    if (r >= 0)
        r = properties_get(ctl->bus, BUS_NAME, BUS_PATH, BUS_INTERFACE_MANAGER, CLIENT_TIMEOUT,
                           &ctl->error, &tree->manager);
    if (r >= 0)
        r = managed_get(ctl->bus, &ctl->error, &tree->figures);
    if (r >= 0)
        r = rows_tenants(ctl->bus, &ctl->error, &tree->tenants);
    if (r >= 0)
        r = rows_machines(ctl->bus, &ctl->error, &tree->machines);
    if (r >= 0)
        r = rows_devices(ctl->bus, &ctl->error, &tree->devices);
    return r;
}

/* ---- lines of the tree ---- */

static const char *branch(const Output *output, bool last)
{
    if (output->utf8)
        return last ? "└─ " : "├─ ";
    return last ? "`- " : "|- ";
}

/* What stands left of the children of a line. */
static const char *trunk(const Output *output, bool last)
{
    if (last)
        return "   ";
    return output->utf8 ? "│  " : "|  ";
}

static void add_name(Tree *tree, const char *prefix, const char *joint, const char *name)
{
    g_autofree char *text = g_strconcat(prefix, joint, name, NULL);

    table_add_string(tree->table, text);
}

static void add_orphaned(Tree *tree, uint64_t bytes)
{
    table_add_size(tree->table, bytes);
    table_mark(tree->table, bytes > 0 ? MARK_BAD : MARK_FAINT);
}

/* How many of its calls the guard has refused; one that came after the figures has none yet. */
static void add_refused(Tree *tree, GHashTable *figures, const char *path)
{
    const Properties *properties = path ? g_hash_table_lookup(figures, path) : NULL;

    if (properties)
        table_add_number(tree->table, (int64_t)properties_number(properties, "Refusals"));
    else
        table_add_none(tree->table);
}

/* A reservation above its limit: the limit was lowered after the promise. */
static void add_reserved(Tree *tree, uint64_t reserved, uint64_t limit)
{
    table_add_size(tree->table, reserved);
    if (reserved > limit)
        table_mark(tree->table, MARK_WARNING);
}

static void add_device(Tree *tree, const DeviceRow *device, const char *prefix, bool last)
{
    g_autofree char *details = g_strdup_printf("%s, driver %s", device->description,
                                               *device->driver ? device->driver : "none");

    add_name(tree, prefix, branch(tree->output, last), device->address);
    for (unsigned i = 0; i < 6; i++)
        table_add_none(tree->table);
    table_add_string(tree->table, details);
    table_mark(tree->table, MARK_FAINT);
}

static void add_machine_line(Tree *tree, const MachineRow *machine, const char *prefix,
                             const char *joint)
{
    g_autofree char *path = bus_machine_path(machine->uuid);

    add_name(tree, prefix, joint, machine->name);
    table_add_string(tree->table, machine->state);
    if (strcmp(machine->state, "running") == 0)
        table_mark(tree->table, MARK_GOOD);
    table_add_size(tree->table, machine->reserved);
    table_add_size(tree->table, machine->pinned);
    table_add_none(tree->table);
    add_orphaned(tree, machine->orphaned);
    add_refused(tree, tree->figures.machines, path);
    if (machine->leader > 0) {
        g_autofree char *process = g_strdup_printf("process %u", machine->leader);

        table_add_string(tree->table, process);
        table_mark(tree->table, MARK_FAINT);
    } else {
        table_add_none(tree->table);
    }
}

static void add_machine(Tree *tree, const MachineRow *machine, const char *prefix, bool last)
{
    g_autofree char *below = g_strconcat(prefix, trunk(tree->output, last), NULL);
    g_autoptr(GPtrArray) mine = g_ptr_array_new();

    add_machine_line(tree, machine, prefix, branch(tree->output, last));
    for (unsigned i = 0; i < tree->devices->len; i++) {
        DeviceRow *device = tree->devices->pdata[i];

        if (strcmp(device->machine, machine->uuid) == 0)
            g_ptr_array_add(mine, device);
    }
    for (unsigned i = 0; i < mine->len; i++)
        add_device(tree, mine->pdata[i], below, i + 1 == mine->len);
}

static void add_tenant(Tree *tree, const TenantRow *tenant, bool last)
{
    g_autoptr(GPtrArray) mine = g_ptr_array_new();
    g_autofree char *path = bus_tenant_path(tenant->id);

    add_name(tree, "", branch(tree->output, last), tenant->id);
    table_add_none(tree->table);
    add_reserved(tree, tenant->reserved, tenant->limit);
    table_add_size(tree->table, tenant->pinned);
    table_add_size(tree->table, tenant->limit);
    add_orphaned(tree, tenant->orphaned);
    add_refused(tree, tree->figures.tenants, path);
    table_add_none(tree->table);
    for (unsigned i = 0; i < tree->machines->len; i++) {
        MachineRow *machine = tree->machines->pdata[i];

        if (strcmp(machine->tenant, tenant->id) == 0)
            g_ptr_array_add(mine, machine);
    }
    for (unsigned i = 0; i < mine->len; i++)
        add_machine(tree, mine->pdata[i], trunk(tree->output, last), i + 1 == mine->len);
}

static void add_host(Tree *tree)
{
    uint64_t budget = properties_number(tree->manager, "HostBudgetBytes");

    add_name(tree, "", "", g_get_host_name());
    table_add_none(tree->table);
    add_reserved(tree, properties_number(tree->manager, "ReservedBytes"), budget);
    table_add_size(tree->table, properties_number(tree->manager, "PinnedBytes"));
    table_add_size(tree->table, budget);
    add_orphaned(tree, properties_number(tree->manager, "OrphanedBytes"));
    table_add_number(tree->table, (int64_t)managed_refusals(&tree->figures));
    if (properties_has(tree->manager, "Features", "simulated"))
        table_add_string(tree->table, "simulated");
    else
        table_add_none(tree->table);
}

static bool chosen(const Tree *tree, const char *id)
{
    return !*tree->chosen || g_strv_contains((const char *const *)tree->chosen, id);
}

static void tree_build(Tree *tree)
{
    g_autoptr(GPtrArray) shown = g_ptr_array_new();

    tree->table = table_new();
    table_add_column(tree->table, "HOST / TENANT / MACHINE / DEVICE", NULL, TABLE_LEFT);
    table_add_column(tree->table, "STATE", NULL, TABLE_LEFT);
    table_add_column(tree->table, "RESERVED", NULL, TABLE_RIGHT);
    table_add_column(tree->table, "PINNED", NULL, TABLE_RIGHT);
    table_add_column(tree->table, "LIMIT", NULL, TABLE_RIGHT);
    table_add_column(tree->table, "ORPHANED", NULL, TABLE_RIGHT);
    table_add_column(tree->table, "REFUSED", NULL, TABLE_RIGHT);
    table_add_column(tree->table, "", NULL, TABLE_LEFT);
    add_host(tree);
    for (unsigned i = 0; i < tree->tenants->len; i++) {
        TenantRow *tenant = tree->tenants->pdata[i];

        if (chosen(tree, tenant->id))
            g_ptr_array_add(shown, tenant);
    }
    for (unsigned i = 0; i < shown->len; i++)
        add_tenant(tree, shown->pdata[i], i + 1 == shown->len);
}

/* Without colours the tree alone does not catch the eye. */
static void print_orphans(const Tree *tree)
{
    for (unsigned i = 0; i < tree->tenants->len; i++) {
        const TenantRow *tenant = tree->tenants->pdata[i];
        g_autofree char *bytes = size_format(tenant->orphaned);

        if (tenant->orphaned == 0 || !chosen(tree, tenant->id))
            continue;
        fprintf(tree->output->file,
                "\n%s%s of tenant %s are pinned for no living process: try 'iommuctl reap %s'.%s\n",
                mark_begin(tree->output, MARK_BAD), bytes, tenant->id, tenant->id,
                mark_end(tree->output, MARK_BAD));
    }
}

/* ---- JSON: the service describes itself ---- */

static int print_description(Iommuctl *ctl)
{
    g_autoptr(sd_bus_message) reply = NULL;
    g_autofree char *laid_out = NULL;
    const char *text;
    int r = client_call(ctl->bus, BUS_PATH, BUS_INTERFACE_MANAGER, "Describe", CLIENT_TIMEOUT,
                        &ctl->error, &reply, NULL);

    if (r >= 0)
        r = sd_bus_message_read(reply, "s", &text);
    if (r < 0)
        return r;
    laid_out = json_text_layout(text, ctl->output.json == JSON_PRETTY);
    fprintf(ctl->output.file, "%s\n", laid_out);
    return 0;
}

int verb_status(Iommuctl *ctl, char **arguments)
{
    g_auto(Tree) tree = {.chosen = arguments, .output = &ctl->output};
    int r;

    if (ctl->output.json != JSON_OFF) {
        if (*arguments)
            return fail_usage(ctl, "'status --json' tells of the whole host: use 'tenant show "
                                   "TENANT --json' for one tenant.");
        return print_description(ctl);
    }
    r = tree_load(&tree, ctl);
    if (r < 0)
        return r;
    tree_build(&tree);
    table_print(tree.table, &ctl->output);
    if (!ctl->quiet)
        print_orphans(&tree);
    return 0;
}
