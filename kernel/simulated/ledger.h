/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The simulated host's ledger and guard. */
#pragma once

#include "kernel/host/host.h"

/* As the members of HostOps. */
int simulated_ledger_load(Host *host, const LedgerOptions *options, LedgerStatus *ret_status);
int simulated_ledger_open(Host *host, const LedgerOptions *options, Ledger **ret_ledger);
int simulated_ledger_unload(Host *host, const char *folder);
