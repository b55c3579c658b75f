/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Takes up what an earlier run of the service has left, by three sources: the records in
 * RUNTIME_DIR, the service manager's fd store, and the kernel, which has the last word. A leader
 * that died meanwhile is reaped at once; a descriptor that nothing knows is closed; an IOMMUFD that
 * the store has lost is taken back from a machine that holds it.
 */
#pragma once

#include "dbus/core/manager.h"
#include "dbus/state/fd-store.h"

/* After the configuration is there, before the bus. Takes the store, and has what nothing knows
 * removed from it. Logs. */
void restore(Manager *manager, FdStore *store);
