/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* PCI functions as sysfs shows them. */
#pragma once

#include "kernel/host/host.h"

/* Sorts HostDevices by address. */
int pci_device_compare(const void *a, const void *b);

/* One of them. root stands before /sys, "" for the real one. -ENODEV: no such device; -EINVAL: not
 * a PCI address. */
int pci_device_read(const char *root, const char *address, HostDevice *ret_device);
/* As HostOps.devices(). */
int pci_devices(Host *host, HostDevice **ret_devices, size_t *ret_n);
