/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the parts of books.h share. */
#pragma once

#include "dbus/accounting/accounting.h"

struct Books {
    Manager *manager;
    Ledger *ledger; /* NULL: there is no memory for it */
    bool require_guard;
    bool guard_off; /* by the configuration */
    char *ledger_reason;
    char *guard_reason;
    sd_event_source *events;
    sd_event_source *timer;

    uint32_t last_tenant; /* numbers given out */
    uint32_t last_machine;
    GHashTable *tenants;  /* number -> TenantLife */
    GHashTable *machines; /* number -> MachineLife */

    LedgerUsage *usage; /* of all owners, as of this turn of the event loop */
    size_t n_usage;
    uint64_t iteration;
    LedgerMeasurement *measurements; /* of the last look */
    size_t n_measurements;
    int64_t looked; /* when, and how long it took: µs */
    int64_t look_cost;
    LedgerLegacy *legacy; /* of processes with containers of VFIO's own */
    size_t n_legacy;
    bool legacy_known;
    int64_t legacy_looked; /* 0: never */
    uint64_t missed;       /* events, as of the last look */
    uint64_t unheard;      /* events that were not sent */
    bool failing;          /* the last look could not be done */
    uint64_t drift;        /* bytes, since the service started */
};

/* Looks into the kernel's own structures, repairs the ledger, and corrects what tenants have left
 * that count unique bytes. */
void books_reconcile(Books *books);
/* False: there is no ledger. */
bool books_counters(Books *books, LedgerCounters *ret_counters);
/* Hands out what has happened (books-events.c). */
void books_dispatch(Books *books);
