/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Shared by the files of the ledger; nobody else includes it. */
#pragma once

#include "kernel/ledger/ledger.h"

#include <bpf/libbpf.h>
#include <glib.h>

/* What the ledger works with, by the names that they have in kernel/bpf/ and among the pins. */
enum ledger_map_id {
    MAP_CONFIG,
    MAP_FENCE,
    MAP_LOADED,
    MAP_STATE,
    MAP_CONTEXTS,
    MAP_OBJECTS,
    MAP_PAGES,
    MAP_PLACES,
    MAP_PROCESSES,
    MAP_OWNERS,
    MAP_BOOKS,
    MAP_TENANTS,
    MAP_MACHINES,
    MAP_CGROUPS,
    MAP_DEVICES,
    MAP_EVENTS,
    MAP_ROWS,
    N_MAPS,
};

enum ledger_program_id {
    CONTROL_REGISTER,
    CONTROL_NAME,
    CONTROL_ADMIT,
    CONTROL_LIMIT,
    CONTROL_CREDIT,
    CONTROL_FORGET,
    CONTROL_MEND,
    CONTROL_SEED,
    CONTROL_DROP,
    CONTROL_FREE,
    CONTROL_CLOSE,
    CONTROL_RETIRE,
    CONTROL_BURY,
    CONTROL_RECOUNT,
    CONTROL_BALANCE,
    CONTROL_SETTLE,
    WALK_CONTEXT,
    WALK_CONTAINER,
    N_PROGRAMS,
};

extern const char *const ledger_map_names[N_MAPS];
extern const char *const ledger_program_names[N_PROGRAMS];

typedef struct {
    int fd;
    uint32_t key_size, value_size, max_entries;
} LedgerMap;

/* It has nothing but descriptors: whoever takes over needs neither the programs' file nor the
 * kernel's types, and no privilege but for the files in the folder. */
struct Ledger {
    LedgerMap maps[N_MAPS];
    int programs[N_PROGRAMS];
    int walk_files; /* the iterator's link */
    GArray *hooks;  /* int: the programs that count, for what they missed */
    GArray *links;  /* int: what ends with this ledger; none when all is pinned */
    LedgerReport report;
    struct ring_buffer *events;
    const struct ledger_row *rows; /* of the walk, mapped */
    char *folder;                  /* NULL: nothing is pinned */
    char *version;                 /* the folder of this version in it */
    int presence;                  /* the folder, locked by those who use what is in it */
    bool taken_over;
    uint64_t drift; /* pages, of all reconciliations */
    LedgerEventHandler handler;
    void *handler_data;
    GMutex lock;         /* of the next one */
    GHashTable *tenants; /* serial of a registered context -> its tenant */
};

Ledger *ledger_alloc(void);
/* The folder of the version that these options make, in options->folder. */
char *ledger_version(const LedgerOptions *options);
/* Both fill in what a ledger needs to be worked with, and its report: by loading and attaching, and
 * from what is pinned in a version's folder. */
int ledger_load_here(Ledger *ledger, const LedgerOptions *options);
int ledger_take_over(Ledger *ledger, const char *version);
/* Copies the books of the version that was at work so far, if it has the same layout. */
int ledger_adopt(Ledger *ledger, const LedgerOptions *options);
/* Makes the caller the service for the versions that go on until ledger_commit(), too. */
void ledger_trust_others(Ledger *ledger);
/* It can't be worked with: says why, if nobody has said it, and lets go of everything. */
void ledger_explain(Ledger *ledger, int error);
/* Reads a map's sizes; the descriptor is the map's from then on. */
int ledger_map_open(int fd, LedgerMap *ret_map);
/* Tells the programs the host's device numbers, and what is asked of the guard. */
int ledger_configure(Ledger *ledger, const LedgerOptions *options);
int ledger_remove_folder(const char *path);

/* Runs one of the programs in control.bpf.c or iter.bpf.c: its own return value, or why it did not
 * run. args is written back. */
int ledger_run(const Ledger *ledger, enum ledger_program_id program, void *args, size_t size);

/* Calls visit for every entry of a map, with room for its key and value. */
typedef int (*LedgerVisitor)(const void *key, const void *value, void *data);
int ledger_each(const Ledger *ledger, enum ledger_map_id map, LedgerVisitor visit, void *data);
/* The tenant that the context was registered for. 0: it was not. By any thread. */
uint32_t ledger_context_tenant(const Ledger *ledger, uint32_t context);
/* One element: 0, or why not (-EOPNOTSUPP: there is no ledger). */
int ledger_get(const Ledger *ledger, enum ledger_map_id map, const void *key, void *ret_value);
int ledger_put(const Ledger *ledger, enum ledger_map_id map, const void *key, const void *value);
/* -EEXIST: there is one. */
int ledger_add(const Ledger *ledger, enum ledger_map_id map, const void *key, const void *value);
int ledger_drop(const Ledger *ledger, enum ledger_map_id map, const void *key);
/* Returns when every program that was running has ended; those that may sleep are not waited for.
 */
int ledger_fence(const Ledger *ledger);
