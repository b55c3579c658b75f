/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The bottom of the running kernel's ledger: the maps and programs of kernel/bpf/ as descriptors,
 * and what is done with a single one of them. All files above work on a BpfLedger.
 */
#pragma once

#include "kernel/ledger/ledger.h"

#include <bpf/libbpf.h>
#include <glib.h>

#include "kernel/bpf/shared.h"

/* What the ledger works with, by the names that they have in kernel/bpf/ and among the pins. */
typedef enum {
    MAP_CONFIG,
    MAP_FENCE,
    MAP_LOADED,
    MAP_STATE,
    MAP_CONTEXTS,
    MAP_OBJECTS,
    MAP_PAGES,
    MAP_EXTENTS,
    MAP_PROCESSES,
    MAP_OWNERS,
    MAP_ACCOUNTS,
    MAP_TENANTS,
    MAP_HOST,
    MAP_MACHINES,
    MAP_CGROUPS,
    MAP_DEVICES,
    MAP_UNITS,
    MAP_EVENTS,
    MAP_RECORDS,
    MAP_RESERVATIONS,
    N_MAPS,
} MapId;

/* Programs that are run from here; those that the kernel runs are in programs.h. */
typedef enum {
    CONTROL_REGISTER,
    CONTROL_NAME_PROCESS,
    CONTROL_ADMIT_DEVICE,
    CONTROL_DISMISS_DEVICE,
    CONTROL_SET_LIMIT,
    CONTROL_SET_BUDGET,
    CONTROL_FOLLOW_LIMIT,
    CONTROL_RESERVE_MACHINE,
    CONTROL_SET_DEDUP_CREDIT,
    CONTROL_REMOVE_MACHINE,
    CONTROL_SET_RANGE,
    CONTROL_ADOPT_OBJECT,
    CONTROL_REMOVE_RANGE,
    CONTROL_REMOVE_OBJECT,
    CONTROL_REMOVE_CONTEXT,
    CONTROL_CLOSE_ACCOUNT,
    CONTROL_REMOVE_PROCESS,
    CONTROL_SET_COUNTS,
    CONTROL_SET_TOTALS,
    CONTROL_DROP_UNMATCHED,
    CONTROL_LEAK_RESERVATION,
    WALK_CONTEXT,
    WALK_CONTAINER,
    N_PROGRAMS,
} ProgramId;

extern const char *const map_names[N_MAPS];
extern const char *const program_names[N_PROGRAMS];

typedef struct {
    int fd;
    uint32_t key_size, value_size, max_entries;
} LedgerMap;

/* What came of loading. */
typedef struct ledger_report LedgerReport;

/* It has nothing but descriptors: whoever opens what is pinned needs neither the programs' file nor
 * the kernel's types, and no privilege but for the files in the folder. */
typedef struct {
    Ledger base;
    LedgerMap maps[N_MAPS];
    int programs[N_PROGRAMS];
    int walk_files; /* the iterator's link */
    GArray *hooks;  /* int: the programs that the kernel runs, which it may have skipped */
    GArray *links;  /* int: what ends with this ledger; none when all is pinned */
    LedgerReport report;
    struct ring_buffer *events;
    const struct ledger_record *records; /* of the walk, mapped */
    char *folder;                        /* NULL: nothing is pinned */
    char *version;                       /* the folder of this version in it */
    int lock_fd;                         /* the folder, locked by who uses what is in it */
    uint64_t drift;                      /* bytes, of all reconciliations */
    LedgerEventHandler handler;
    void *handler_data;
    char **relay_units;
    GHashTable *relays;   /* relay unit -> its cgroup, as uint64_t *; both owned */
    GHashTable *machines; /* machine -> the cgroup of its scope, as uint64_t *, owned */
} BpfLedger;

static inline BpfLedger *bpf_ledger(const Ledger *ledger)
{
    return (BpfLedger *)ledger;
}

/* Without operations, and with nothing open. */
BpfLedger *bpf_ledger_alloc(void);
/* Accepts NULL. */
void bpf_ledger_free(BpfLedger *ledger);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BpfLedger, bpf_ledger_free)
/* The ledger can't be worked with: says why, if nobody has said it, and closes everything. */
void bpf_ledger_disable(BpfLedger *ledger, int error);

/* A descriptor becomes the map's, whose sizes are read. A negative descriptor: -errno. */
int map_open(int fd, LedgerMap *ret_map);

/* One element. -ENOENT: there is none; -EOPNOTSUPP: there is no ledger. */
int map_get(const BpfLedger *ledger, MapId map, const void *key, void *ret_value);
/* -E2BIG, -ENOMEM: no room. */
int map_put(const BpfLedger *ledger, MapId map, const void *key, const void *value);
/* -EEXIST: there is one. */
int map_add(const BpfLedger *ledger, MapId map, const void *key, const void *value);
int map_delete(const BpfLedger *ledger, MapId map, const void *key);

/* Negative: the iteration ends, with this. */
typedef int (*MapVisitor)(const void *key, const void *value, void *data);
/* Calls visit for every entry of a map: many entries with one system call where the kernel can.
 * What is added or removed meanwhile may be among them or not. -EAGAIN: so much comes and goes that
 * the map can't be read to its end. */
int map_each(const BpfLedger *ledger, MapId map, MapVisitor visit, void *data);

/* Returns when every program that was running has ended (synchronize_rcu()); those that may sleep
 * are not waited for. */
int maps_synchronize(const BpfLedger *ledger);

/* Runs one of the programs in control.bpf.c or iter.bpf.c, in the caller's context: its own return
 * value, or why it did not run. args is written back. */
int program_run(const BpfLedger *ledger, ProgramId program, void *args, size_t size);
