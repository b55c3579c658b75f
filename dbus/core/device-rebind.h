/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Bind() and Restore() of a device. The driver that a device had before the first Bind() is written
 * down until Restore(). An unbind waits for whoever uses the device, without end if need be: it is
 * left to a worker of its own, so that a device in use never keeps the reaper from its work.
 */
#pragma once

#include "dbus/core/manager.h"

/* Called once, from the event loop. error: NULL, or NOT_SUPPORTED, DEVICE_BUSY, NO_SUCH_DEVICE,
 * KERNEL_REFUSED. */
typedef void (*DeviceRebindDone)(const GError *error, void *data);

/* FALSE: refused, done is not called. DEVICE_BUSY: a machine holds the device, or it is being
 * bound; GROUP_SHARED: it could not be given to a machine (VFIO's drivers only); INVALID_ARGUMENT:
 * not the name of a driver; NO_SUCH_DEVICE; KERNEL_REFUSED. address canonical. */
gboolean device_bind(Manager *manager, const char *address, const char *driver,
                     DeviceRebindDone done, void *data, GError **error);
/* Back to the driver it had; the kernel chooses one where none was written down. */
gboolean device_restore(Manager *manager, const char *address, DeviceRebindDone done, void *data,
                        GError **error);
