/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Calls that are answered when a machine is gone: ReleaseMachine, and AdmitMachine of a machine
 * whose last run is still being reaped. A caller that leaves the bus is forgotten; one that has
 * waited for a minute is told so.
 */
#pragma once

#include "dbus/core/manager.h"

typedef struct PendingCalls PendingCalls;

/* Answers call, which is read from its beginning, or lets it wait again. */
typedef void (*PendingCallAnswer)(void *data, sd_bus_message *call);

/* From now on the manager's queue tells it which machines are gone. */
PendingCalls *pending_calls_new(Manager *manager);
/* Who waits is not answered. Accepts NULL. */
void pending_calls_free(PendingCalls *calls);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PendingCalls, pending_calls_free)

/* uuid canonical. 0 or negative errno. */
int pending_call_add(PendingCalls *calls, const char *uuid, sd_bus_message *call,
                     PendingCallAnswer answer, void *data);
