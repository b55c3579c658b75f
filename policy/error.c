/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policy/error.h"

#include <string.h>

#define QUOTE_MAX 128

G_DEFINE_QUARK(iommud - error, iommud_error)

char *error_quote(const char *text)
{
    if (!text)
        text = "";
    /* Cut first: a megabyte of somebody's text is not worth validating for a few words. */
    size_t length = strnlen(text, QUOTE_MAX * 4);
    g_autofree char *valid = g_utf8_make_valid(text, (gssize)length);
    g_autoptr(GString) quoted = g_string_new("\"");
    unsigned n = 0;
    const char *p = valid;
    for (; *p && n < QUOTE_MAX; p = g_utf8_next_char(p), n++) {
        gunichar c = g_utf8_get_char(p);
        g_string_append_unichar(quoted, g_unichar_iscntrl(c) ? '?' : c);
    }
    g_string_append(quoted, *p || text[length] ? "...\"" : "\"");
    return g_string_free(g_steal_pointer(&quoted), FALSE);
}
