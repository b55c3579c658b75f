/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What everybody has pinned: by the ledger, and where it does not know by /proc. Reading changes
 * nothing. */
#pragma once

#include "dbus/core/machine.h"

/* Of a machine: pinned is what it has as long as it lives, orphaned what it has left. Without the
 * ledger only pinned, peak and unique are known. */
void machine_usage(const Machine *machine, Usage *ret_usage);
/* Of a tenant: pinned is all, orphaned what of it nobody alive has. */
void tenant_usage(const Tenant *tenant, Usage *ret_usage);
/* Of all tenants together: pinned and orphaned. */
void manager_usage(Manager *manager, Usage *ret_usage);

/* Bytes that its leader has pinned right now, whatever the ledger says; 0 when that can't be told.
 */
uint64_t machine_leader_pinned(const Machine *machine);
