/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Shared by the files of the ledger; nobody else includes it. */
#pragma once

#include "kernel/ledger/ledger.h"

#include <bpf/libbpf.h>
#include <glib.h>

#include "kernel/bpf/shared.h"

/* Numbers that the programs and the interface share. */
#define SAME(kernel, interface) _Static_assert((int)(kernel) == (int)(interface), #interface)
SAME(LEDGER_GUARD_OFF, LEDGER_GUARD_MODE_OFF);
SAME(LEDGER_GUARD_KNOWN, LEDGER_GUARD_MODE_KNOWN);
SAME(LEDGER_GUARD_STRICT, LEDGER_GUARD_MODE_STRICT);
SAME(LEDGER_COUNT_CHARGED, LEDGER_COUNT_MODE_CHARGED);
SAME(LEDGER_COUNT_UNIQUE, LEDGER_COUNT_MODE_UNIQUE);
SAME(LEDGER_OBJECT_OTHER, LEDGER_OBJECT_TYPE_OTHER);
SAME(LEDGER_OBJECT_DEVICE, LEDGER_OBJECT_TYPE_DEVICE);
SAME(LEDGER_OBJECT_HWPT_PAGING, LEDGER_OBJECT_TYPE_HWPT_PAGING);
SAME(LEDGER_OBJECT_HWPT_NESTED, LEDGER_OBJECT_TYPE_HWPT_NESTED);
SAME(LEDGER_OBJECT_IOAS, LEDGER_OBJECT_TYPE_IOAS);
SAME(LEDGER_OBJECT_ACCESS, LEDGER_OBJECT_TYPE_ACCESS);
SAME(LEDGER_OBJECT_FAULT, LEDGER_OBJECT_TYPE_FAULT);
SAME(LEDGER_OBJECT_VIOMMU, LEDGER_OBJECT_TYPE_VIOMMU);
SAME(LEDGER_OBJECT_VDEVICE, LEDGER_OBJECT_TYPE_VDEVICE);
SAME(LEDGER_OBJECT_VEVENTQ, LEDGER_OBJECT_TYPE_VEVENTQ);
SAME(LEDGER_OBJECT_HW_QUEUE, LEDGER_OBJECT_TYPE_HW_QUEUE);
SAME(LEDGER_CONTEXT_GUARDED, LEDGER_CONTEXT_FLAG_GUARDED);
SAME(LEDGER_CONTEXT_SHARED, LEDGER_CONTEXT_FLAG_SHARED);
SAME(LEDGER_CONTEXT_RESTRICTED, LEDGER_CONTEXT_FLAG_RESTRICTED);
SAME(LEDGER_DEVICE_RESET_SHARED, LEDGER_DEVICE_FLAG_RESET_SHARED);
_Static_assert(LEDGER_NO_LIMIT == LEDGER_UNLIMITED, "LEDGER_UNLIMITED");
#undef SAME

/* What came of loading: `active` (the ledger counts), `guarding`, `exact`, and the sentences. */
typedef struct ledger_report LedgerReport;

/* What the ledger works with, by the names that they have in kernel/bpf/ and among the pins. */
enum ledger_map_id {
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
    MAP_MACHINES,
    MAP_CGROUPS,
    MAP_DEVICES,
    MAP_EVENTS,
    MAP_RECORDS,
    N_MAPS,
};

