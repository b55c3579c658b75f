/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>

/* Connects to "system", "user", or a D-Bus address. *ret_bus is freed with
 * sd_bus_flush_close_unref(). 0 or a negative errno: -ENOENT and -ECONNREFUSED when nobody listens
 * there. */
int bus_connect(const char *address, sd_bus **ret_bus);
