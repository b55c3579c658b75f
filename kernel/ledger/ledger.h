/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The ledger and the guard, as the rest of the house sees them. kernel/host/host.h hands them out:
 * the running kernel's, which are BPF programs (kernel/host/bpf-ledger.h), and the simulated
 * host's, which are the same in memory (kernel/simulated/ledger.h).
 *
 * The ledger knows the owner of every object of every IOMMUFD, and how many bytes the kernel has
 * pinned for whom. The guard refuses, on registered IOMMUFDs, what one machine may not do to
 * another, and mappings that nobody has promised and for which tenant or host have no room left.
 * Either may be unavailable on a host: then LedgerStatus says so and why, and the functions return
 * -EOPNOTSUPP.
 *
 * What is promised to a machine (reserve_machine()) is taken from the tenant's limit and the host's
 * budget at once, and may be mapped whatever happens to these; beyond it the machine borrows what
 * is promised to nobody, until it unmaps. Who is no machine of the tenant maps what is promised to
 * nobody.
 *
 * Tenants and machines are numbers that the caller gives out, from 1 on; a machine's number is
 * never given out again, so that what an earlier machine of the same name left is not its own.
 * Processes are named by pid and start time (process_start_time()); an owner is a process with all
 * that it forks. Sizes are in bytes.
 *
 * Functions return 0 or a negative errno and set out parameters on success only. A Ledger is used
 * by one thread at a time, but for LedgerOps.object(). Nothing here logs.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* In place of a limit: there is none. */
#define LEDGER_UNLIMITED UINT64_MAX
/* Room for TASK_COMM_LEN. */
#define LEDGER_COMM_SIZE 16
#define LEDGER_REASON_SIZE 256

typedef struct Ledger Ledger;

typedef enum {
    LEDGER_GUARD_MODE_OFF,
    LEDGER_GUARD_MODE_KNOWN,  /* an ioctl that the guard does not know is allowed and counted */
    LEDGER_GUARD_MODE_STRICT, /* such an ioctl is refused */
} LedgerGuardMode;

/* What a tenant's limit counts. */
typedef enum {
    LEDGER_COUNT_MODE_CHARGED, /* every mapping */
    LEDGER_COUNT_MODE_UNIQUE,  /* memory that is mapped more than once only once */
} LedgerCountMode;

/* The kernel's types of objects (enum iommufd_object_type), in numbers that do not differ by
 * version and configuration. */
typedef enum {
    LEDGER_OBJECT_TYPE_OTHER,
    LEDGER_OBJECT_TYPE_DEVICE,
    LEDGER_OBJECT_TYPE_HWPT_PAGING,
    LEDGER_OBJECT_TYPE_HWPT_NESTED,
    LEDGER_OBJECT_TYPE_IOAS,
    LEDGER_OBJECT_TYPE_ACCESS,
    LEDGER_OBJECT_TYPE_FAULT,
    LEDGER_OBJECT_TYPE_VIOMMU,
    LEDGER_OBJECT_TYPE_VDEVICE,
    LEDGER_OBJECT_TYPE_VEVENTQ,
    LEDGER_OBJECT_TYPE_HW_QUEUE,
} LedgerObjectType;

/* Of a registered IOMMUFD. */
typedef enum {
    LEDGER_CONTEXT_FLAG_GUARDED = 1 << 0,    /* its ioctls are checked */
    LEDGER_CONTEXT_FLAG_SHARED = 1 << 1,     /* for more than one machine */
    LEDGER_CONTEXT_FLAG_RESTRICTED = 1 << 2, /* only known processes may receive its file */
} LedgerContextFlags;

typedef enum {
    LEDGER_DEVICE_FLAG_RESET_SHARED = 1 << 0, /* its bus or slot holds another machine's device */
} LedgerDeviceFlags;

/* What is claimed with a device. */
typedef struct {
    uint32_t tenant;
    uint32_t machine; /* 0: any one process of the tenant may bind it */
    /* A number for what must not be parted (an IOMMU group, with what a reset of it reaches): while
     * a machine has any device of a unit, no other machine gets one. 0: the device alone; and
     * always, where machine is 0. */
    uint32_t unit;
    unsigned flags; /* LedgerDeviceFlags */
} LedgerClaim;

