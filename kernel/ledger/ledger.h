/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The ledger and the guard: what runs in the kernel as BPF (kernel/bpf/), seen from user space.
 *
 * The ledger knows the owner of every object of every IOMMUFD, and how many pages the kernel has
 * pinned for whom. The guard refuses, on registered IOMMUFDs, what one machine may not do to
 * another, and mappings above a tenant's limit. Either may be unavailable on a kernel; the other
 * functions then return -EOPNOTSUPP, and ledger_reason() and ledger_guard_reason() say why.
 *
 * Tenants and machines are numbers that the caller gives out, from 1 on; a machine's number is
 * never given out again, so that what an earlier machine of the same name left is not its own.
 * Processes are named by pid and start time (process_start_time()).
 *
 * Functions return 0 or a negative errno and set out parameters on success only. A Ledger is used
 * by one thread at a time. Nothing here logs.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "kernel/bpf/shared.h"

typedef struct Ledger Ledger;

typedef struct {
    /* Below a bpffs: programs and maps are pinned there, so that the books go on when the caller
     * is gone, and the next caller takes them over. NULL: all ends with the caller. */
    const char *folder;
    enum ledger_guard_mode guard;
    unsigned flags; /* enum ledger_config_flags */
    /* Sizes of the maps; 0: the default. */
    uint32_t max_contexts;
    uint32_t max_objects;
    uint32_t max_pages;
    uint32_t max_owners;
} LedgerOptions;

/* What came of loading: `active` (the ledger counts), `guarding`, `exact`, and the sentences. */
typedef struct ledger_report LedgerReport;

/* Loads this version's programs and pins them in the folder, unless they are there, and does no
 * more: a step of its own, for it needs many privileges and much memory. Never fails for want of a
 * feature: the report says what there is, and why not. -ENOMEM. */
int ledger_load(const LedgerOptions *options, LedgerReport *ret_report);

/* Takes over the programs that are pinned, and reconciles the books; needs no privilege but access
 * to the folder. What is not there yet is loaded by a child process. Without a folder the programs
 * are loaded here and end with the ledger. The caller becomes the service, which may name every
 * object. Never fails for want of a feature. -ENOMEM. */
int ledger_new(const LedgerOptions *options, Ledger **ret_ledger);
/* Programs of another version go on beside the new ones, which have copied its books if these have
 * the same layout, until the caller has told the new ones all that it knows (tenants, IOMMUFDs,
 * machines, devices) and calls this: the guard has no gap. */
int ledger_commit(Ledger *ledger);
/* Accepts NULL. Pinned programs go on. */
void ledger_free(Ledger *ledger);
/* Removes everything that is pinned in the folder; what nothing holds then ends. -EBUSY: somebody
 * has it from ledger_new() and would go on with books that nobody keeps. */
int ledger_unload(const char *folder);

/* Whether the ledger counts, and whether the guard checks. */
bool ledger_is_active(const Ledger *ledger);
bool ledger_guard_is_active(const Ledger *ledger);
/* Whether an argument that was changed behind the guard's check is refused. If not, its process is
 * killed all the same, but that one call has taken effect. */
bool ledger_guard_is_exact(const Ledger *ledger);
/* One sentence on why not, with the remedy; "" when active. The guard can be active and yet not
 * hold against everybody: then its sentence says so. Valid until ledger_free(). */
const char *ledger_reason(const Ledger *ledger);
const char *ledger_guard_reason(const Ledger *ledger);
/* Whether an earlier caller's books were taken over. */
bool ledger_was_taken_over(const Ledger *ledger);

/* Makes the IOMMUFD fd the tenant's. flags: enum ledger_context_flags; with GUARDED its ioctls are
 * checked from now on. *ret_context names it in the functions below. Again for the same fd: the
 * flags change. What is mapped there already becomes the tenant's, whose limit is to be set
 * before. -EINVAL: not an IOMMUFD. */
int ledger_register(Ledger *ledger, int fd, uint32_t tenant, unsigned flags, uint32_t *ret_context);
/* The bytes that the tenant may have mapped (LEDGER_NO_LIMIT: any), and how they are counted. */
int ledger_set_limit(Ledger *ledger, uint32_t tenant, uint64_t bytes, enum ledger_count count);
/* The tenant is gone: nobody maps in its IOMMUFDs any more (EDQUOT). -ENOENT: it was not known. */
int ledger_remove_tenant(Ledger *ledger, uint32_t tenant);

/* A machine that may show itself from now on: by binding one of its devices, by a process in its
 * cgroup, or by name. Again for the same: it stays as it is. -EEXIST: it is another tenant's. */
int ledger_add_machine(Ledger *ledger, uint32_t machine, uint32_t tenant);
/* It is gone; what it left keeps its owner until it is destroyed. -ENOENT. */
int ledger_remove_machine(Ledger *ledger, uint32_t machine);
/* The process, and what it forks, is the machine (0: some process of the tenant). -ENOENT: no such
 * machine; -EEXIST: another process has shown itself as that machine, or this one as another. */
int ledger_name_process(Ledger *ledger, pid_t pid, uint64_t start, uint32_t machine,
                        uint32_t tenant, uint32_t *ret_owner);
/* The process is the service, or a carrier, which may receive a guarded file to pass it on. */
int ledger_trust_process(Ledger *ledger, pid_t pid, uint64_t start, enum ledger_role role);
/* Processes in the cgroup (inode number of its folder) and below are the machine; with
 * LEDGER_CARRIER they are carriers. Of several the nearest to a process counts. */
