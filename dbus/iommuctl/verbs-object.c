/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is in a tenant's IOMMUFD, and whose it is. */
#include "dbus/iommuctl/iommuctl.h"
#include "policy/size.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

/* The machine that an object is of; NULL: of none that is still there. */
static const MachineRow *machine_of(const ObjectRow *object, GPtrArray *machines)
{
    const MachineRow *machine = NULL;

    if (!*object->machine || rows_find_machine(machines, object->machine, &machine) < 0)
        return NULL;
    return machine;
}

/* Whether who made it is dead. A machine lives as long as its leader, whichever of its processes
 * made the object. pid 0 is one that is not known. */
static bool is_orphan(const ObjectRow *object, const MachineRow *machine)
{
    if (machine)
        return strcmp(machine->state, "reaping") == 0;
    return object->pid > 0 && kill((pid_t)object->pid, 0) < 0 && errno == ESRCH;
}

static Table *object_table(void)
{
    Table *table = table_new();

    table_add_column(table, "ID", "id", TABLE_RIGHT);
    table_add_column(table, "TYPE", "type", TABLE_LEFT);
    table_add_column(table, "PINNED", "pinned_bytes", TABLE_RIGHT);
    table_add_column(table, "PID", "pid", TABLE_RIGHT);
    table_add_column(table, "MACHINE", "machine_name", TABLE_LEFT);
    table_add_column(table, "UUID", "machine", TABLE_LEFT);
    table_add_column(table, "ORPHAN", "orphan", TABLE_LEFT);
    return table;
}

static void add_object(Table *table, const ObjectRow *object, const MachineRow *machine,
                       bool orphan)
{
    table_add_number(table, object->id);
    table_add_string(table, object->type);
    table_add_size(table, object->pinned);
    if (object->pid > 0)
        table_add_number(table, object->pid);
    else
        table_add_string(table, "");
    table_add_string(table, machine ? machine->name : "");
    table_add_string(table, object->machine);
    table_add_bool(table, orphan);
    table_mark(table, orphan ? MARK_BAD : MARK_FAINT);
}

/* Fills the table, and counts what is orphaned. */
static void add_objects(Table *table, GPtrArray *objects, GPtrArray *machines, unsigned *ret_n,
                        uint64_t *ret_bytes)
{
    *ret_n = 0;
    *ret_bytes = 0;
    for (unsigned i = 0; i < objects->len; i++) {
        const ObjectRow *object = objects->pdata[i];
        const MachineRow *machine = machine_of(object, machines);
        bool orphan = is_orphan(object, machine);

        add_object(table, object, machine, orphan);
        *ret_n += orphan;
        *ret_bytes += orphan ? object->pinned : 0;
    }
}

int verb_objects(Iommuctl *ctl, char **arguments)
{
    g_autofree char *path = NULL;
    g_autofree char *size = NULL;
    g_autoptr(GPtrArray) objects = NULL;
    g_autoptr(GPtrArray) machines = NULL;
    g_autoptr(Table) table = object_table();
    unsigned n;
    uint64_t bytes;
    int r = find_tenant(ctl, arguments[0], &path);

    if (r >= 0)
        r = rows_objects(ctl->bus, path, &ctl->error, &objects);
    if (r >= 0)
        r = rows_machines(ctl->bus, &ctl->error, &machines);
    if (r < 0)
        return r;
    add_objects(table, objects, machines, &n, &bytes);
    table_print(table, &ctl->output);
    size = size_format(bytes);
    if (n > 0 && !ctl->quiet && ctl->output.json == JSON_OFF)
        fprintf(ctl->output.file,
                "\n%u of %u are orphans, with %s pinned: try 'iommuctl reap %s'.\n", n,
                objects->len, size, arguments[0]);
    return 0;
}

int verb_reap(Iommuctl *ctl, char **arguments)
{
    g_autofree char *path = NULL;
    g_autoptr(sd_bus_message) reply = NULL;
    g_autoptr(Table) table = table_new();
    uint32_t objects;
    uint64_t bytes;
    int r = find_tenant(ctl, arguments[0], &path);

    if (r >= 0)
        r = client_call(ctl->bus, path, BUS_INTERFACE_TENANT, "Reap", CLIENT_TIMEOUT_REAP,
                        &ctl->error, &reply, NULL);
    if (r >= 0)
        r = sd_bus_message_read(reply, "ut", &objects, &bytes);
    if (r < 0 || ctl->quiet)
        return r < 0 ? r : 0;
    table_add_column(table, "Objects destroyed", "objects", TABLE_LEFT);
    table_add_column(table, "Unpinned", "unpinned_bytes", TABLE_LEFT);
    table_add_number(table, objects);
    table_add_size(table, bytes);
    table_print_record(table, &ctl->output);
    return 0;
}
