/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One look at the books and at the kernel's own structures. The walk takes no locks, so one look
 * proves nothing: only what differs in the same way in two is mended.
 */
#pragma once

#include "kernel/ledger/internal.h"

typedef struct {
    uint64_t address;
    struct ledger_context context;
    bool opened; /* somebody has a file of it, or of a device that is bound to it */
} Context;

typedef struct {
    uint32_t context; /* serial */
    uint32_t tenant;
    struct ledger_record row;
} Row;

/* A process in the books that is no more. */
typedef struct {
    uint32_t tgid;
    uint64_t start;
} Ended;

/* What an owner is said to have, and what it has in the books. */
typedef struct {
    uint32_t owner;
    int32_t objects_said, objects;
    int32_t pages_said, pages;
} Count;

/* A book, or a tenant's account: what it said before the entries were read, and what they add up
 * to. */
typedef struct {
    struct ledger_account_key key;
    uint32_t tenant; /* 0: it is a book */
    uint64_t moves;
    int64_t pinned_said, pinned;
    int64_t mapped_said, mapped; /* of a book */
} Balance;

/* One look at everything. */
typedef struct {
    GHashTable *tenants;       /* number -> struct ledger_tenant, as they were before it */
    GHashTable *balances;      /* Balance, by book or tenant: a set */
    GArray *contexts;          /* Context */
    GArray *opened;            /* struct ledger_opened */
    GArray *objects;           /* Row */
    GArray *areas;             /* Row, of which several can be of one range */
    GHashTable *pending;       /* serials of contexts in which something is being mapped */
    GHashTable *ranges;        /* address -> Row in areas */
    GHashTable *by_id;         /* struct ledger_object_key -> Row in objects */
    GHashTable *known_objects; /* struct ledger_object_key -> struct ledger_object */
    GHashTable *known_pages;   /* address -> struct ledger_pages */
    GHashTable *taken;         /* address -> charge: out of the books, but not removed */
    GArray *ended;             /* Ended: processes whose end was missed */
    GArray *owners;            /* Count */
} View;

/* Every open file of an IOMMUFD, of a device that is bound to one, or of a container of VFIO's:
 * struct ledger_opened. Makes unknown contexts known. */
int view_find_opened(Ledger *ledger, GArray *opened);
/* Takes a look; the caller frees it. A negative errno: a map or the walk could not be read to its
 * end (-EAGAIN: there is too much coming and going). */
int view_take(Ledger *ledger, View **ret_view);
void view_free(View *view);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(View, view_free)

/* The sums of what was found: LedgerMeasurement, by context and process; each page of an address
 * space or file once for `unique`. The caller frees it. */
GArray *view_sum_up(const View *view, const Ledger *ledger);
/* Tells the kernel, for every tenant that counts unique bytes, how much of what counts against its
 * limit is the same memory all the same: ranges that overlap without being equal. */
void view_give_credit(const View *view, const Ledger *ledger);

/* The books and accounts, to begin with; and what the entries of known_pages add up to. */
int view_read_balances(Ledger *ledger, View *view);
void view_add_up(View *view);
bool view_is_balanced(const View *view);
/* Makes them what the entries add up to, where nothing has moved since the first look. */
void view_balance(Ledger *ledger, const View *first, const View *second, LedgerDrift *drift);

/* Whether the books differ from the kernel in anything. */
bool view_differs(const View *view);
/* Mends what differs in both; the second is the later one, and is told what was taken out of the
 * books. */
void view_mend(Ledger *ledger, const View *first, View *second, LedgerDrift *drift);