typedef enum {
    LEDGER_OWNER_KIND_UNKNOWN, /* made before the ledger was there, by a process that is gone */
    LEDGER_OWNER_KIND_SERVICE, /* the caller of ledger_open(), or an earlier one */
    LEDGER_OWNER_KIND_PROCESS,
} LedgerOwnerKind;

typedef struct {
    /* Where the running kernel's ledger keeps programs and tables (a folder below a bpffs), so that
     * they go on when the caller is gone, and the next caller takes them over. NULL: all ends with
     * the caller. */
    const char *folder;
    /* Where a simulated ledger keeps them: what an earlier one has returned by
     * LedgerOps.descriptor(), or -1. Stays the caller's. */
    int descriptor;
    LedgerGuardMode guard;
    bool forbid_open; /* a machine may not open /dev/iommu itself */
    /* Entries that there is room for; 0: the default. */
    uint32_t max_contexts; /* IOMMUFDs, and tenants */
    uint32_t max_objects;
    uint32_t max_ranges;
    uint32_t max_owners; /* and machines, devices, cgroups */
} LedgerOptions;

/* What there is of the two. */
typedef struct {
    bool counting; /* the ledger */
    bool guarding; /* the guard */
    /* Whether an argument that is changed behind the guard's check makes its ioctl fail. If not,
     * its process is killed all the same, but that one call has taken effect. */
    bool rechecking;
    /* One sentence on why not, with the remedy; "" when there is nothing to say. The guard can be
     * there and yet not hold against everybody: then its sentence says so. */
    char reason[LEDGER_REASON_SIZE];
    char guard_reason[LEDGER_REASON_SIZE];
} LedgerStatus;

typedef enum {
    LEDGER_EVENT_KIND_REFUSED,          /* an ioctl, a file or a device was refused */
    LEDGER_EVENT_KIND_LIMIT,            /* a mapping beyond what is promised, and what is left */
    LEDGER_EVENT_KIND_ARGUMENT_CHANGED, /* behind the check: its process was killed */
    LEDGER_EVENT_KIND_EXIT,             /* the last process of an owner is gone */
    LEDGER_EVENT_KIND_FULL, /* a table is full, so that a mapping or an object was refused */
    /* Somebody has raised the RLIMIT_MEMLOCK of a machine's process (follow_limit()), and what is
     * promised to the machine if it was less; or was refused that. */
    LEDGER_EVENT_KIND_PLUG,
    LEDGER_EVENT_KIND_PLUG_REFUSED,
} LedgerEventKind;

/* A few a second are reported on behalf of each owner; LedgerCounters.lost_events counts the rest.
 */
typedef struct {
    LedgerEventKind kind;
    int error;                   /* negative errno that was returned */
    pid_t pid;                   /* of the thread group */
    char comm[LEDGER_COMM_SIZE]; /* its name */
    uint32_t machine;            /* of the process, 0: none */
    uint32_t tenant;
    uint32_t context;
    uint32_t command;        /* ioctl, 0: it was none */
    uint32_t id;             /* object that was named, 0: none */
    uint32_t object_machine; /* whose that object was at that moment, 0: no machine's */
    uint64_t requested;      /* LIMIT, FULL: bytes; 0 of FULL: it was an object. PLUG: bytes more */
    uint64_t left;           /* LIMIT: bytes that the machine could have mapped. PLUG_REFUSED: bytes
                              * by which the promise could have been made larger */
    bool host_is_short; /* LIMIT, PLUG_REFUSED: it is the host's budget, and not the tenant's limit
                         */
} LedgerEvent;

typedef void (*LedgerEventHandler)(const LedgerEvent *event, void *data);

/* An object of an IOMMUFD. */
typedef struct {
    uint32_t context;
    uint32_t id;
    LedgerObjectType type;
    LedgerOwnerKind owner_kind;
    uint32_t owner;   /* a number that is never given out again */
    uint32_t machine; /* of its owner; 0: none, or not known */
    pid_t pid;        /* of the process that made it, */
    uint64_t start;   /* and its start time */
    bool alive;       /* the owner has a process left */
} LedgerObject;

