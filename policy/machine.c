/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policy/machine.h"

#include "kernel/base/uuid.h"

#include <string.h>

#define NAME_BYTES_MAX 255

static const char *const states[] = {
    [MACHINE_ADMITTED] = "admitted",
    [MACHINE_RUNNING] = "running",
    [MACHINE_REAPING] = "reaping",
};
const EnumTable machine_state_table = ENUM_TABLE("the state of a machine", states);

char *machine_uuid_parse(const char *text, GError **error)
{
    char *uuid = uuid_canonicalize(text);
    if (uuid)
        return uuid;
    g_autofree char *quoted = error_quote(text);
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                "%s is not the UUID of a machine: write 32 hex digits, with or without dashes, "
                "such as 4dea22b3-1d52-d8f3-2516-782e98ab3fa0.",
                quoted);
    return NULL;
}

gboolean machine_name_check(const char *name, GError **error)
{
    size_t length = name ? strnlen(name, NAME_BYTES_MAX + 1) : 0;
    bool ok =
        length >= 1 && length <= NAME_BYTES_MAX && g_utf8_validate(name, (gssize)length, NULL);
    for (const char *p = name; ok && *p; p = g_utf8_next_char(p))
        ok = !g_unichar_iscntrl(g_utf8_get_char(p));
    if (ok)
        return TRUE;
    g_autofree char *quoted = error_quote(name);
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                "%s can't be the name of a machine: take 1 to 255 bytes of UTF-8 without control "
                "characters.",
                quoted);
    return FALSE;
}

void machine_policy_init(MachinePolicy *machine, const char *uuid, const char *name,
                         TenantPolicy *tenant, Charge *charge, GPtrArray *addresses)
{
    machine->uuid = g_strdup(uuid);
    machine->name = g_strdup(name);
    machine->tenant = tenant;
    machine->charge = charge;
    machine->devices = addresses;
}

void machine_policy_clear(MachinePolicy *machine)
{
    charge_free(machine->charge);
    g_ptr_array_unref(machine->devices);
    g_free(machine->name);
    g_free(machine->uuid);
}
