/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Processes by their cgroups. */
#pragma once

#include "kernel/ledger/maps.h"

/* Processes in the cgroup (inode number of its folder) and below are the machine; with LEDGER_RELAY
 * they are relays. Of several the nearest to a process counts. -E2BIG, -ENOMEM: no room. */
int ledger_add_cgroup(Ledger *ledger, uint64_t cgroup, uint32_t machine);
/* -ENOENT: it has no entry. */
int ledger_remove_cgroup(Ledger *ledger, uint64_t cgroup);
/* The scopes that an earlier service has added, of which the map tells: they go with their
 * machines, too. */
void ledger_find_scopes(Ledger *ledger);
/* The scope that systemd-machined has made for the process, if it has, is the machine's, with
 * helpers in it that the process did not fork. */
void ledger_add_scope(Ledger *ledger, uint32_t machine, pid_t pid);
void ledger_remove_scope(Ledger *ledger, uint32_t machine);
