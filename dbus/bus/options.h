/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading what clients send: a{sv} with a table of what may be in it, and arrays of strings. */
#pragma once

#include "dbus/base/sd-cleanup.h"

typedef struct {
    const char *key; /* NULL ends the table */
    const char *type;
    const char *what; /* the value, for the message when it is wrong: "bytes" */
    /* Reads the value, of this type, into target. -EINVAL: it is none of what it may be. */
    int (*read)(sd_bus_message *message, void *target);
} BusOption;

/* Reads a{sv} into target. InvalidArgument: an unknown key, a key given twice, a value of another
 * type or none of what it may be. 0 or negative errno. */
int bus_options_read(sd_bus_message *message, const BusOption *options, void *target,
                     sd_bus_error *ret_error);

/* Reads "as"; freed with g_strfreev(). 0 or negative errno. */
int bus_read_strings(sd_bus_message *message, char ***ret_strings);
