/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Telling the kernel who is who, and what is whose. */
#pragma once

#include "kernel/ledger/maps.h"

/* The process is the service, or a relay, which may receive a guarded file to pass it on. -EINVAL:
 * no such role. */
int ledger_trust_process(Ledger *ledger, pid_t pid, uint64_t start, enum ledger_role role);

/* Members of LedgerOps. */
int ledger_register(Ledger *ledger, int fd, uint32_t tenant, unsigned flags, uint32_t *ret_context);
int ledger_set_limit(Ledger *ledger, uint32_t tenant, uint64_t bytes, LedgerCountMode count);
int ledger_remove_tenant(Ledger *ledger, uint32_t tenant);
int ledger_set_budget(Ledger *ledger, uint64_t bytes);
int ledger_name_process(Ledger *ledger, pid_t pid, uint64_t start, uint32_t machine,
                        uint32_t tenant);
