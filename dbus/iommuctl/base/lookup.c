/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/iommuctl/base/lookup.h"

#include "dbus/iommuctl/base/failure.h"

#include <errno.h>

/* One of the Manager's methods that take a name and return a path. */
static int get_path(Iommuctl *ctl, const char *method, const char *name, char **ret_path)
{
    g_autoptr(sd_bus_message) reply = NULL;
    const char *path;
    int r = client_call(ctl->bus, BUS_PATH, BUS_INTERFACE_MANAGER, method, CLIENT_TIMEOUT,
                        &ctl->error, &reply, "s", name);
    if (r >= 0)
        r = sd_bus_message_read(reply, "o", &path);
    if (r < 0)
        return r;
    *ret_path = g_strdup(path);
    return 0;
}

int find_tenant(Iommuctl *ctl, const char *id, char **ret_path)
{
    return get_path(ctl, "GetTenant", id, ret_path);
}

int find_device(Iommuctl *ctl, const char *address, char **ret_path)
{
    return get_path(ctl, "GetDevice", address, ret_path);
}

int get_managed(Iommuctl *ctl, Managed *ret_managed)
{
    return managed_get(ctl->bus, &ctl->error, ret_managed);
}

int pick_tenant(Iommuctl *ctl, const Managed *managed, const char *id,
                const Properties **ret_tenant)
{
    *ret_tenant = managed_tenant(managed, id);
    if (!*ret_tenant)
        return fail(ctl, "There is no tenant '%s': 'iommuctl tenant list' lists those there are.",
                    id);
    return 0;
}

int pick_machine(Iommuctl *ctl, const Managed *managed, const char *text,
                 const Properties **ret_machine)
{
    int r = managed_find_machine(managed, text, ret_machine);
    if (r == -ENOTUNIQ)
        return fail(ctl,
                    "More than one machine is named '%s': name it by its UUID, which "
                    "'iommuctl machines' shows.",
                    text);
    if (r < 0)
        return fail(ctl, "There is no machine '%s': 'iommuctl machines' lists those there are.",
                    text);
    return 0;
}
