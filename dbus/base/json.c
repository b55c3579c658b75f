/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/base/json.h"

#include <inttypes.h>

struct Json {
    GString *text;
    unsigned depth;
    bool pretty;
    bool empty; /* nothing was written since the innermost '{' or '[' */
};

Json *json_new(bool pretty)
{
    Json *json = g_new0(Json, 1);
    json->text = g_string_new(NULL);
    json->pretty = pretty;
    json->empty = true;
    return json;
}

void json_free(Json *json)
{
    if (!json)
        return;
    g_string_free(json->text, TRUE);
    g_free(json);
}

static void json_new_line(Json *json)
{
    if (!json->pretty)
        return;
    g_string_append_c(json->text, '\n');
    for (unsigned i = 0; i < json->depth; i++)
        g_string_append(json->text, "  ");
}

/* text is valid UTF-8. */
static void json_quote(Json *json, const char *text)
{
    g_string_append_c(json->text, '"');
    for (const char *c = text; *c; c++) {
        if (*c == '"' || *c == '\\') {
            g_string_append_c(json->text, '\\');
            g_string_append_c(json->text, *c);
        } else if (*c == '\n') {
            g_string_append(json->text, "\\n");
        } else if (*c == '\t') {
            g_string_append(json->text, "\\t");
        } else if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            g_string_append_printf(json->text, "\\u%04x", (unsigned)*c);
        } else {
            g_string_append_c(json->text, *c);
        }
    }
    g_string_append_c(json->text, '"');
}

/* What comes before every value: comma, new line, key. */
static void json_begin_value(Json *json, const char *key)
{
    if (!json->empty)
        g_string_append_c(json->text, ',');
    if (json->depth > 0)
        json_new_line(json);
    json->empty = false;
    if (key) {
        json_quote(json, key);
        g_string_append(json->text, json->pretty ? ": " : ":");
    }
}

static void json_open(Json *json, const char *key, char bracket)
{
    json_begin_value(json, key);
    g_string_append_c(json->text, bracket);
    json->depth++;
    json->empty = true;
}

static void json_close(Json *json, char bracket)
{
    g_assert_cmpuint(json->depth, >, 0);
    json->depth--;
    if (!json->empty)
        json_new_line(json);
    g_string_append_c(json->text, bracket);
    json->empty = false;
}

void json_open_object(Json *json, const char *key)
{
    json_open(json, key, '{');
}

void json_close_object(Json *json)
{
    json_close(json, '}');
}

void json_open_array(Json *json, const char *key)
{
    json_open(json, key, '[');
}

void json_close_array(Json *json)
{
    json_close(json, ']');
}

void json_string(Json *json, const char *key, const char *value)
{
    if (!value) {
        json_null(json, key);
        return;
    }
    g_autofree char *valid = g_utf8_make_valid(value, -1);
    json_begin_value(json, key);
    json_quote(json, valid);
}

void json_u64(Json *json, const char *key, uint64_t value)
{
    json_begin_value(json, key);
    g_string_append_printf(json->text, "%" PRIu64, value);
}

void json_i64(Json *json, const char *key, int64_t value)
{
    json_begin_value(json, key);
    g_string_append_printf(json->text, "%" PRId64, value);
}

void json_bool(Json *json, const char *key, bool value)
{
    json_begin_value(json, key);
    g_string_append(json->text, value ? "true" : "false");
}

void json_null(Json *json, const char *key)
{
    json_begin_value(json, key);
    g_string_append(json->text, "null");
}

void json_bytes(Json *json, const char *key, uint64_t value)
{
    if (value == UINT64_MAX)
        json_null(json, key);
    else
        json_u64(json, key, value);
}

void json_strings(Json *json, const char *key, const char *const *values)
{
    json_open_array(json, key);
    for (size_t i = 0; values && values[i]; i++)
        json_string(json, NULL, values[i]);
    json_close_array(json);
}

char *json_finish(Json *json)
{
    g_assert_cmpuint(json->depth, ==, 0);
    char *text = g_string_free(json->text, FALSE);
    json->text = g_string_new(NULL);
    json->empty = true;
    return text;
}
