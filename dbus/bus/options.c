/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/bus/options.h"

#include "dbus/base/errors.h"
#include "policy/device.h"
#include "policy/machine.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

static int unknown_option(const char *key, const BusOption *options, sd_bus_error *ret_error)
{
    g_autofree char *quoted = error_quote(key);
    g_autoptr(GString) known = g_string_new(NULL);
    for (const BusOption *option = options; option->key; option++)
        g_string_append_printf(known, "%s%s", known->len > 0 ? ", " : "", option->key);
    return bus_error_invalid(ret_error, "There is no option %s: there are %s.", quoted, known->str);
}

/* -EINVAL: none of the words. */
static int read_enum(sd_bus_message *message, const EnumTable *values, unsigned *field)
{
    const char *text;
    int r = sd_bus_message_read(message, "s", &text);
    if (r < 0)
        return r;
    int value = enum_from_string(values, text);
    if (value < 0)
        return -EINVAL;
    *field = (unsigned)value;
    return 0;
}

static int read_bool(sd_bus_message *message, bool *field)
{
    int value;
    int r = sd_bus_message_read(message, "b", &value);
    if (r >= 0)
        *field = value;
    return r;
}

static int read_field(sd_bus_message *message, const BusOption *option, void *field)
{
    switch (option->type[0]) {
    case 't':
        return sd_bus_message_read(message, "t", field);
    case 'b':
        return read_bool(message, field);
    case 's':
        return read_enum(message, option->values, field);
    default:
        g_clear_pointer((char ***)field, g_strfreev);
        return bus_read_strings(message, field);
    }
}

/* Inside of the variant's place, before it is entered. */
static int read_value(sd_bus_message *message, const BusOption *option, void *target,
                      sd_bus_error *ret_error)
{
    const char *type;
    int r = sd_bus_message_peek_type(message, NULL, &type);
    if (r < 0)
        return r;
    g_autofree char *what =
        option->values ? enum_alternatives(option->values) : g_strdup(option->what);
    if (strcmp(type, option->type) != 0)
        return bus_error_invalid(ret_error, "The option %s is %s, of type %s, not of type %s.",
                                 option->key, what, option->type, type);
    r = sd_bus_message_enter_container(message, 'v', option->type);
    if (r >= 0)
        r = read_field(message, option, (char *)target + option->offset);
    if (r == -EINVAL)
        return bus_error_invalid(ret_error, "The option %s is %s, and nothing else.", option->key,
                                 what);
    return r < 0 ? r : sd_bus_message_exit_container(message);
}

static int read_entry(sd_bus_message *message, const BusOption *options, uint64_t *seen,
                      void *target, sd_bus_error *ret_error)
{
    const char *key;
    int r = sd_bus_message_read(message, "s", &key);
    if (r < 0)
        return r;
    unsigned i = 0;
    while (options[i].key && strcmp(options[i].key, key) != 0)
        i++;
    if (!options[i].key)
        return unknown_option(key, options, ret_error);
    if (*seen & (UINT64_C(1) << i))
        return bus_error_invalid(ret_error, "The option %s is given twice.", key);
    *seen |= UINT64_C(1) << i;
    return read_value(message, &options[i], target, ret_error);
}

int bus_options_read(sd_bus_message *message, const BusOption *options, void *target,
                     sd_bus_error *ret_error)
{
    uint64_t seen = 0;
    int r = sd_bus_message_enter_container(message, 'a', "{sv}");
    while (r >= 0 && (r = sd_bus_message_enter_container(message, 'e', "sv")) > 0) {
        r = read_entry(message, options, &seen, target, ret_error);
        if (r >= 0)
            r = sd_bus_message_exit_container(message);
    }
    return r < 0 ? r : sd_bus_message_exit_container(message);
}

int bus_read_strings(sd_bus_message *message, char ***ret_strings)
{
    GStrvBuilder *builder = g_strv_builder_new();
    const char *string;
    int r = sd_bus_message_enter_container(message, 'a', "s");
    while (r >= 0 && (r = sd_bus_message_read_basic(message, 's', &string)) > 0)
        g_strv_builder_add(builder, string);
    if (r >= 0)
        r = sd_bus_message_exit_container(message);
    char **strings = g_strv_builder_end(builder);
    g_strv_builder_unref(builder);
    if (r < 0)
        g_strfreev(strings);
    else
        *ret_strings = strings;
    return r;
}

int bus_read_devices(sd_bus_message *message, char ***ret_addresses, sd_bus_error *ret_error)
{
    g_auto(GStrv) given = NULL;
    g_autoptr(GError) error = NULL;
    int r = bus_read_strings(message, &given);
    if (r < 0)
        return r;
    *ret_addresses = device_addresses_parse((const char *const *)given, &error);
    return *ret_addresses ? 0 : bus_error_set(ret_error, error);
}

/* Reads "s" and parses it. */
static int read_name(sd_bus_message *message, char *(*parse)(const char *, GError **),
                     char **ret_name, sd_bus_error *ret_error)
{
    const char *text;
    g_autoptr(GError) error = NULL;
    int r = sd_bus_message_read(message, "s", &text);
    if (r < 0)
        return r;
    *ret_name = parse(text, &error);
    return *ret_name ? 0 : bus_error_set(ret_error, error);
}

int bus_read_device(sd_bus_message *message, char **ret_address, sd_bus_error *ret_error)
{
    return read_name(message, device_address_parse, ret_address, ret_error);
}

int bus_read_uuid(sd_bus_message *message, char **ret_uuid, sd_bus_error *ret_error)
{
    return read_name(message, machine_uuid_parse, ret_uuid, ret_error);
}
