/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/iommuctl/verbs-object.h"

#include "dbus/iommuctl/base/lookup.h"
#include "dbus/iommuctl/base/table.h"
#include "policy/size.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

/* One row of ListObjects(). */
typedef struct {
    uint32_t id;
    const char *type;
    const char *machine; /* UUID or "" */
    uint32_t pid;        /* 0: not known */
    uint64_t pinned;
} Object;

/* What is orphaned of them. */
typedef struct {
    unsigned all;
    unsigned orphans;
    uint64_t orphaned;
} Objects;

/* Whether who made it is dead. A machine lives as long as its leader, whichever of its processes
 * made the object. machine NULL: it is of none that is still there. */
static bool is_orphan(const Object *object, const Properties *machine)
{
    if (machine)
        return strcmp(properties_string(machine, "State"), "reaping") == 0;
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

static void add_object(Table *table, const Object *object, const Managed *managed, Objects *objects)
{
    const Properties *machine = managed_machine(managed, object->machine);
    bool orphan = is_orphan(object, machine);
    table_add_number(table, object->id);
    table_add_string(table, object->type);
    table_add_size(table, object->pinned);
    if (object->pid > 0)
        table_add_number(table, object->pid);
    else
        table_add_string(table, "");
    table_add_string(table, machine ? properties_string(machine, "Name") : "");
    table_add_string(table, object->machine);
    table_add_bool(table, orphan);
    table_set_style(table, orphan ? STYLE_BAD : STYLE_FAINT);
    objects->all++;
    objects->orphans += orphan;
    objects->orphaned += orphan ? object->pinned : 0;
}

static int add_objects(Table *table, sd_bus_message *reply, const Managed *managed,
                       Objects *objects)
{
    Object object;
    int r = sd_bus_message_enter_container(reply, SD_BUS_TYPE_ARRAY, "(ussut)");
    while (r >= 0 && (r = sd_bus_message_read(reply, "(ussut)", &object.id, &object.type,
                                              &object.machine, &object.pid, &object.pinned)) > 0)
        add_object(table, &object, managed, objects);
    return r;
}

int verb_objects(Iommuctl *ctl, char **arguments)
{
    g_auto(Managed) managed = {0};
    g_autofree char *path = NULL;
    g_autoptr(sd_bus_message) reply = NULL;
    g_autoptr(Table) table = object_table();
    Objects objects = {0};
    int r = find_tenant(ctl, arguments[0], &path);
    if (r >= 0)
        r = client_call(ctl->bus, path, BUS_INTERFACE_TENANT, "ListObjects", CLIENT_TIMEOUT,
                        &ctl->error, &reply, NULL);
    if (r >= 0)
        r = get_managed(ctl, &managed);
    if (r >= 0)
        r = add_objects(table, reply, &managed, &objects);
    if (r < 0)
        return r;
    table_print(table, &ctl->output);
    if (objects.orphans == 0 || ctl->output.quiet || ctl->output.json != JSON_OFF)
        return 0;
    g_autofree char *size = size_format(objects.orphaned);
    fprintf(ctl->output.file, "\n%u of %u are orphans, with %s pinned: try 'iommuctl reap %s'.\n",
            objects.orphans, objects.all, size, arguments[0]);
    return 0;
}

int verb_reap(Iommuctl *ctl, char **arguments)
{
    g_autofree char *path = NULL;
    g_autoptr(sd_bus_message) reply = NULL;
    uint32_t objects;
    uint64_t bytes;
    int r = find_tenant(ctl, arguments[0], &path);
    if (r >= 0)
        r = client_call(ctl->bus, path, BUS_INTERFACE_TENANT, "Reap", CLIENT_TIMEOUT_REAP,
                        &ctl->error, &reply, NULL);
    if (r >= 0)
        r = sd_bus_message_read(reply, "ut", &objects, &bytes);
    if (r < 0 || ctl->output.quiet)
        return MIN(r, 0);
    g_autoptr(Table) table = table_new();
    table_add_column(table, "Objects destroyed", "objects", TABLE_LEFT);
    table_add_column(table, "Unpinned", "unpinned_bytes", TABLE_LEFT);
    table_add_number(table, objects);
    table_add_size(table, bytes);
    table_print_record(table, &ctl->output);
    return 0;
}
