/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From admitted to running: who leads the machine. */
#pragma once

#include "dbus/core/machine.h"

/* Takes leader, also when it fails: it is watched from now on. Nothing when it is that already.
 * INVALID_ARGUMENT: it is not the machine's process; MACHINE_EXISTS: another one is already;
 * NO_SUCH_MACHINE: too late; KERNEL_REFUSED. */
gboolean machine_start(Machine *machine, PidRef leader, GError **error);

/* The same with a leader that the ledger has told of: StartMachine has not come. */
gboolean machine_adopt(Machine *machine, PidRef leader, GError **error);

/* Begins to watch the leader of a running machine. KERNEL_REFUSED. */
gboolean machine_watch_leader(Machine *machine, GError **error);
