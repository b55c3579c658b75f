/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading what clients send: a{sv} with a table of what may be in it, arrays of strings, and names
 * in any of their spellings. */
#pragma once

#include "dbus/base/sd-cleanup.h"
#include "kernel/base/enum-table.h"

#include <stddef.h>

/* A key, and the field of the target that it is for. The type says what the field is: "t" a
 * uint64_t, "b" a bool, "s" an enum with a table, "as" a char ** to be freed with g_strfreev(). */
typedef struct {
    const char *key; /* NULL ends the table */
    const char *type;
    const char *what; /* the value, for the message when it is wrong: "bytes". NULL with values */
    size_t offset;
    const EnumTable *values; /* of "s" */
} BusOption;

/* Reads a{sv} into target. InvalidArgument: an unknown key, a key given twice, a value of another
 * type or none of what it may be. 0 or negative errno. */
int bus_options_read(sd_bus_message *message, const BusOption *options, void *target,
                     sd_bus_error *ret_error);

/* Reads "as"; freed with g_strfreev(). 0 or negative errno. */
int bus_read_strings(sd_bus_message *message, char ***ret_strings);
/* Reads "as" of PCI addresses in any spelling, and makes them what device_addresses_parse()
 * says. InvalidArgument. */
int bus_read_devices(sd_bus_message *message, char ***ret_addresses, sd_bus_error *ret_error);
/* Reads "s", a PCI address in any spelling. Freed with g_free(). InvalidArgument. */
int bus_read_device(sd_bus_message *message, char **ret_address, sd_bus_error *ret_error);
/* Reads "s", a UUID in any spelling. Freed with g_free(). InvalidArgument. */
int bus_read_uuid(sd_bus_message *message, char **ret_uuid, sd_bus_error *ret_error);
