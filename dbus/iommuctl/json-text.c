/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/iommuctl/json-text.h"

#include <glib.h>
#include <string.h>

static const char *skip_blanks(const char *p)
{
    return p + strspn(p, " \t\r\n");
}

static void new_line(GString *out, unsigned depth, bool pretty)
{
    if (!pretty)
        return;
    g_string_append_c(out, '\n');
    for (unsigned i = 0; i < depth; i++)
        g_string_append(out, "  ");
}

/* Copies the string that begins at p, with its quotes; returns what follows it. */
static const char *copy_string(GString *out, const char *p)
{
    const char *end = p + 1;

    while (*end && *end != '"') {
        if (*end == '\\' && end[1])
            end++;
        end++;
    }
    if (*end)
        end++;
    g_string_append_len(out, p, end - p);
    return end;
}

char *json_text_layout(const char *text, bool pretty)
{
    GString *out = g_string_new(NULL);
    unsigned depth = 0;

    for (const char *p = skip_blanks(text); *p; p = skip_blanks(p)) {
        if (*p == '"') {
            p = copy_string(out, p);
            continue;
        }
        if (strchr("]}", *p)) {
            depth = depth > 0 ? depth - 1 : 0;
            /* Nothing between the brackets: they stay together. */
            if (!strchr("[{", out->str[out->len > 0 ? out->len - 1 : 0]))
                new_line(out, depth, pretty);
        }
        g_string_append_c(out, *p);
        if (strchr("[{", *p)) {
            depth++;
            if (!strchr("]}", *skip_blanks(p + 1)))
                new_line(out, depth, pretty);
        } else if (*p == ',') {
            new_line(out, depth, pretty);
        } else if (*p == ':' && pretty) {
            g_string_append_c(out, ' ');
        }
        p++;
    }
    return g_string_free(out, FALSE);
}
