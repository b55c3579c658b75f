/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who has what in the simulated ledger: what it sees of IOMMUFDs, and the sums of that. */
#pragma once

#include "kernel/simulated/ledger-store.h"

/* From now on it sees what happens in IOMMUFDs, and knows what it has seen in those that are there.
 */
void sim_account_begin(SimLedger *ledger);
void sim_account_end(void);

/* What the ledger knows of the IOMMUFD, a number included. */
SimKnownContext *sim_account_context(SimLedger *ledger, SimTable *table);
/* It is the tenant's from now on, with all that is mapped there. */
void sim_account_set_tenant(SimLedger *ledger, SimTable *table, uint32_t tenant);
/* A new limit, or another way to count. */
int sim_account_set_limit(SimLedger *ledger, uint32_t tenant, uint64_t limit,
                          LedgerCountMode count);

/* What the owner has in the context. NULL: there is no room to note it. */
SimUsage *sim_account_usage(SimLedger *ledger, const SimKnownContext *context, uint32_t owner);
/* The bytes that a mapping of this memory, by this machine of this tenant, would count. */
uint64_t sim_account_cost(SimLedger *ledger, const SimKnownRange *range);
/* What the owner has mapped before it was the machine counts as the machine's. */
void sim_account_join(SimLedger *ledger, uint32_t owner, uint32_t machine);

/* The ledger learns of these, or learns that they are gone. */
void sim_account_add_object(SimLedger *ledger, SimTable *table, uint32_t id, uint32_t owner);
void sim_account_remove_object(SimLedger *ledger, SimTable *table, uint32_t id);
void sim_account_add_range(SimLedger *ledger, SimTable *table, uint32_t record);
void sim_account_remove_range(SimLedger *ledger, SimTable *table, uint32_t record);
void sim_account_charge_range(SimLedger *ledger, SimTable *table, uint32_t record);

/* Closes what owners and contexts that are gone have had, once nothing is in it. */
void sim_account_close_idle(SimLedger *ledger);

/* Notices who has ended of those whose end nobody watches for, and watches them if it can. */
void sim_account_find_ended(SimLedger *ledger);
/* Notices who has ended. */
void sim_account_settle(SimLedger *ledger);
