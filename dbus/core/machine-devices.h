/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The devices and the reservation of a machine that is there, and which of its devices it may reset
 * alone. */
#pragma once

#include "dbus/core/machine.h"

/* Lets a machine of that id for the ledger bind the devices, as far as the kernel's guard is
 * concerned. own: who holds them, or will, under the registry's eyes; NULL: nobody yet.
 * DEVICE_BUSY: another has claimed one in the kernel; KERNEL_REFUSED. addresses may be NULL. */
gboolean devices_admit(Manager *manager, const char *const *addresses, uint32_t tenant,
                       uint32_t machine, const MachinePolicy *own, GError **error);
/* Who has a device beside these may no longer reset their bus, or may again. addresses may be NULL.
 */
void devices_update_neighbours(Manager *manager, const char *const *addresses);
/* The same for one that holds its devices, and for who has devices beside those. */
gboolean machine_admit_devices(Machine *machine, GError **error);
/* The machine of that id may not bind them any more; who has a device beside them may reset their
 * bus again. addresses may be NULL. */
void devices_dismiss(Manager *manager, const char *const *addresses, uint32_t machine);

/* One more device. DEVICE_*, GROUP_SHARED, ... as registry_add_device(). KERNEL_REFUSED. */
gboolean machine_add_device(Machine *machine, const char *address, GError **error);
/* NO_SUCH_DEVICE, INVALID_ARGUMENT, KERNEL_REFUSED. */
gboolean machine_remove_device(Machine *machine, const char *address, GError **error);
/* LIMIT_EXCEEDED, HOST_BUDGET_EXCEEDED, KERNEL_REFUSED. */
gboolean machine_set_reservation(Machine *machine, uint64_t bytes, uint64_t unique_bytes,
                                 GError **error);

/* ---- what libvirt plugs in ---- */

/*
 * What is plugged into a running machine, and needs no other step. libvirt raises the lock limit
 * (RLIMIT_MEMLOCK) of the machine's process before it plugs anything in, by exactly what will be
 * pinned more; the kernel's account promises that, or refuses the limit, which libvirt takes back
 * (kernel/bpf/plug.bpf.h). The service follows: it takes over what was promised, and keeps the
 * limit a page below what libvirt has set, since libvirt does not ask where the limit is high
 * enough.
 */

/* Begins with it, for a machine that has just started, if it is one whose limit is followed. */
void machine_begin_plugs(Machine *machine);
/* Goes on with it after a restart. */
void machine_resume_plugs(Machine *machine);
/* The kernel has let its limit be raised. */
void machine_follow_plug(Machine *machine);
