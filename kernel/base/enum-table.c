/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/base/enum-table.h"

#include <glib.h>

const char *enum_to_string(const EnumTable *table, int value)
{
    g_assert(value >= 0 && value < table->n);
    return table->names[value];
}

int enum_from_string(const EnumTable *table, const char *text)
{
    for (int i = 0; i < table->n; i++) {
        if (g_strcmp0(table->names[i], text) == 0)
            return i;
    }
    return -1;
}

char *enum_alternatives(const EnumTable *table)
{
    GString *words = g_string_new(table->names[0]);
    for (int i = 1; i < table->n; i++)
        g_string_append_printf(words, "%s%s", i == table->n - 1 ? " or " : ", ", table->names[i]);
    return g_string_free(words, FALSE);
}