/* What an owner has in an IOMMUFD. What a dead owner has pinned is orphaned. */
typedef struct {
    uint32_t context; /* 0: it was not known to which */
    uint32_t owner;
    uint32_t machine; /* 0: none, or not known */
    uint32_t tenant;  /* of the context; 0: of none */
    pid_t pid;        /* of the owner's first process */
    uint64_t start;
    bool alive;
    uint64_t pinned; /* bytes that the kernel has charged */
    uint64_t peak;   /* of pinned */
    uint64_t mapped; /* bytes, pinned or not */
    uint64_t maps;   /* calls */
    uint64_t unmaps;
    uint64_t refused;
} LedgerUsage;

/* What a tenant has in all its IOMMUFDs. */
typedef struct {
    uint64_t limit; /* bytes, or LEDGER_UNLIMITED */
    LedgerCountMode count;
    uint64_t used; /* bytes of the limit: promised to machines, and mapped besides */
    uint64_t pinned;
    uint64_t peak; /* of pinned */
    uint64_t maps; /* these three: of owners that are gone, which no LedgerUsage shows any more */
    uint64_t unmaps;
    uint64_t refused;
} LedgerTenantUsage;

/* The process that has shown itself as a machine, and what is promised to it. In bytes; while it
 * maps or unmaps these need not fit together, at rest mapped is at most reserved + borrowed. */
typedef struct {
    pid_t pid; /* 0: none has */
    uint64_t start;
    char comm[LEDGER_COMM_SIZE];
    uint64_t reserved;
    uint64_t borrowed; /* mapped beyond that, of what is promised to nobody */
    uint64_t mapped;   /* as it counts: out of both */
} LedgerMachine;

/* Why nothing could be promised. */
typedef struct {
    bool host;     /* the host's budget has too little left, and not the tenant's limit */
    uint64_t left; /* bytes by which the promise could have been made larger */
} LedgerShortage;

/*
 * What one process has in one IOMMUFD, by the kernel's own structures. Charged is every mapping for
 * itself, unique is each page of its memory or of a file once, however often this process maps it
 * in this IOMMUFD. What a tenant's limit counts is LedgerTenantUsage's.
 */
typedef struct {
    uint32_t context;
    uint32_t tenant;
    uint32_t machine; /* 0: none, or not known */
    pid_t pid;
    uint64_t start;
    uint64_t pinned;  /* bytes that the kernel has pinned */
    uint64_t charged; /* bytes that the kernel has charged; at rest the same */
    uint64_t unique;  /* of the bytes pinned */
    uint64_t mapped;  /* bytes, pinned or not */
    uint64_t mapped_unique;
} LedgerMeasurement;

/* What a reconciliation has found. */
typedef struct {
    uint64_t contexts; /* walked */
    uint64_t ranges;
    uint64_t drift;    /* bytes by which the ledger was off, up or down; now repaired */
    uint64_t repaired; /* entries that were wrong or missing */
    uint64_t adopted;  /* objects that were not known */
    uint64_t unstable; /* entries that moved too fast to be judged */
} LedgerDrift;

/* What one process has mapped through VFIO's own interface (/dev/vfio/vfio, type1), which is shown
 * beside and counts against no limit. */
typedef struct {
    pid_t pid;
    uint64_t start;
    uint64_t maps;   /* mappings */
    uint64_t mapped; /* bytes */
    uint64_t pinned; /* bytes that the kernel has charged, as VmLck shows them */
} LedgerLegacy;

/* Since the tables were made, but for corrected. "lost": what found its table full. */
typedef struct {
    uint64_t lost_contexts;
    uint64_t lost_objects;
    uint64_t lost_ranges;
    uint64_t lost_usage;
    uint64_t lost_owners;
    uint64_t lost_events;
    uint64_t unknown_ioctls;
    uint64_t changed_arguments;
    uint64_t skipped;   /* hooks that did not run; a reconciliation finds what they missed */
    uint64_t corrected; /* bytes by which this Ledger's reconciliations found it to be off */
} LedgerCounters;

