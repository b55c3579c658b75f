/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/core/machine-release.h"

#include "dbus/base/errors.h"
#include "dbus/base/journal.h"
#include "dbus/core/machine.h"
#include "dbus/core/tenant.h"
#include "dbus/bus/pending-call.h"

static void answer(Manager *manager, sd_bus_message *call)
{
    (void)sd_bus_reply_method_return(call, "");
}

static int refuse_running(const MachineLife *life, sd_bus_error *ret_error)
{
    g_autoptr(GError) error =
        g_error_new(IOMMUD_ERROR, IOMMUD_ERROR_MACHINE_EXISTS,
                    "Machine %s (%s) still runs as process %d: stop it first; it is released when "
                    "its process is gone.",
                    life->machine->name, life->uuid, (int)life->machine->leader);
    return bus_error_set(ret_error, error);
}

int machine_release(MachineLife *life, const char *reason, sd_bus_message *call,
                    sd_bus_error *ret_error)
{
    Manager *manager = life->manager;
    g_autofree char *uuid = g_strdup(life->uuid);
    if (life->machine->state == MACHINE_RUNNING) {
        if (machine_life_check_alive(life))
            return refuse_running(life, ret_error);
        /* It died just now; if there was nothing to reap it is gone. */
        life = g_hash_table_lookup(manager->machines, uuid);
        if (!life)
            return sd_bus_reply_method_return(call, "");
    }
    int r = waiting_add(manager, uuid, call, answer);
    if (r < 0)
        return r;
    g_autofree char *quoted = error_quote(reason);
    journal_write(LOG_INFO, MESSAGE_MACHINE_RELEASED,
                  &(JournalAbout){.tenant = life->tenant->id, .machine = uuid},
                  "Machine %s (%s) of tenant %s is released: %s.", life->machine->name, uuid,
                  life->tenant->id, quoted);
    if (life->machine->state == MACHINE_ADMITTED)
        machine_life_reap(life);
    return 1;
}
