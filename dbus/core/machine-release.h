/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The release of a machine: ReleaseMachine of the manager, Release of the machine. */
#pragma once

#include "dbus/core/manager.h"

/* For method handlers, whose return value it is: call is answered when nothing is left of the
 * machine, which may be now. MachineExists: it runs. life may be gone afterwards. */
int machine_release(MachineLife *life, const char *reason, sd_bus_message *call,
                    sd_bus_error *ret_error);
