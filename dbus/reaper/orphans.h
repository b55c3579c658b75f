/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What dead machines have left in an IOMMUFD, as the ledger knows it. An object may go when its
 * machine's leader is dead, or when the process that made it, and all that this one has forked, are
 * dead. What nobody is known to have made (it is older than the ledger) goes when no machine of the
 * tenant lives in the IOMMUFD. What the service has made for others (AllocateIoas) stays.
 *
 * DEVICE and ACCESS objects never go by hand: the kernel removes them with the VFIO descriptor. A
 * machine is reaped when the ledger has no object of it left, those included.
 */
#pragma once

#include "dbus/core/machine.h"
#include "dbus/reaper/destroy-job.h"

/* Adds all that may go. */
void orphans_choose(const Tenant *tenant, const LedgerObject *objects, size_t n, DestroyJob *job);
/* The set of the ledger's ids of machines of which something is left, DEVICE and ACCESS included.
 * To be freed with g_hash_table_unref(). */
GHashTable *orphans_owners(const LedgerObject *objects, size_t n);
/* Whether a machine of the tenant lives in the shared IOMMUFD, or is just starting. */
bool orphans_has_live(const Tenant *tenant);
