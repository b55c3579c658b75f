/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From admitted to running: who leads the machine. */
#pragma once

#include "dbus/core/machine.h"

/* Takes leader, also when it fails: it is watched from now on. Nothing when it is that already.
 * INVALID_ARGUMENT: it is not the machine's process; MACHINE_EXISTS: another one is already;
 * NO_SUCH_MACHINE: too late; KERNEL_REFUSED. */
gboolean machine_start(Machine *machine, PidRef leader, GError **error);

/* Who of the living has something of an admitted machine. Where the ledger does not know it nobody
 * can tell: OWNER_NONE. Then nothing of it is in an IOMMUFD that the reaper works on, and the end
 * of its admission takes nothing from a process. *ret_owner is set with OWNER_FOUND only. */
OwnerState machine_find_owner(const Machine *machine, PidRef *ret_owner);
/* The same as machine_start() with who was found, since StartMachine has not come. */
gboolean machine_adopt(Machine *machine, PidRef leader, GError **error);

/* Begins to watch the leader of a running machine. KERNEL_REFUSED. */
gboolean machine_watch_leader(Machine *machine, GError **error);
