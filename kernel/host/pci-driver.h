/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which driver has a PCI function. */
#pragma once

#include "kernel/host/host.h"

/*
 * As HostOps.device_bind() and HostOps.device_restore().
 *
 * -EINVAL: not a PCI address, not the name of a driver, or a bridge; -ENODEV: no such device, or
 * the driver does not know it; -ENOENT: no such driver is loaded; -EBUSY: a process has the device
 * open through VFIO. Else what the kernel answered.
 *
 * driver_override is for VFIO's drivers and pci-stub. Any other driver gets the device only if its
 * own table names it, by bind() as by restore(). A failure leaves the device with the driver and
 * the override that it had.
 *
 * The kernel unbinds a VFIO device that is in use by asking its user to give it up (QEMU takes it
 * from its guest) and waiting for that without end, so a device in use is refused here. The
 * unbinding of another driver lasts as long as that driver takes.
 */
int pci_driver_bind(Host *host, const char *address, const char *driver);
int pci_driver_restore(Host *host, const char *address, const char *driver);
