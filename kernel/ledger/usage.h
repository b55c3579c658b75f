/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading who has what. Members of LedgerOps. */
#pragma once

#include "kernel/ledger/maps.h"

int ledger_tenant_usage(Ledger *ledger, uint32_t tenant, LedgerTenantUsage *ret_usage);
int ledger_usage(Ledger *ledger, LedgerUsage **ret_usage, size_t *ret_n);
int ledger_objects(Ledger *ledger, uint32_t context, LedgerObject **ret_objects, size_t *ret_n);
int ledger_object(Ledger *ledger, uint32_t context, uint32_t id, LedgerObject *ret_object);
int ledger_counters(Ledger *ledger, LedgerCounters *ret_counters);
