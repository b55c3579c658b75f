/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/bus/machine-release.h"

#include "dbus/base/errors.h"
#include "dbus/core/machine-end.h"

static void answer(void *data, sd_bus_message *call)
{
    (void)sd_bus_reply_method_return(call, "");
}

int bus_release_machine(Service *service, Machine *machine, const char *reason,
                        sd_bus_message *call, sd_bus_error *ret_error)
{
    g_autoptr(GError) error = NULL;
    if (!machine_release(machine, reason, &error))
        return bus_error_set(ret_error, error);
    int r = pending_call_add(service->pending, machine_uuid(machine), call, answer, NULL);
    return r < 0 ? r : 1;
}
