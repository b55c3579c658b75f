/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The tenant that a path names, for the two files that have its interface. */
#pragma once

#include "dbus/bus/bus.h"
#include "dbus/core/tenant.h"

/* NULL: there is none. */
static inline Tenant *bus_tenant_at(Service *service, const char *path)
{
    g_autofree char *id = bus_path_tenant(path);
    return id ? manager_find_tenant(service->manager, id) : NULL;
}

/* The tenant that a call is about, which is there: sd-bus has just asked. userdata: the Service. */
static inline Tenant *bus_tenant_of(sd_bus_message *message, void *userdata)
{
    return bus_tenant_at(userdata, sd_bus_message_get_path(message));
}
