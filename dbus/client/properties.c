/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/client/properties.h"

#include <string.h>

typedef struct {
    char *string;
    char **strings;
    uint64_t number;
} Value;

struct Properties {
    GHashTable *values; /* name -> Value, both owned */
};

static void value_free(void *data)
{
    Value *value = data;

    g_free(value->string);
    g_strfreev(value->strings);
    g_free(value);
}

static int read_strings(sd_bus_message *message, char type, Value *value)
{
    g_autoptr(GPtrArray) strings = g_ptr_array_new_with_free_func(g_free);
    const char contents[] = {type, '\0'};
    const char *text;
    int r = sd_bus_message_enter_container(message, SD_BUS_TYPE_ARRAY, contents);

    if (r < 0)
        return r;
    while ((r = sd_bus_message_read_basic(message, type, &text)) > 0)
        g_ptr_array_add(strings, g_strdup(text));
    if (r < 0)
        return r;
    g_ptr_array_add(strings, NULL);
    value->strings = (char **)g_ptr_array_steal(strings, NULL);
    return sd_bus_message_exit_container(message);
}

static int read_basic(sd_bus_message *message, char type, Value *value)
{
    /* sd-bus writes as many bytes as the type has, a boolean as an int. */
    union {
        const char *s;
        int b;
        uint16_t q;
        uint32_t u;
        int32_t i;
        uint64_t t;
    } basic = {.t = 0};
    int r = sd_bus_message_read_basic(message, type, &basic);

    if (r < 0)
        return r;
    switch (type) {
    case SD_BUS_TYPE_STRING:
    case SD_BUS_TYPE_OBJECT_PATH:
        value->string = g_strdup(basic.s);
        break;
    case SD_BUS_TYPE_BOOLEAN:
        value->number = basic.b != 0;
        break;
    case SD_BUS_TYPE_UINT16:
        value->number = basic.q;
        break;
    case SD_BUS_TYPE_UINT32:
        value->number = basic.u;
        break;
    case SD_BUS_TYPE_INT32:
        value->number = (uint64_t)(int64_t)basic.i;
        break;
    default:
        value->number = basic.t;
        break;
    }
    return 0;
}

/* Reads the variant at hand, or skips one of a type that is not known here. */
static int read_variant(sd_bus_message *message, Value **ret_value)
{
    const char *contents;
    Value *value;
    int r = sd_bus_message_peek_type(message, NULL, &contents);

    if (r < 0)
        return r;
    *ret_value = NULL;
    if (strcmp(contents, "as") != 0 && strcmp(contents, "ao") != 0 &&
        (contents[1] != '\0' || !strchr("sobquit", contents[0])))
        return sd_bus_message_skip(message, "v");
    r = sd_bus_message_enter_container(message, SD_BUS_TYPE_VARIANT, contents);
    if (r < 0)
        return r;
    value = g_new0(Value, 1);
    if (contents[0] == 'a')
        r = read_strings(message, contents[1], value);
    else
        r = read_basic(message, contents[0], value);
    if (r >= 0)
        r = sd_bus_message_exit_container(message);
    if (r < 0) {
        value_free(value);
        return r;
    }
    *ret_value = value;
    return 0;
}

int properties_read(sd_bus_message *message, Properties **ret_properties)
{
    g_autoptr(Properties) properties = g_new0(Properties, 1);
    int r;

    properties->values = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, value_free);
    r = sd_bus_message_enter_container(message, SD_BUS_TYPE_ARRAY, "{sv}");
    while (r >= 0 &&
           (r = sd_bus_message_enter_container(message, SD_BUS_TYPE_DICT_ENTRY, "sv")) > 0) {
        const char *name;
        Value *value = NULL;

        r = sd_bus_message_read_basic(message, SD_BUS_TYPE_STRING, &name);
        if (r >= 0)
            r = read_variant(message, &value);
        if (value)
            g_hash_table_insert(properties->values, g_strdup(name), value);
        if (r >= 0)
            r = sd_bus_message_exit_container(message);
    }
    if (r >= 0)
        r = sd_bus_message_exit_container(message);
    if (r < 0)
        return r;
    *ret_properties = g_steal_pointer(&properties);
    return 0;
}

int properties_get(sd_bus *bus, const char *name, const char *path, const char *interface,
                   uint64_t timeout_usec, sd_bus_error *error, Properties **ret_properties)
{
    g_autoptr(sd_bus_message) reply = NULL;
    int r = client_get_properties(bus, name, path, interface, timeout_usec, error, &reply);

    return r < 0 ? r : properties_read(reply, ret_properties);
}

void properties_free(Properties *properties)
{
    if (!properties)
        return;
    g_hash_table_destroy(properties->values);
    g_free(properties);
}

const char *properties_string(const Properties *properties, const char *name)
{
    const Value *value = g_hash_table_lookup(properties->values, name);

    return value && value->string ? value->string : "";
}

uint64_t properties_number(const Properties *properties, const char *name)
{
    const Value *value = g_hash_table_lookup(properties->values, name);

    return value ? value->number : 0;
}

const char *const *properties_strings(const Properties *properties, const char *name)
{
    static const char *const none[] = {NULL};
    const Value *value = g_hash_table_lookup(properties->values, name);

    return value && value->strings ? (const char *const *)value->strings : none;
}

bool properties_has(const Properties *properties, const char *name, const char *text)
{
    return g_strv_contains(properties_strings(properties, name), text);
}

bool properties_is_set(const Properties *properties, const char *name)
{
    return g_hash_table_contains(properties->values, name);
}

void properties_set_number(Properties *properties, const char *name, uint64_t number)
{
    Value *value = g_new0(Value, 1);
    value->number = number;
    g_hash_table_insert(properties->values, g_strdup(name), value);
}
