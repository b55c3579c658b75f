/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the parts of accounting.h have in common. */
#pragma once

#include "dbus/base/sd-cleanup.h"
#include "kernel/ledger/ledger.h"

typedef struct Accounting Accounting;

struct Accounting {
    sd_event *event;
    Ledger *ledger; /* NULL: there is no memory for one */
    bool require_guard;
    char *ledger_reason;
    char *guard_reason;
    const char *guard_state;
    sd_event_source *events;
    sd_event_source *timer;
    LedgerEventHandler handler;
    void *handler_data;
    GHashTable *machines; /* machine -> its tenant: ids */

    /* What everybody has, as of that turn of the event loop and that moment; reading took so long:
     * µs. */
    LedgerUsage *usage;
    size_t n_usage;
    uint64_t usage_turn;
    int64_t usage_read_at;
    int64_t usage_duration;
    bool usage_known;        /* usage is NULL when nobody has anything */
    GHashTable *of_machines; /* the same summed up, by id: see usage.c */
    GHashTable *of_tenants;
    /* What VFIO's own containers have. */
    LedgerLegacy *legacy;
    size_t n_legacy;
    bool legacy_known;
    int64_t legacy_read_at; /* 0: never */

    /* The last reconciliation. */
    LedgerMeasurement *measurements;
    size_t n_measurements;
    int64_t last_audit; /* when, and how long it took: µs */
    int64_t audit_duration;
    uint64_t untracked; /* as of then */
    uint64_t lost_events;
    uint64_t corrected; /* bytes, since the service started */
    bool reconcile_failing;
};

/* Has usage be no older than so many microseconds. False: there is no ledger, or it fails. */
bool accounting_read_usage(Accounting *accounting, int64_t age);