typedef struct {
    const char *name; /* "bpf" or "simulated" */
    /* The caller lets go of it. What was to be kept (LedgerOptions) goes on. */
    void (*free)(Ledger *ledger);

    /* Programs of another version go on beside the new ones, which have copied its tables if these
     * have the same layout, until the caller has told the new ones all that it knows (tenants,
     * IOMMUFDs, machines, devices) and calls this: the guard has no gap. */
    int (*finish_upgrade)(Ledger *ledger);
    /* A descriptor that holds the tables and must be kept open, and given to the next ledger, for
     * them to outlive the caller. Stays the ledger's. -EBADF: none is needed. */
    int (*descriptor)(Ledger *ledger);

    /* Makes the IOMMUFD fd the tenant's. flags: LedgerContextFlags. *ret_context names it below.
     * Again for the same fd: the flags change. What is mapped there already becomes the tenant's,
     * whose limit is to be set before. -EINVAL: not an IOMMUFD; -ENOMEM: no room for one more. */
    int (*register_iommufd)(Ledger *ledger, int fd, uint32_t tenant, unsigned flags,
                            uint32_t *ret_context);
    /* The bytes that the tenant may have promised or mapped (LEDGER_UNLIMITED: any), and how they
     * are counted. What is promised already stays promised. -E2BIG, -ENOMEM: no room for one more
     * tenant.
     */
    int (*set_limit)(Ledger *ledger, uint32_t tenant, uint64_t bytes, LedgerCountMode count);
    /* The tenant is gone, as are its machines: nobody maps in its IOMMUFDs any more (EDQUOT).
     * -ENOENT: not known. */
    int (*remove_tenant)(Ledger *ledger, uint32_t tenant);
    /* The same for all tenants together; without it there is no limit. */
    int (*set_budget)(Ledger *ledger, uint64_t bytes);

    /* A machine that may show itself from now on: by binding one of its devices, or by name. Again
     * for the same: it stays as it is. -EEXIST: it is another tenant's; -E2BIG, -ENOMEM: no room;
     * -EINVAL: not a machine's number. */
    int (*add_machine)(Ledger *ledger, uint32_t machine, uint32_t tenant);
    /* It is gone, and what was promised to it is given back; what it left keeps its owner, and
     * counts for its tenant, until it is destroyed. -ENOENT. */
    int (*remove_machine)(Ledger *ledger, uint32_t machine);
    /* Sets what is promised to the machine, from 0 on. What it has mapped beyond that counts as
     * promised first. Less than it has mapped: the rest counts as borrowed, until it is unmapped.
     * again: it was promised before, and is whatever is left now. -EDQUOT: there is not so much,
     * *ret_shortage (may be NULL) says whose it is, and nothing has changed; -ENOENT: no such
     * machine, or its tenant is not known. */
    int (*reserve_machine)(Ledger *ledger, uint32_t machine, uint64_t bytes, bool again,
                           LedgerShortage *ret_shortage);
    /* Whoever sets the RLIMIT_MEMLOCK of the machine's first process, but itself and the caller,
     * sets what is promised to it to `reserved` and what the new limit is above `limit`, if that is
     * more than it was; is refused (EDQUOT) if there is not so much; and an event tells of either.
     * limit 0: no longer. -ENOENT: no such machine. */
    int (*follow_limit)(Ledger *ledger, uint32_t machine, uint64_t limit, uint64_t reserved);
    /* The process is the machine (0: some process of the tenant), with what it forks and with the
     * helpers in the scope that systemd-machined has made for it. -ENOENT: no such machine;
     * -ESRCH: no such process; -EEXIST: another process has shown itself as that machine, or this
     * one as another, or as another tenant's; -E2BIG, -ENOMEM: no room. */
    int (*name_process)(Ledger *ledger, pid_t pid, uint64_t start, uint32_t machine,
                        uint32_t tenant);
    /* Who has shown itself as the machine. -ENOENT: no such machine. */
    int (*machine)(Ledger *ledger, uint32_t machine, LedgerMachine *ret_machine);

    /* The device at the PCI address ("0000:01:00.0") may be bound by who claims it here; it need
     * not be VFIO's yet. Again by the same: only the flags are new. A machine that is removed has
     * no claim any more. -EBUSY: another has it, or a device of its unit, and *ret_machine (may be
     * NULL) says which machine, 0: a tenant's processes; -EAGAIN: others claim at this moment;
     * -EINVAL: not a PCI address; -E2BIG, -ENOMEM: no room. */
    int (*admit_device)(Ledger *ledger, const char *address, const LedgerClaim *claim,
                        uint32_t *ret_machine);
    /* The machine (0: the tenant's processes) gives it back: nobody may bind it any more. -ENOENT:
     * nobody might; -EBUSY: another has it; -EINVAL: not a PCI address. */
    int (*dismiss_device)(Ledger *ledger, const char *address, uint32_t machine);
    /* Who has claimed it. -ENOENT: nobody, or a machine that is removed; -EINVAL: not a PCI
     * address. */
    int (*device)(Ledger *ledger, const char *address, LedgerClaim *ret_claim);

    /* ---- who passes files of restricted IOMMUFDs on ---- */

    /* The process may receive them to pass them on. */
    int (*trust_relay)(Ledger *ledger, pid_t pid, uint64_t start);
    /* So may the processes of these systemd units, and of no others any more, whoever has named
     * those. A unit that does not run yet is looked for again by allow_receiver(). */
    int (*set_relay_units)(Ledger *ledger, const char *const *units);
    /* The process is about to receive the tenant's IOMMUFD, and is the tenant's from now on if it
     * is no relay. Errors as of name_process(). */
    int (*allow_receiver)(Ledger *ledger, pid_t pid, uint64_t start, uint32_t tenant);

    /* ---- who has what ---- */

    /* -ENOENT. */
    int (*tenant_usage)(Ledger *ledger, uint32_t tenant, LedgerTenantUsage *ret_usage);
    /* What every owner has in every IOMMUFD, by context and owner. *ret_usage is freed with
     * g_free(). */
    int (*usage)(Ledger *ledger, LedgerUsage **ret_usage, size_t *ret_n);
    /* The objects of a context (0: of all), by context and id. *ret_objects is freed with g_free().
     */
    int (*objects)(Ledger *ledger, uint32_t context, LedgerObject **ret_objects, size_t *ret_n);
    /* One object of a context. May be called by any thread at any time. -ENOENT. */
    int (*object)(Ledger *ledger, uint32_t context, uint32_t id, LedgerObject *ret_object);
    /* By process, from the kernel's own structures. *ret_legacy is freed with g_free().
     * -EOPNOTSUPP: there are such containers, but their module was not there yet when the programs
     * were loaded. */
    int (*legacy)(Ledger *ledger, LedgerLegacy **ret_legacy, size_t *ret_n);
    int (*counters)(Ledger *ledger, LedgerCounters *ret_counters);

    /* Reads every IOMMUFD of the host from the kernel's own structures and repairs the ledger. What
     * is moving is compared twice and else left alone. Where tenants count unique bytes, what
     * overlaps is taken from what counts against their limit, until something is given back.
     * *ret_measurements is by context and process, and freed with g_free(). Every out parameter may
     * be NULL. -EAGAIN: there is too much coming and going. */
    int (*reconcile)(Ledger *ledger, LedgerDrift *ret_drift, LedgerMeasurement **ret_measurements,
                     size_t *ret_n);

    /* ---- events ---- */

    /* Becomes readable when there are events. Stays the ledger's. */
    int (*event_fd)(Ledger *ledger);
    /* Hands every waiting event to the handler. */
    int (*dispatch)(Ledger *ledger, LedgerEventHandler handler, void *data);
} LedgerOps;

/* Implementations embed this as their first member. */
struct Ledger {
    const LedgerOps *ops;
    LedgerStatus status;
};

/* Frees any ledger; accepts NULL. */
static inline void ledger_free(Ledger *ledger)
{
    if (ledger)
        ledger->ops->free(ledger);
}

/* "IOMMU_IOAS_MAP", of an event's command; "hwpt-nested". */
const char *ledger_ioctl_name(uint32_t command);
const char *ledger_object_type_name(LedgerObjectType type);
