/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an earlier run of the service has left: machines, their leaders, IOMMUFDs. */
#pragma once

#include "dbus/core/manager.h"
#include "dbus/state/fd-store.h"

/* Takes up what can be, and tells the kernel who is who; what is lost is logged. What died
 * meanwhile is queued to be reaped. Tenants of the configuration are there by now, and nothing
 * else. */
void restore(Manager *manager, FdStore *store);
