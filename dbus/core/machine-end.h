/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From dead or released to gone. */
#pragma once

#include "dbus/core/machine.h"

/* Whether the leader of a running machine is alive. If it has died and the event loop has not
 * handled that yet, the machine is reaping afterwards. */
bool machine_check_alive(Machine *machine);
/* An admitted or running machine becomes a reaping one; the rest follows from the queue. */
void machine_reap(Machine *machine);
/* Nothing is left of it: gives back the charge and the devices, announces it, frees it, and queues
 * that it is gone. For the queue's handlers only. */
void machine_finish(Machine *machine);
/* The release of a machine, which is gone when the queue says so. MACHINE_EXISTS: it runs. */
gboolean machine_release(Machine *machine, const char *reason, GError **error);
