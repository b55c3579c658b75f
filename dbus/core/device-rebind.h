/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Bind() and Restore() of a device. The driver that a device had before the first Bind() is written
 * down until Restore(). An unbind waits for whoever uses the device, without end if need be: it is
 * left to a worker of its own, so that a device in use never keeps the reaper from its work.
 */
#pragma once

#include "dbus/core/manager.h"

/* For method handlers, whose return value it is: call is answered when it is done. DeviceBusy: a
 * machine holds the device; GroupShared: it could not be given to a machine (vfio drivers only). */
int rebind_to(Manager *manager, const char *address, const char *driver, sd_bus_message *call,
              sd_bus_error *ret_error);
/* Back to the driver it had; the kernel chooses one where none was written down. */
int rebind_restore(Manager *manager, const char *address, sd_bus_message *call,
                   sd_bus_error *ret_error);
