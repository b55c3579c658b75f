/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/simulated/ledger.h"

#include <glib.h>

static const LedgerStatus unavailable = {
    .reason = "the host is simulated, and with it what runs in its kernel.",
    .guard_reason = "the host is simulated, and with it what runs in its kernel.",
};

static void simulated_ledger_free(Ledger *ledger)
{
    g_free(ledger);
}

static const LedgerOps simulated_ledger_ops = {
    .name = "simulated",
    .free = simulated_ledger_free,
};

int simulated_ledger_load(Host *host, const LedgerOptions *options, LedgerStatus *ret_status)
{
    *ret_status = unavailable;
    return 0;
}

int simulated_ledger_open(Host *host, const LedgerOptions *options, Ledger **ret_ledger)
{
    Ledger *ledger = g_new0(Ledger, 1);
    ledger->ops = &simulated_ledger_ops;
    ledger->status = unavailable;
    *ret_ledger = ledger;
    return 0;
}

int simulated_ledger_unload(Host *host, const char *folder)
{
    return 0;
}
