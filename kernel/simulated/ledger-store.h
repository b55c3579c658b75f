/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the simulated ledger remembers, in a memfd that outlives iommud: who is who, what everybody
 * may and has, and events that were not dispatched yet. What it knows of objects and ranges is in
 * the IOMMUFDs themselves (kernel/simulated/table.h).
 */
#pragma once

#include "kernel/simulated/table.h"

#define SIM_OWNER_NONE 0    /* not known */
#define SIM_OWNER_SERVICE 1 /* iommud */
#define SIM_OWNER_FIRST 16
#define SIM_EVENTS_MAX 1024

/* Each entry begins with its key, which is not 0 where there is one. */
typedef struct {
    uint64_t key; /* pid */
    uint64_t start;
    uint32_t owner;
    uint32_t role;       /* SimRole */
    uint64_t lock_limit; /* that was set here; 0: the real one */
} SimProcess;

typedef enum {
    SIM_ROLE_USER,
    SIM_ROLE_SERVICE,
    SIM_ROLE_RELAY,
} SimRole;

typedef struct {
    uint64_t key; /* its number, from SIM_OWNER_FIRST on */
    SimOwner process;
    uint32_t machine;
    uint32_t tenant;
    uint32_t processes; /* alive */
    uint32_t objects;
    uint32_t ranges;
    /* Of events sent in the second that began at ratelimit_since: refusals, and others. */
    uint32_t ratelimit_events[2];
    int64_t ratelimit_since[2]; /* µs, CLOCK_MONOTONIC */
    char comm[LEDGER_COMM_SIZE];
} SimLedgerOwner;

typedef struct {
    uint64_t key; /* its number */
    uint32_t tenant;
    uint32_t owner; /* 0: it has not shown itself yet */
    /* What it may map: reserved + borrowed is what it has taken from its tenant and the host, and
     * room is what of that is not mapped. */
    uint64_t reserved;
    uint64_t borrowed;
    uint64_t room;
    /* The lock limit of its process at its start, and what was promised then; 0: not followed. */
    uint64_t plug_limit;
    uint64_t plug_reserved;
} SimMachine;

typedef struct {
    uint64_t key; /* sim_guard_device_key() */
    uint32_t tenant;
    uint32_t machine; /* 0: any one process of the tenant */
    uint32_t owner;   /* that bound it */
    uint32_t flags;
    uint32_t unit; /* 0: it is a unit by itself */
    uint32_t unused;
} SimLedgerDevice;

typedef struct {
    uint64_t key; /* its number */
    uint64_t limit;
    uint64_t used; /* of the limit: promised to machines, and mapped besides */
    uint64_t pinned;
    uint64_t peak;
    uint64_t maps; /* these three: of usage that is closed */
    uint64_t unmaps;
    uint64_t refused;
    uint32_t count; /* LedgerCountMode */
    uint32_t unused;
} SimTenant;

typedef struct {
    uint64_t unlimited_less; /* the limit, as what it is below "none": 0 in a new store */
    uint64_t used;
} SimBudget;

typedef struct {
    uint64_t key;    /* context << 32 | owner */
    uint64_t tenant; /* of the context */
    uint64_t pinned;
    uint64_t peak;
    uint64_t mapped;
    uint64_t maps;
    uint64_t unmaps;
    uint64_t refused;
} SimUsage;

/* A table of entries of one size, found by their keys. */
typedef enum {
    SIM_PROCESSES,
    SIM_OWNERS,
    SIM_MACHINES,
    SIM_DEVICES,
    SIM_TENANTS,
    SIM_USAGE,
    SIM_N_TABLES,
} SimTableName;

typedef struct SimState SimState;

typedef struct {
    Ledger ledger; /* its status, for all who work with the store */
    LedgerGuardMode guard;
    int descriptor;                   /* the memfd */
    SimState *state;                  /* mapped */
    GHashTable *found[SIM_N_TABLES];  /* key -> its entry, which is in state */
    GArray *free_slots[SIM_N_TABLES]; /* uint32_t: below the highest that was ever used */
    uint32_t room[SIM_N_TABLES];      /* how many entries there may be */
    uint32_t max_objects, max_ranges;
    GHashTable *extents; /* SimExtent: a set. Memory that is mapped, by tenant */
    int epoll;           /* readable when there are events, or a process has ended */
    int wakeup;          /* an eventfd in it */
    GHashTable *pidfds;  /* pid -> pidfd in it */
    unsigned max_pidfds; /* the rest of the descriptors is the caller's */
    uint64_t corrected;
} SimLedger;

/* The ledger that is open, or NULL. */
extern SimLedger *sim_ledger;

/* descriptor: an earlier one's memfd, or -1. Another kind of descriptor is taken for none. */
int sim_store_open(const LedgerOptions *options, SimLedger **ret_ledger);
void sim_store_close(SimLedger *ledger);

/* The entry with the key, or NULL. */
void *sim_store_get(SimLedger *ledger, SimTableName table, uint64_t key);
/* A new one, with nothing but its key. NULL: the table is full. */
void *sim_store_add(SimLedger *ledger, SimTableName table, uint64_t key);
void sim_store_remove(SimLedger *ledger, SimTableName table, uint64_t key);
/* All that there are; freed with g_ptr_array_unref(). They may be removed meanwhile. */
GPtrArray *sim_store_list(SimLedger *ledger, SimTableName table);

/* Of all ledgers one after another, so that what one knows is not taken for another's. */
uint64_t sim_store_id(const SimLedger *ledger);
uint32_t sim_store_next_owner(SimLedger *ledger);
uint32_t sim_store_next_context(SimLedger *ledger);
LedgerCounters *sim_store_counters(SimLedger *ledger);
/* The host's budget, and what of it is used. */
SimBudget *sim_store_host(SimLedger *ledger);
/* Entries that the ledger knows, in all IOMMUFDs together. */
uint64_t *sim_store_objects(SimLedger *ledger);
uint64_t *sim_store_ranges(SimLedger *ledger);

/* Puts the event where dispatch() finds it. A full queue loses it, and counts that. */
void sim_store_push_event(SimLedger *ledger, const LedgerEvent *event);
bool sim_store_pop_event(SimLedger *ledger, LedgerEvent *ret_event);
