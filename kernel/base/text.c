/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/base/text.h"

#include <glib.h>
#include <string.h>

/* A character of valid UTF-8 is at most so long. */
#define CHAR_BYTES_MAX 4

static bool can_be_seen(gunichar c)
{
    GUnicodeType type = g_unichar_type(c);
    return g_unichar_isprint(c) && type != G_UNICODE_LINE_SEPARATOR &&
           type != G_UNICODE_PARAGRAPH_SEPARATOR;
}

char *text_sanitize(const char *text, size_t max_chars, bool ascii)
{
    if (!text)
        text = "";
    /* Cut first: a megabyte of somebody's text is not worth validating for a few words. */
    size_t length = max_chars <= SIZE_MAX / CHAR_BYTES_MAX
                        ? strnlen(text, max_chars * CHAR_BYTES_MAX)
                        : strlen(text);
    g_autofree char *valid = g_utf8_make_valid(text, (gssize)length);
    GString *line = g_string_sized_new(length);
    size_t n = 0;
    const char *p = valid;
    for (; *p && n < max_chars; p = g_utf8_next_char(p), n++) {
        gunichar c = g_utf8_get_char(p);
        g_string_append_unichar(line, can_be_seen(c) && !(ascii && c > 0x7e) ? c : '?');
    }
    if (*p || text[length])
        g_string_append(line, "...");
    return g_string_free(line, FALSE);
}
