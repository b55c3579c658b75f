/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* PCI functions as sysfs shows them. root stands before /sys, "" for the real one. */
#pragma once

#include "kernel/host/host.h"

/* Sorts HostDevices by address. */
int pci_device_compare(const void *a, const void *b);

/* As HostOps.device() and HostOps.devices(). */
int pci_device_read(const char *root, const char *address, HostDevice *ret_device);
int pci_device_list(const char *root, HostDevice **ret_devices, size_t *ret_n);
