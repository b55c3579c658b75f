/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* All objects of the service on the bus: one file for each of their interfaces. */
#pragma once

#include "dbus/bus/bus.h"

/* Puts them on the bus: the last step before the name is requested. service stays where it is as
 * long as the bus. 0 or negative errno. */
int bus_register(Service *service);