int ledger_add_cgroup(Ledger *ledger, uint64_t cgroup, uint32_t machine);
int ledger_remove_cgroup(Ledger *ledger, uint64_t cgroup);
/* No cgroups but these are carriers any more, whoever has made them so. */
int ledger_keep_carriers(Ledger *ledger, const uint64_t *cgroups, size_t n);

/* The device at the PCI address ("0000:01:00.0") may be bound by the machine (0: by one process of
 * the tenant); it need not be VFIO's yet. flags: enum ledger_device_flags. -EINVAL: not a PCI
 * address. */
int ledger_admit_device(Ledger *ledger, const char *address, uint32_t tenant, uint32_t machine,
                        unsigned flags);
/* Nobody may bind it any more. -ENOENT: nobody might; -EINVAL: not a PCI address. */
int ledger_dismiss_device(Ledger *ledger, const char *address);

/* What a tenant has. -ENOENT. */
int ledger_tenant(Ledger *ledger, uint32_t tenant, struct ledger_tenant *ret_tenant);
/* What a machine has, in all IOMMUFDs together. All 0 if it has not shown itself. -ENOENT. */
int ledger_machine(Ledger *ledger, uint32_t machine, struct ledger_book *ret_book,
                   struct ledger_owner *ret_owner);
/* The counters of the programs themselves. */
int ledger_state(Ledger *ledger, struct ledger_state *ret_state);
/* How often a hook was skipped, because another task was in it on the same processor. The walk
 * finds what was missed. */
int ledger_missed(Ledger *ledger, uint64_t *ret_missed);

typedef struct {
    uint32_t context;
    uint32_t id;
    enum ledger_object_type type;
    uint32_t owner;
    uint32_t machine; /* 0: none, or not known */
    uint32_t tenant;
    pid_t pid;
    uint64_t start;
    bool alive; /* the owner has a process left */
} LedgerObject;
/* The objects of a context (0: of all), by context and id. *ret_objects is freed with g_free(). */
int ledger_objects(Ledger *ledger, uint32_t context, LedgerObject **ret_objects, size_t *ret_n);
/* One object of a context. May be called by any thread at any time. -ENOENT. */
int ledger_lookup_object(const Ledger *ledger, uint32_t context, uint32_t id,
                         LedgerObject *ret_object);

typedef struct {
    uint32_t context; /* 0: it was not known to which */
    uint32_t owner;
    uint32_t machine;
    uint32_t tenant; /* of the context; 0: of none */
    pid_t pid;
    uint64_t start;
    bool alive;
    struct ledger_book book;
} LedgerBook;
/* What every owner has in every context; a dead owner's pages are orphans. By context and owner.
 * *ret_books is freed with g_free(). */
int ledger_books(Ledger *ledger, LedgerBook **ret_books, size_t *ret_n);

/*
 * What one process has in one context, by the kernel's own structures. Charged is every mapping for
 * itself, unique is each page of its memory or of a file once, however often this process maps it
 * in this context. What a tenant's limit counts is struct ledger_tenant's.
 */
typedef struct {
    uint32_t context;
    uint32_t tenant;
    uint32_t machine; /* 0: none, or not known */
    pid_t pid;
    uint64_t start;
    uint64_t areas;
    uint64_t pinned;  /* pages that the kernel has pinned */
    uint64_t charged; /* pages that the kernel has charged; at rest the same */
    uint64_t unique;  /* of the pages pinned */
    uint64_t mapped;  /* bytes, pinned or not */
    uint64_t mapped_unique;
} LedgerTruth;

typedef struct {
    uint64_t contexts; /* walked */
    uint64_t ranges;
    uint64_t drift;    /* pages by which the ledger was off, up or down; now mended */
    uint64_t mended;   /* entries that were wrong or missing */
    uint64_t seeded;   /* objects that were not known */
    uint64_t unstable; /* entries that moved too fast to be judged */
} LedgerDrift;

/* Reads every IOMMUFD of the host from the kernel's own structures and mends the books. What is
 * moving is compared twice and else left alone. Where tenants count unique bytes, what overlaps is
 * taken from what counts against their limit, until something is given back. *ret_truths is by
 * context and process, and freed with g_free(). Every out parameter may be NULL. */
int ledger_reconcile(Ledger *ledger, LedgerDrift *ret_drift, LedgerTruth **ret_truths,
                     size_t *ret_n);
/* The pages by which the ledger was off, in all reconciliations since ledger_new(), of which it
 * does one itself. */
uint64_t ledger_drift(const Ledger *ledger);
/* What one process has mapped through VFIO's own interface (/dev/vfio/vfio, type1), which is shown
 * beside and counts against no limit. */
typedef struct {
    pid_t pid;
    uint64_t start;
    uint64_t maps;   /* mappings */
    uint64_t mapped; /* bytes */
    uint64_t pinned; /* pages that the kernel has charged, as VmLck shows them */
} LedgerLegacy;
/* By process, from the kernel's own structures. *ret_legacy is freed with g_free(). -EOPNOTSUPP:
 * there are such containers, but their module was not there yet when the programs were loaded. */
int ledger_legacy(Ledger *ledger, LedgerLegacy **ret_legacy, size_t *ret_n);

/* "IOMMU_IOAS_MAP", of an event's command; "hwpt-nested". */
const char *ledger_ioctl_name(uint32_t command);
const char *ledger_object_type_name(enum ledger_object_type type);

/* Becomes readable when there are events. */
int ledger_event_fd(const Ledger *ledger);
typedef void (*LedgerEventHandler)(const struct ledger_event *event, void *data);
/* Hands every waiting event to the handler. */
int ledger_dispatch(Ledger *ledger, LedgerEventHandler handler, void *data);
