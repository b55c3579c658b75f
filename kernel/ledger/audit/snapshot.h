/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A snapshot of the ledger's tables and of the kernel's own structures: plain data, which
 * snapshot-read.c fills in, and out of which follow measurements (measure.h) and repairs
 * (repair.h). Structures are read without locks, so that a single snapshot proves no fault of the
 * ledger.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernel/bpf/shared.h"

typedef struct {
    uint64_t address;
    struct ledger_context context;
    bool opened; /* somebody has a file of it, or of a device that is bound to it */
} Context;

/* What the walk says of an object, or of an area. */
typedef struct {
    uint32_t context; /* id */
    uint32_t tenant;
    struct ledger_record record;
} WalkRecord;

/* A process with an entry, that is no more. */
typedef struct {
    uint32_t tgid;
    uint64_t start;
} EndedProcess;

/* How many objects and ranges an owner has: recorded in its entry, and counted. */
typedef struct {
    uint32_t owner;
    uint32_t machine;
    int32_t recorded_objects, objects;
    int32_t recorded_pages, pages;
} OwnerCount;

/* The sums of an account, or of a tenant: recorded before the ranges' entries were read, and what
 * the entries add up to. */
typedef struct {
    struct ledger_account_key account;
    uint32_t tenant; /* 0: it is an account's */
    uint64_t moves;
    int64_t recorded_pinned, pinned; /* pages */
    int64_t recorded_mapped, mapped; /* bytes, of an account */
} Total;

typedef struct {
    /* Filled in by who makes the snapshot, in this order. */
    GHashTable *tenants;          /* id -> struct ledger_tenant */
    GHashTable *totals;           /* Total, by account or tenant: a set */
    GArray *opened;               /* struct ledger_opened */
    GArray *contexts;             /* Context */
    GArray *objects;              /* WalkRecord */
    GArray *areas;                /* WalkRecord, of which several can be of one range */
    GHashTable *pending;          /* ids of contexts in which something is being mapped: a set */
    GHashTable *recorded_objects; /* struct ledger_object_key -> struct ledger_object */
    GHashTable *recorded_ranges;  /* address -> struct ledger_pages */
    GHashTable *taken;            /* address -> charge, of entries that only wait for removal */
    GArray *ended;                /* EndedProcess: processes whose end was missed */
    GArray *owners;               /* OwnerCount */

    /* Made by snapshot_index(). */
    GHashTable *ranges;        /* address -> WalkRecord in areas */
    GHashTable *by_id;         /* struct ledger_object_key -> WalkRecord in objects */
    GHashTable *by_context;    /* id -> Context in contexts */
    GHashTable *by_owner;      /* id -> OwnerCount in owners */
    GHashTable *mapped_into;   /* struct ledger_object_key of an IOAS -> WalkRecord of an area */
    GHashTable *opened_device; /* struct ledger_object_key of a device -> struct ledger_opened */
} Snapshot;

Snapshot *snapshot_new(void);
/* Accepts NULL. */
void snapshot_free(Snapshot *snapshot);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Snapshot, snapshot_free)

/* Adds to what the maker fills in. */
void snapshot_add_tenant(Snapshot *snapshot, uint32_t id, const struct ledger_tenant *tenant);
void snapshot_add_account(Snapshot *snapshot, const struct ledger_account_key *key,
                          const struct ledger_account *account);
void snapshot_add_record(Snapshot *snapshot, const struct ledger_context *context,
                         const struct ledger_record *record);
void snapshot_add_object(Snapshot *snapshot, const struct ledger_object_key *key,
                         const struct ledger_object *object);
void snapshot_add_range(Snapshot *snapshot, uint64_t address, const struct ledger_pages *range);
void snapshot_add_owner(Snapshot *snapshot, uint32_t id, const struct ledger_owner *owner);

/* Which contexts are opened; once contexts and opened are complete. */
void snapshot_mark_opened(Snapshot *snapshot);
/* Once all is filled in: makes the indexes, counts the owners' entries, adds up the totals. */
void snapshot_index(Snapshot *snapshot);

/* ---- afterwards ---- */

/* The ledger's entry of a range, or of an object. NULL: it has none. */
const struct ledger_pages *snapshot_recorded_range(const Snapshot *snapshot, uint64_t address);
const struct ledger_object *snapshot_recorded_object(const Snapshot *snapshot, uint32_t context,
                                                     uint32_t id);
/* The address of the context of that id. 0: it is not among those that were found. */
uint64_t snapshot_context_address(const Snapshot *snapshot, uint32_t context);
/* Whether a total is what its entries add up to. */
bool total_is_right(const Total *total);
