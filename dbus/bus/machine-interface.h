/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* org.iommud1.Machine */
#pragma once

#include "dbus/bus/bus.h"

/* Puts it on the bus. 0 or negative errno. */
int bus_machine_register(Service *service);
