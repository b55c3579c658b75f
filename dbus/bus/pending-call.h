/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Calls that are answered when a machine is gone: ReleaseMachine, and AdmitMachine of a machine
 * whose last run is still being reaped. A caller that leaves the bus is forgotten; one that has
 * waited for a minute is told so.
 */
#pragma once

#include "dbus/core/manager.h"

typedef struct Waiting Waiting;

/* Answers call, which is read from its beginning. */
typedef void (*WaitingAnswer)(Manager *manager, sd_bus_message *call);

/* uuid canonical. 0 or negative errno. */
int waiting_add(Manager *manager, const char *uuid, sd_bus_message *call, WaitingAnswer answer);
/* The machine is gone: answers all that wait for it, in the order in which they came. */
void waiting_answer(Manager *manager, const char *uuid);
void waiting_free(Waiting *waiting);
