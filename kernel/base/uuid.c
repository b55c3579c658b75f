/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/base/uuid.h"

#include <glib.h>
#include <string.h>

#define HEX_DIGITS 32

char *uuid_canonicalize(const char *text)
{
    size_t length = text ? strnlen(text, HEX_DIGITS + 5) : 0;
    g_autofree char *uuid = NULL;
    if (length == HEX_DIGITS)
        uuid = g_strdup_printf("%.8s-%.4s-%.4s-%.4s-%.12s", text, text + 8, text + 12, text + 16,
                               text + 20);
    else
        uuid = g_strndup(text, length);
    /* Wants the dashes, takes any case. */
    return uuid && g_uuid_string_is_valid(uuid) ? g_ascii_strdown(uuid, -1) : NULL;
}

bool uuid_is_canonical(const char *text)
{
    g_autofree char *uuid = uuid_canonicalize(text);
    return uuid && strcmp(text, uuid) == 0;
}
