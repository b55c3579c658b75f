/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a verb has at hand. It returns 0, a negative errno (main prints one sentence made of it and
 * of the context's error, and exits with 1), or a positive exit status of its own when it has
 * printed why.
 */
#pragma once

#include "dbus/client/client.h"
#include "dbus/iommuctl/base/output.h"

/* The exit status of a mistake in writing the command. */
enum {
    EXIT_USAGE = 2,
};

typedef struct Options Options; /* dbus/iommuctl/options.h */

typedef struct {
    const Options *options;
    Output output;
    sd_bus *bus;   /* NULL in a verb that works without a bus, when there is none */
    int bus_error; /* why not, a negative errno */
    sd_bus_error error;
    bool usage; /* the error is the caller's mistake: EXIT_USAGE */
} Iommuctl;
