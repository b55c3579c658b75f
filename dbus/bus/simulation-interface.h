/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* org.iommud1.Simulation */
#pragma once

#include "dbus/bus/bus.h"

/* Puts it on the bus. 0 or negative errno. */
int bus_simulation_register(Service *service);
