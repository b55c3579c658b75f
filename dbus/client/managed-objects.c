/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/client/managed-objects.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void free_properties(void *data)
{
    properties_free(data);
}

/* The table that objects with this interface belong into; NULL: none. */
static GHashTable *table_for(const Managed *managed, const char *interface)
{
    if (strcmp(interface, BUS_INTERFACE_TENANT) == 0)
        return managed->tenants;
    if (strcmp(interface, BUS_INTERFACE_MACHINE) == 0)
        return managed->machines;
    return strcmp(interface, BUS_INTERFACE_DEVICE) == 0 ? managed->devices : NULL;
}

/* One {sa{sv}}: > 0, 0 at the end of an object's interfaces. */
static int read_interface(sd_bus_message *message, const char *path, Managed *managed)
{
    const char *interface;
    Properties *properties;
    GHashTable *table;
    int r = sd_bus_message_enter_container(message, SD_BUS_TYPE_DICT_ENTRY, "sa{sv}");

    if (r <= 0)
        return r;
    r = sd_bus_message_read_basic(message, SD_BUS_TYPE_STRING, &interface);
    if (r < 0)
        return r;
    table = table_for(managed, interface);
    if (table) {
        r = properties_read(message, &properties);
        if (r >= 0)
            g_hash_table_replace(table, g_strdup(path), properties);
    } else {
        r = sd_bus_message_skip(message, "a{sv}");
    }
    return r < 0 ? r : sd_bus_message_exit_container(message);
}

/* One {oa{sa{sv}}}: > 0, 0 at the end. */
static int read_object(sd_bus_message *message, Managed *managed)
{
    const char *path;
    int r = sd_bus_message_enter_container(message, SD_BUS_TYPE_DICT_ENTRY, "oa{sa{sv}}");

    if (r <= 0)
        return r;
    r = sd_bus_message_read_basic(message, SD_BUS_TYPE_OBJECT_PATH, &path);
    if (r >= 0)
        r = sd_bus_message_enter_container(message, SD_BUS_TYPE_ARRAY, "{sa{sv}}");
    while (r >= 0 && (r = read_interface(message, path, managed)) > 0)
        ;
    if (r >= 0)
        r = sd_bus_message_exit_container(message);
    return r < 0 ? r : sd_bus_message_exit_container(message);
}

int managed_get(sd_bus *bus, sd_bus_error *error, Managed *ret_managed)
{
    g_autoptr(sd_bus_message) reply = NULL;
    g_auto(Managed) managed = {
        .tenants = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, free_properties),
        .machines = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, free_properties),
        .devices = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, free_properties),
    };
    int r = client_call(bus, BUS_PATH, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects",
                        CLIENT_TIMEOUT, error, &reply, NULL);

    if (r >= 0)
        r = sd_bus_message_enter_container(reply, SD_BUS_TYPE_ARRAY, "{oa{sa{sv}}}");
    while (r >= 0 && (r = read_object(reply, &managed)) > 0)
        ;
    if (r < 0)
        return r;
    *ret_managed = managed;
    managed = (Managed){0};
    return 0;
}

void managed_clear(Managed *managed)
{
    g_clear_pointer(&managed->tenants, g_hash_table_unref);
    g_clear_pointer(&managed->machines, g_hash_table_unref);
    g_clear_pointer(&managed->devices, g_hash_table_unref);
}

/* ---- to look them up ---- */

typedef struct {
    const char *key;
    const char *path;
    Properties *properties;
} Entry;

static int entry_compare(const void *a, const void *b)
{
    const Entry *one = a;
    const Entry *other = b;
    int order = strcmp(one->key, other->key);
    return order != 0 ? order : strcmp(one->path, other->path);
}

GPtrArray *managed_sorted(GHashTable *objects, const char *property)
{
    unsigned n = g_hash_table_size(objects);
    g_autofree Entry *entries = g_new(Entry, n);
    GPtrArray *sorted = g_ptr_array_sized_new(n);
    GHashTableIter iter;
    void *path;
    void *properties;
    g_hash_table_iter_init(&iter, objects);
    for (unsigned i = 0; g_hash_table_iter_next(&iter, &path, &properties); i++)
        entries[i] = (Entry){properties_string(properties, property), path, properties};
    if (n > 0)
        qsort(entries, n, sizeof(Entry), entry_compare);
    for (unsigned i = 0; i < n; i++)
        g_ptr_array_add(sorted, entries[i].properties);
    return sorted;
}

uint64_t managed_sum(const Managed *managed, const char *property)
{
    GHashTableIter iter;
    void *tenant;
    uint64_t sum = 0;
    g_hash_table_iter_init(&iter, managed->tenants);
    while (g_hash_table_iter_next(&iter, NULL, &tenant))
        sum += properties_number(tenant, property);
    return sum;
}

const Properties *managed_tenant(const Managed *managed, const char *id)
{
    g_autofree char *path = bus_tenant_path(id);
    return g_hash_table_lookup(managed->tenants, path);
}

const Properties *managed_machine(const Managed *managed, const char *uuid)
{
    g_autofree char *path = bus_machine_path(uuid);
    return g_hash_table_lookup(managed->machines, path);
}

int managed_find_machine(const Managed *managed, const char *text, const Properties **ret_machine)
{
    g_autofree char *uuid = g_ascii_strdown(text, -1);
    const Properties *found = managed_machine(managed, uuid);
    GHashTableIter iter;
    void *machine;
    if (found) {
        *ret_machine = found;
        return 0;
    }
    g_hash_table_iter_init(&iter, managed->machines);
    while (g_hash_table_iter_next(&iter, NULL, &machine)) {
        if (strcmp(properties_string(machine, "Name"), text) != 0)
            continue;
        if (found)
            return -ENOTUNIQ;
        found = machine;
    }
    if (!found)
        return -ENXIO;
    *ret_machine = found;
    return 0;
}