enum ledger_program_id {
    CONTROL_REGISTER,
    CONTROL_NAME_PROCESS,
    CONTROL_ADMIT_DEVICE,
    CONTROL_SET_LIMIT,
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
typedef struct {
    Ledger base;
    LedgerMap maps[N_MAPS];
    int programs[N_PROGRAMS];
    int walk_files; /* the iterator's link */
    GArray *hooks;  /* int: the programs that count, for what they missed */
    GArray *links;  /* int: what ends with this ledger; none when all is pinned */
    LedgerReport report;
    struct ring_buffer *events;
    const struct ledger_record *rows; /* of the walk, mapped */
    char *folder;                     /* NULL: nothing is pinned */
    char *version;                    /* the folder of this version in it */
    int presence;                     /* the folder, locked by those who use what is in it */
    uint64_t drift;                   /* bytes, of all reconciliations */
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

BpfLedger *ledger_alloc(void);
/* Accepts NULL. */
void bpf_ledger_free(Ledger *ledger);
/* The folder of the version that these options make, in options->folder. */
char *ledger_version(const LedgerOptions *options);
/* Loads this version's programs and pins them in the folder, unless they are there. -ENOMEM. */
int ledger_load_pinned(const LedgerOptions *options, LedgerReport *ret_report);
/* Both fill in what a ledger needs to be worked with, and its report: by loading and attaching, and
 * from what is pinned in a version's folder. */
int ledger_load_here(BpfLedger *ledger, const LedgerOptions *options);
int ledger_take_over(BpfLedger *ledger, const char *version);
/* Copies the books of the version that was at work so far, if it has the same layout. */
int ledger_adopt(BpfLedger *ledger, const LedgerOptions *options);
/* Makes the caller the service for the versions that go on until ledger_commit(), too. */
void ledger_trust_others(BpfLedger *ledger);
/* It can't be worked with: says why, if nobody has said it, and lets go of everything. */
void ledger_explain(BpfLedger *ledger, int error);
/* Reads a map's sizes; the descriptor is the map's from then on. */
int ledger_map_open(int fd, LedgerMap *ret_map);
/* Tells the programs the host's device numbers, and what is asked of the guard. */
int ledger_configure(BpfLedger *ledger, const LedgerOptions *options);
int ledger_remove_folder(const char *path);

/* Runs one of the programs in control.bpf.c or iter.bpf.c: its own return value, or why it did not
 * run. args is written back. */
int ledger_run(const Ledger *ledger, enum ledger_program_id program, void *args, size_t size);

/* Calls visit for every entry of a map, with room for its key and value. */
typedef int (*LedgerVisitor)(const void *key, const void *value, void *data);
int ledger_each(const Ledger *ledger, enum ledger_map_id map, LedgerVisitor visit, void *data);
/* One element: 0, or why not (-EOPNOTSUPP: there is no ledger). */
int ledger_get(const Ledger *ledger, enum ledger_map_id map, const void *key, void *ret_value);
int ledger_put(const Ledger *ledger, enum ledger_map_id map, const void *key, const void *value);
/* -EEXIST: there is one. */
int ledger_add(const Ledger *ledger, enum ledger_map_id map, const void *key, const void *value);
int ledger_drop(const Ledger *ledger, enum ledger_map_id map, const void *key);
/* Returns when every program that was running has ended; those that may sleep are not waited for.
 */
int ledger_fence(const Ledger *ledger);

/* ---- the members of LedgerOps, by file ---- */

int ledger_register(Ledger *ledger, int fd, uint32_t tenant, unsigned flags, uint32_t *ret_context);
int ledger_set_limit(Ledger *ledger, uint32_t tenant, uint64_t bytes, LedgerCountMode count);
int ledger_remove_tenant(Ledger *ledger, uint32_t tenant);
int ledger_add_machine(Ledger *ledger, uint32_t machine, uint32_t tenant);
int ledger_remove_machine(Ledger *ledger, uint32_t machine);
int ledger_name_process(Ledger *ledger, pid_t pid, uint64_t start, uint32_t machine,
                        uint32_t tenant);
int ledger_admit_device(Ledger *ledger, const char *address, uint32_t tenant, uint32_t machine,
                        unsigned flags);
int ledger_dismiss_device(Ledger *ledger, const char *address);
/* The process is the service, or a relay, which may receive a guarded file to pass it on. */
int ledger_trust_process(Ledger *ledger, pid_t pid, uint64_t start, enum ledger_role role);

int ledger_trust_relay(Ledger *ledger, pid_t pid, uint64_t start);
int ledger_set_relay_units(Ledger *ledger, const char *const *units);
int ledger_allow_receiver(Ledger *ledger, pid_t pid, uint64_t start, uint32_t tenant);
/* Processes in the cgroup (inode number of its folder) and below are the machine; with
 * LEDGER_RELAY they are relays. Of several the nearest to a process counts. */
int ledger_add_cgroup(Ledger *ledger, uint64_t cgroup, uint32_t machine);
int ledger_remove_cgroup(Ledger *ledger, uint64_t cgroup);
/* No cgroups but these are relays any more, whoever has made them so. */
int ledger_keep_relays(Ledger *ledger, const uint64_t *cgroups, size_t n);
/* The scope of the process is the machine, and is it no more. */
void ledger_add_scope(Ledger *ledger, uint32_t machine, pid_t pid);
void ledger_remove_scope(Ledger *ledger, uint32_t machine);

int ledger_machine(Ledger *ledger, uint32_t machine, LedgerMachine *ret_machine);
int ledger_tenant_usage(Ledger *ledger, uint32_t tenant, LedgerTenantUsage *ret_usage);
int ledger_usage(Ledger *ledger, LedgerUsage **ret_usage, size_t *ret_n);
int ledger_objects(Ledger *ledger, uint32_t context, LedgerObject **ret_objects, size_t *ret_n);
int ledger_object(Ledger *ledger, uint32_t context, uint32_t id, LedgerObject *ret_object);
int ledger_legacy(Ledger *ledger, LedgerLegacy **ret_legacy, size_t *ret_n);
int ledger_counters(Ledger *ledger, LedgerCounters *ret_counters);
int ledger_reconcile(Ledger *ledger, LedgerDrift *ret_drift, LedgerMeasurement **ret_measurements,
                     size_t *ret_n);
