/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who is who in the simulated ledger. An owner is a process from its first ioctl on, until nothing
 * of it is left. What it forks is another owner here: nobody sees it fork.
 */
#pragma once

#include "kernel/simulated/ledger-store.h"

/* The process's entry, unless it is about another process that had the same pid. */
SimProcess *sim_process(SimLedger *ledger, const SimOwner *process);
SimLedgerOwner *sim_owner(SimLedger *ledger, uint32_t owner);
/* The process's owner, made if there is none yet. SIM_OWNER_NONE: there is no room for it. */
uint32_t sim_owner_for(SimLedger *ledger, const SimOwner *process);
/* Forgets an owner of whom nothing is left and whom no machine names. */
void sim_owner_drop_if_idle(SimLedger *ledger, uint32_t owner);
/* Whether it has a process left. */
bool sim_owner_has_process(SimLedger *ledger, uint32_t owner);
uint32_t sim_owner_machine(SimLedger *ledger, uint32_t owner);
/* The same, if it is one of the tenant, from which its mappings there are taken. */
uint32_t sim_owner_machine_of(SimLedger *ledger, uint32_t owner, uint32_t tenant);

/* As the members of LedgerOps. */
int sim_name_role(SimLedger *ledger, const SimOwner *process, SimRole role);
int sim_name_client(SimLedger *ledger, const SimOwner *process, uint32_t tenant);
int sim_name_machine(SimLedger *ledger, const SimOwner *process, uint32_t machine, uint32_t tenant);
int sim_forget_machine(SimLedger *ledger, uint32_t machine);

/* The process has ended. */
void sim_process_end(SimLedger *ledger, pid_t pid);
/* Has it noticed when it ends, if there is a descriptor to spare. */
void sim_process_watch(SimLedger *ledger, pid_t pid);

/* Reports what happened, unless the owner has reported too much in this second. Adds who it was. */
void sim_report(SimLedger *ledger, const SimOwner *process, uint32_t owner, LedgerEvent *event);
