/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The host's PCI functions, as the kernel has them in this turn of the event loop. */
#pragma once

#include "dbus/base/sd-cleanup.h"
#include "kernel/host/host.h"
#include "policy/error.h"

typedef struct HostDevices HostDevices;

HostDevices *host_devices_new(sd_event *event, Host *host);
/* Accepts NULL. */
void host_devices_free(HostDevices *devices);

/* All of them, by address. One scan serves all that is asked in one turn of the event loop:
 * GetManagedObjects() would scan for each property otherwise. Valid until control goes back to the
 * loop. KERNEL_REFUSED. */
gboolean host_devices_list(HostDevices *devices, const HostDevice **ret_list, size_t *ret_n,
                           GError **error);
/* One of them. NO_SUCH_DEVICE, INVALID_ARGUMENT. address in any spelling. */
const HostDevice *host_devices_find(HostDevices *devices, const char *address, GError **error);
/* Those on the bus of the device, which are beside each other in the list. KERNEL_REFUSED. address
 * canonical. */
gboolean host_devices_bus(HostDevices *devices, const char *address, const HostDevice **ret_list,
                          size_t *ret_n, GError **error);
/* The next of these functions scans again. */
void host_devices_forget(HostDevices *devices);
