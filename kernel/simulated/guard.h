/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The simulated guard's rules, as kernel/bpf/guard.bpf.h has them: on a registered IOMMUFD a
 * process reaches only what is its own. Each says 0, or the negative errno with which the kernel
 * would refuse; a refusal is counted and reported. Without a ledger, or where it does not guard,
 * nothing is refused.
 */
#pragma once

#include "kernel/simulated/table.h"

/* A process that is of another tenant may not have the IOMMUFD. */
int sim_guard_receive(SimTable *table, const SimOwner *process);
/* VFIO_DEVICE_BIND_IOMMUFD: only a device that was admitted for it; which shows whose process it
 * is.
 */
int sim_guard_bind(SimTable *table, const SimOwner *process, const char *address);
/* VFIO_DEVICE_PCI_HOT_RESET, which resets what else is on its bus or slot: only of a device of its
 * own, and with no other machine's beside it. */
int sim_guard_reset(SimTable *table, const SimOwner *process, const char *address);
/* An ioctl of this number that names the object, if it is not 0. */
int sim_guard_ioctl(SimTable *table, const SimOwner *process, uint32_t command, uint32_t id);
/* That it makes so many objects: there may be no room for them. */
int sim_guard_make(SimTable *table, const SimOwner *process, uint32_t command, uint32_t n);
/* A mapping of the memory, which may be more than the tenant has left. */
int sim_guard_map(SimTable *table, const SimOwner *process, uint32_t command, uint64_t source,
                  uint64_t offset, uint64_t bytes);

/* Somebody sets the lock limit of the process: if it is a machine's, so much more is promised to
 * it, or nothing is done. -EDQUOT. */
int sim_guard_setrlimit(const SimOwner *process, uint64_t limit);

/* The key of a device in the ledger. 0: not a PCI address. */
uint64_t sim_guard_device_key(const char *address);
