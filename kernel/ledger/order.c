/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/ledger/order.h"

#include "kernel/ledger/ledger.h"

static int compare(uint32_t a, uint32_t b)
{
    return a < b ? -1 : a > b;
}

int ledger_object_compare(const void *a, const void *b)
{
    const LedgerObject *x = a, *y = b;
    return x->context != y->context ? compare(x->context, y->context) : compare(x->id, y->id);
}

int ledger_usage_compare(const void *a, const void *b)
{
    const LedgerUsage *x = a, *y = b;
    return x->context != y->context ? compare(x->context, y->context) : compare(x->owner, y->owner);
}
