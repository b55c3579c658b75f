/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The release of a machine, which two interfaces have: ReleaseMachine and Release. */
#pragma once

#include "dbus/bus/bus.h"

/* For method handlers, whose return value it is: call is answered when nothing is left of the
 * machine. MachineExists: it runs. */
int bus_release_machine(Service *service, Machine *machine, const char *reason,
                        sd_bus_message *call, sd_bus_error *ret_error);
