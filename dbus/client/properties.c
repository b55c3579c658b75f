/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/client/properties.h"

#include <string.h>

typedef struct {
    const char *name; /* in the message */
    union {
        const char *string;   /* in the message */
        const char **strings; /* the array is owned, what it holds is in the message */
        uint64_t number;
    };
    char type; /* of the union: 's', 'a' or 't' */
} Value;

struct Properties {
    sd_bus_message *message;
    GArray *values; /* of Value: so few that a search is quicker than a table */
};

static void value_clear(void *data)
{
    Value *value = data;
    if (value->type == SD_BUS_TYPE_ARRAY)
        g_free(value->strings);
}

static int read_strings(sd_bus_message *message, char type, Value *value)
{
    g_autoptr(GPtrArray) strings = g_ptr_array_new();
    const char contents[] = {type, '\0'};
    const char *text;
    int r = sd_bus_message_enter_container(message, SD_BUS_TYPE_ARRAY, contents);

    if (r < 0)
        return r;
    while ((r = sd_bus_message_read_basic(message, type, &text)) > 0)
        g_ptr_array_add(strings, (char *)text);
    if (r < 0)
        return r;
    g_ptr_array_add(strings, NULL);
    value->strings = (const char **)g_ptr_array_steal(strings, NULL);
    value->type = SD_BUS_TYPE_ARRAY;
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
    value->type = SD_BUS_TYPE_UINT64;
    switch (type) {
    case SD_BUS_TYPE_STRING:
    case SD_BUS_TYPE_OBJECT_PATH:
        value->type = SD_BUS_TYPE_STRING;
        value->string = basic.s;
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

/* Reads the variant at hand: > 0, or 0 for one of a type that is not known here. */
static int read_variant(sd_bus_message *message, Value *value)
{
    const char *contents;
    int r = sd_bus_message_peek_type(message, NULL, &contents);

    if (r < 0)
        return r;
    if (strcmp(contents, "as") != 0 && strcmp(contents, "ao") != 0 &&
        (contents[1] != '\0' || !strchr("sobquit", contents[0]))) {
        r = sd_bus_message_skip(message, "v");
        return MIN(r, 0);
    }
    r = sd_bus_message_enter_container(message, SD_BUS_TYPE_VARIANT, contents);
    if (r >= 0)
        r = contents[0] == 'a' ? read_strings(message, contents[1], value)
                               : read_basic(message, contents[0], value);
    if (r >= 0)
        r = sd_bus_message_exit_container(message);
    return r < 0 ? r : 1;
}

/* One {sv}: > 0, 0 at the end. */
static int read_property(sd_bus_message *message, GArray *values)
{
    Value value = {0};
    int r = sd_bus_message_enter_container(message, SD_BUS_TYPE_DICT_ENTRY, "sv");

    if (r <= 0)
        return r;
    r = sd_bus_message_read_basic(message, SD_BUS_TYPE_STRING, &value.name);
    if (r >= 0)
        r = read_variant(message, &value);
    if (r > 0)
        g_array_append_val(values, value);
    else
        value_clear(&value);
    return r < 0 ? r : sd_bus_message_exit_container(message);
}

int properties_read(sd_bus_message *message, Properties **ret_properties)
{
    g_autoptr(Properties) properties = g_new0(Properties, 1);
    int r;

    properties->message = sd_bus_message_ref(message);
    properties->values = g_array_sized_new(FALSE, FALSE, sizeof(Value), 24);
    g_array_set_clear_func(properties->values, value_clear);
    r = sd_bus_message_enter_container(message, SD_BUS_TYPE_ARRAY, "{sv}");
    while (r >= 0 && (r = read_property(message, properties->values)) > 0)
        ;
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
    g_array_unref(properties->values);
    sd_bus_message_unref(properties->message);
    g_free(properties);
}

/* type '\0': any. */
static Value *find_value(const Properties *properties, const char *name, char type)
{
    for (unsigned i = 0; i < properties->values->len; i++) {
        Value *value = &g_array_index(properties->values, Value, i);

        if (strcmp(value->name, name) == 0)
            return !type || value->type == type ? value : NULL;
    }
    return NULL;
}

const char *properties_string(const Properties *properties, const char *name)
{
    const Value *value = find_value(properties, name, SD_BUS_TYPE_STRING);

    return value ? value->string : "";
}

uint64_t properties_number(const Properties *properties, const char *name)
{
    const Value *value = find_value(properties, name, SD_BUS_TYPE_UINT64);

    return value ? value->number : 0;
}

const char *const *properties_strings(const Properties *properties, const char *name)
{
    static const char *const none[] = {NULL};
    const Value *value = find_value(properties, name, SD_BUS_TYPE_ARRAY);

    return value ? value->strings : none;
}

bool properties_has(const Properties *properties, const char *name, const char *text)
{
    return g_strv_contains(properties_strings(properties, name), text);
}

bool properties_is_set(const Properties *properties, const char *name)
{
    return find_value(properties, name, '\0') != NULL;
}

void properties_set_number(Properties *properties, const char *name, uint64_t number)
{
    const Value value = {.name = name, .number = number, .type = SD_BUS_TYPE_UINT64};
    Value *there = find_value(properties, name, '\0');

    if (there) {
        value_clear(there);
        *there = value;
    } else {
        g_array_append_val(properties->values, value);
    }
}
