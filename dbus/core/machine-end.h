/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From admitted and never started, dead or released to gone. */
#pragma once

#include "dbus/core/machine.h"

/* Whether the leader of a running machine is alive. If it has died and the event loop has not
 * handled that yet, the machine is reaping afterwards. */
bool machine_check_alive(Machine *machine);
/* Whether no living process owns anything of an admitted machine: the one question that is asked
 * before what it was promised is given back. MACHINE_EXISTS: somebody does, or may. The machine is
 * running afterwards if its leader was found (it is adopted), else it stays as it is. */
gboolean machine_check_unowned(Machine *machine, GError **error);
/* Begins the time limit of an admission. What nobody owns by then becomes a reaping machine, for
 * the rest it begins anew. KERNEL_REFUSED. */
gboolean machine_start_clock(Machine *machine, GError **error);
/* Nothing is left of it: gives back the charge and the devices, announces it, frees it, and queues
 * that it is gone. For the queue's handlers only. */
void machine_finish(Machine *machine);
/* The release of a machine, which is gone when the queue says so. MACHINE_EXISTS: it runs, or a
 * living process owns something of it. */
gboolean machine_release(Machine *machine, const char *reason, GError **error);
