/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The order of what LedgerOps lists, whoever lists it. For g_array_sort(). */
#pragma once

/* LedgerObject: by context and id. */
int ledger_object_compare(const void *a, const void *b);
/* LedgerUsage: by context and owner. */
int ledger_usage_compare(const void *a, const void *b);
