/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/base/paths.h"

#include "dbus/base/names.h"

#include <glib.h>
#include <string.h>
#include <systemd/sd-bus.h>

/* In place; returns text. Each property of each machine is found by its path: a whole answer of
 * GetManagedObjects() takes a tenth longer with g_strdelimit(). */
static char *replace(char *text, char old, char new)
{
    for (char *c = text; *c; c++) {
        if (*c == old)
            *c = new;
    }
    return text;
}

char *bus_tenant_path(const char *id)
{
    char *path = NULL;
    if (sd_bus_path_encode(BUS_PATH_TENANT, id, &path) < 0)
        g_error("Out of memory");
    /* libsystemd allocates with malloc(), as GLib does. */
    return path;
}

char *bus_machine_path(const char *uuid)
{
    return replace(g_strconcat(BUS_PATH_MACHINE "/", uuid, NULL), '-', '_');
}

char *bus_device_path(const char *address)
{
    return replace(replace(g_strconcat(BUS_PATH_DEVICE "/", address, NULL), ':', '_'), '.', '_');
}

char *bus_path_tenant(const char *path)
{
    char *id = NULL;
    return sd_bus_path_decode(path, BUS_PATH_TENANT, &id) > 0 ? id : NULL;
}

/* The path's element below prefix, if there is exactly one. */
static char *path_element(const char *path, const char *prefix)
{
    size_t length = strlen(prefix);
    if (strncmp(path, prefix, length) != 0 || path[length] != '/')
        return NULL;
    const char *element = path + length + 1;
    return *element && !strchr(element, '/') ? g_strdup(element) : NULL;
}

char *bus_path_machine(const char *path)
{
    char *uuid = path_element(path, BUS_PATH_MACHINE);
    return uuid ? replace(uuid, '_', '-') : NULL;
}

char *bus_path_device(const char *path)
{
    char *address = path_element(path, BUS_PATH_DEVICE);
    if (!address)
        return NULL;
    char *function = strrchr(address, '_');
    replace(address, '_', ':');
    if (function)
        *function = '.';
    return address;
}
