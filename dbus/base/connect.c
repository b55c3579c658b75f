/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/base/connect.h"

#include "dbus/base/sd-cleanup.h"

#include <stdbool.h>
#include <string.h>

static int connect_to(const char *address, sd_bus **ret_bus)
{
    g_autoptr(sd_bus) bus = NULL;
    int r = sd_bus_new(&bus);
    if (r >= 0)
        r = sd_bus_set_address(bus, address);
    if (r >= 0)
        r = sd_bus_set_bus_client(bus, true);
    if (r >= 0)
        r = sd_bus_start(bus);
    if (r >= 0)
        *ret_bus = g_steal_pointer(&bus);
    return r;
}

int bus_connect(const char *address, sd_bus **ret_bus)
{
    int r = strcmp(address, "system") == 0 ? sd_bus_open_system(ret_bus)
            : strcmp(address, "user") == 0 ? sd_bus_open_user(ret_bus)
                                           : connect_to(address, ret_bus);
    return r < 0 ? r : 0;
}
