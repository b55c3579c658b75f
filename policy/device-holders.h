/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which machine holds which device, by address and by bus. */
#pragma once

#include "policy/machine.h"

typedef struct DeviceHolders DeviceHolders;

DeviceHolders *device_holders_new(void);
/* Accepts NULL. */
void device_holders_free(DeviceHolders *holders);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DeviceHolders, device_holders_free)

/* Nobody holds the device yet. address is canonical, and is kept, not copied: the machine owns it.
 */
void device_holders_add(DeviceHolders *holders, const char *address, Machine *machine);
/* The same for all devices of the machine. */
void device_holders_add_machine(DeviceHolders *holders, Machine *machine);
/* Before the machine frees the address. One that nobody holds is removed already. */
void device_holders_remove(DeviceHolders *holders, const char *address);
void device_holders_remove_machine(DeviceHolders *holders, const Machine *machine);

/* NULL: nobody. address canonical. */
Machine *device_holders_find(const DeviceHolders *holders, const char *address);
/* The devices that are held on the bus of this canonical address, itself among them if it is held:
 * const char *, in no order, valid until a device changes hands. NULL: none. */
const GPtrArray *device_holders_on_bus(const DeviceHolders *holders, const char *address);
