/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What dead machines have left, as the ledger knows it: every object has an owner, so nothing has
 * to be guessed (see reaper.h for how it is done without). An object may go when its machine is
 * being reaped, or when the process that made it, and all that this one has forked, are dead. What
 * nobody is known to have made (it is older than the ledger) goes when no machine of the tenant
 * lives.
 *
 * DEVICE and ACCESS objects never go by hand: the kernel removes them with the VFIO descriptor. A
 * machine is reaped when the ledger has no object of it left, those included.
 */
#pragma once

#include "dbus/accounting/accounting.h"
#include "dbus/reaper/destroy-job.h"

/* Whether the ledger is there to tell. */
bool leftovers_known(const TenantLife *life);
/* All that may go. alive: a machine of the tenant lives. */
Sweep *leftovers_choose(const TenantLife *life, bool alive, const LedgerObject *objects, size_t n);
/* Whether nothing of the machine is left. */
bool leftovers_is_reaped(const MachineLife *machine, const LedgerObject *objects, size_t n);
