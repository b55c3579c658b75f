/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policy/device-holders.h"

#include <string.h>

struct DeviceHolders {
    GHashTable *devices; /* address -> Machine */
    GHashTable *buses;   /* "0000:01", owned -> GPtrArray of addresses, never empty */
};

DeviceHolders *device_holders_new(void)
{
    DeviceHolders *holders = g_new0(DeviceHolders, 1);
    holders->devices = g_hash_table_new(g_str_hash, g_str_equal);
    holders->buses =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_ptr_array_unref);
    return holders;
}

void device_holders_free(DeviceHolders *holders)
{
    if (!holders)
        return;
    g_hash_table_unref(holders->devices);
    g_hash_table_unref(holders->buses);
    g_free(holders);
}

static char *bus_of(const char *address)
{
    return g_strndup(address, (gsize)(strrchr(address, ':') - address));
}

void device_holders_add(DeviceHolders *holders, const char *address, Machine *machine)
{
    bool fresh = g_hash_table_insert(holders->devices, (gpointer)address, machine);
    g_assert(fresh);
    g_autofree char *bus = bus_of(address);
    GPtrArray *addresses = g_hash_table_lookup(holders->buses, bus);
    if (!addresses) {
        addresses = g_ptr_array_new();
        g_hash_table_insert(holders->buses, g_steal_pointer(&bus), addresses);
    }
    g_ptr_array_add(addresses, (gpointer)address);
}

void device_holders_add_machine(DeviceHolders *holders, Machine *machine)
{
    for (guint i = 0; i < machine->devices->len; i++)
        device_holders_add(holders, machine->devices->pdata[i], machine);
}

void device_holders_remove(DeviceHolders *holders, const char *address)
{
    g_autofree char *bus = bus_of(address);
    GPtrArray *addresses = g_hash_table_lookup(holders->buses, bus);
    guint at;
    if (!g_hash_table_remove(holders->devices, address))
        return;
    if (g_ptr_array_find_with_equal_func(addresses, address, g_str_equal, &at))
        g_ptr_array_remove_index_fast(addresses, at);
    if (addresses->len == 0)
        g_hash_table_remove(holders->buses, bus);
}

void device_holders_remove_machine(DeviceHolders *holders, const Machine *machine)
{
    for (guint i = 0; i < machine->devices->len; i++)
        device_holders_remove(holders, machine->devices->pdata[i]);
}

Machine *device_holders_find(const DeviceHolders *holders, const char *address)
{
    return g_hash_table_lookup(holders->devices, address);
}

const GPtrArray *device_holders_on_bus(const DeviceHolders *holders, const char *address)
{
    g_autofree char *bus = bus_of(address);
    return g_hash_table_lookup(holders->buses, bus);
}
