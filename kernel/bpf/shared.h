/* SPDX-License-Identifier: GPL-2.0-only OR LGPL-2.1-or-later */
/*
 * What the BPF programs and user space both know: keys, values and messages. Plain data only.
 *
 * Pointers of the kernel appear as 64-bit numbers and serve as names, never to be followed by user
 * space. The kernel reuses addresses and pids: an address is paired with a number that is given out
 * once (a context's id, a range's in its charge), a pid with the start time of its process.
 */
#pragma once

#include <linux/types.h>

/* The layout of the maps below. Programs and maps of different layouts never share a folder. */
#define LEDGER_LAYOUT 9

#define LEDGER_PAGE_SHIFT 12
#define LEDGER_PAGE_SIZE (1ull << LEDGER_PAGE_SHIFT)
#define LEDGER_NO_LIMIT (~0ull)
/* Start times are what /proc/PID/stat shows: clock ticks of 10 ms since boot. */
#define LEDGER_NS_PER_TICK 10000000ull

/* An owner is a process and what it forked, and owns objects and pages. Never reused. */
enum ledger_owner_id {
    LEDGER_OWNER_NONE = 0,    /* not known */
    LEDGER_OWNER_SERVICE = 1, /* iommud */
    LEDGER_OWNER_FIRST = 16,
};

enum ledger_role {
    LEDGER_ROLE_USER = 0,    /* owns what it makes, and names only that */
    LEDGER_ROLE_SERVICE = 1, /* iommud: names everything */
    LEDGER_ROLE_RELAY = 2,   /* passes guarded files on: libvirtd, a D-Bus broker */
};

/* Types of objects, in numbers of our own: the kernel's differ by version and configuration. */
enum ledger_object_type {
    LEDGER_OBJECT_OTHER = 0,
    LEDGER_OBJECT_DEVICE,
    LEDGER_OBJECT_HWPT_PAGING,
    LEDGER_OBJECT_HWPT_NESTED,
    LEDGER_OBJECT_IOAS,
    LEDGER_OBJECT_ACCESS,
    LEDGER_OBJECT_FAULT,
    LEDGER_OBJECT_VIOMMU,
    LEDGER_OBJECT_VDEVICE,
    LEDGER_OBJECT_VEVENTQ,
    LEDGER_OBJECT_HW_QUEUE,
};

enum ledger_context_flags {
    LEDGER_CONTEXT_GUARDED = 1 << 0,    /* iommud registered it: its ioctls are checked */
    LEDGER_CONTEXT_SHARED = 1 << 1,     /* for more than one machine */
    LEDGER_CONTEXT_RESTRICTED = 1 << 2, /* only known processes may receive its file */
};

/* In place of a machine's id: a cgroup whose processes pass guarded files on. */
#define LEDGER_RELAY 0xffffffffu

enum ledger_guard_mode {
    LEDGER_GUARD_OFF = 0,
    LEDGER_GUARD_KNOWN = 1,  /* an unknown ioctl is allowed and counted */
    LEDGER_GUARD_STRICT = 2, /* an unknown ioctl is refused */
};

enum ledger_config_flags {
    LEDGER_CONFIG_NO_OPEN = 1 << 0,         /* a machine may not open /dev/iommu itself */
    LEDGER_CONFIG_CAN_REFUSE_LATE = 1 << 1, /* the re-check can refuse (recheck-fmodret.bpf.c) */
};

enum ledger_device_flags {
    LEDGER_DEVICE_RESET_SHARED = 1 << 0, /* its bus or slot holds another machine's device */
};

/* What a tenant's limit counts. */
enum ledger_count {
    LEDGER_COUNT_CHARGED = 0, /* every mapping */
    LEDGER_COUNT_UNIQUE = 1,  /* memory that is mapped more than once only once */
};

/* Map "loaded", one element. Written by user space only: what came of loading. */
struct ledger_report {
    __u32 active;          /* the ledger counts */
    __u32 guard_active;    /* the guard checks */
    __u32 can_refuse_late; /* the re-check can refuse, and not only kill */
    __u32 tables_used;     /* a service has worked with the maps */
    char reason[256];      /* one sentence, "" if active */
    char guard_reason[256];
};

/* Map "config", one element. Written by user space only. The map itself is also what is put into
 * the map of maps "fence" (maps.bpf.h). */
struct ledger_config {
    __u32 guard;      /* enum ledger_guard_mode */
    __u32 flags;      /* enum ledger_config_flags */
    __u32 iommu_rdev; /* /dev/iommu, as the kernel's dev_t; 0: unknown */
    __u32 vfio_major; /* of /dev/vfio/devices; 0: unknown */
    __u32 max_pages;  /* entries of the map "pages" */
    __u32 max_objects;
    __u32 extents; /* entries of the map "extents": a power of two */
    __u32 pad;
};

/* How many events were sent in the second that began at `since`. */
struct ledger_ratelimit {
    __u64 since; /* ns since boot */
    __u32 events;
    __u32 pad;
};

/* Map "state", one element. Written by programs only. "lost": what found its map full. */
struct ledger_state {
    __u32 contexts; /* ids of contexts given out */
    __u32 owners;   /* ids of owners given out, less LEDGER_OWNER_FIRST */
    __u32 changes;  /* of who is who, each of which makes struct task_state out of date */
    __u32 ranges;   /* numbers of charges given out */
    __s64 pages;    /* entries in "pages" */
    __s64 objects;  /* entries in "objects" */
    __u64 lost_contexts;
    __u64 lost_objects;
    __u64 lost_pages;
    __u64 lost_accounts;
    __u64 lost_owners;
    __u64 lost_events;
    __u64 unknown_ioctls;
    __u64 changed_arguments;
    __u32 counts_unique; /* some tenant has LEDGER_COUNT_UNIQUE, or had */
    __u32 pad;
    struct ledger_ratelimit ratelimit[2]; /* of events without an owner; as struct ledger_owner's */
};

/* Map "contexts": address of the struct iommufd_ctx -> the IOMMUFD. */
struct ledger_context {
    __u32 id; /* from 1 on; never reused */
    __u32 tenant;
    __u32 flags;  /* enum ledger_context_flags */
    __u32 max_id; /* the highest object id ever seen */
};

/* Map "objects". An entry stays until its context is closed: ids are reused. */
struct ledger_object_key {
    __u32 context; /* id */
    __u32 id;
};
struct ledger_object {
    __u64 object; /* address; 0: the id is free */
    __u64 start;  /* of the process that made it */
    __u32 tgid;
    __u32 owner;
    __u32 type; /* enum ledger_object_type */
    __u32 pad;
};

/*
 * A range's charge: the pages that the kernel has charged for it, and above them a number that is
 * this range's alone. Ranges come and go at the same addresses, and entries in the same memory: who
 * compares a charge and exchanges it knows by the number that it is still the same range's.
 *
 * In place of the pages, LEDGER_CHARGE_TAKEN is the mark of a range that is out of all sums
 * already. From then on nobody changes its entry but who has set the mark, and he only removes it:
 * the end of the range at once, a repair when no program that has found the entry before can still
 * run.
 */
#define LEDGER_CHARGE_BITS 36
#define LEDGER_CHARGE_TAKEN ((1ull << LEDGER_CHARGE_BITS) - 1)
#define LEDGER_CHARGED(charge) ((charge)&LEDGER_CHARGE_TAKEN)
#define LEDGER_CHARGE(charge, pages) (((charge) & ~LEDGER_CHARGE_TAKEN) | (pages))
#define LEDGER_IS_TAKEN(charge) (LEDGER_CHARGED(charge) == LEDGER_CHARGE_TAKEN)

/* Map "pages": address of a struct iopt_pages -> one memory range that was mapped. */
struct ledger_pages {
    __u64 bytes;  /* its length in whole pages: what it counts against the limit */
    __u64 charge; /* its number, and the pages that the kernel has charged for it */
    __u32 context;
    __u32 owner;
    __u32 tenant;
    __u32 pad;
    __u64 share; /* LEDGER_SHARE() */
};

/* Which bytes a range counts, and for whom: the number, from 1 on, of the extent to which they
 * belong, or 0 if they are its own; and the machine that they were taken from, or 0 if it was the
 * tenant. One word, so that who exchanges it has both. LEDGER_SHARE_TAKEN in its place: the range's
 * end has begun.
 */
#define LEDGER_SHARE(machine, extent) ((__u64)(machine) << 32 | (extent))
#define LEDGER_SHARE_MACHINE(share) ((__u32)((share) >> 32))
#define LEDGER_SHARE_EXTENT(share) ((__u32)(share))
#define LEDGER_SHARE_TAKEN (~0ull)

/* Map "extents": memory that several ranges of a machine map from end to end and that counts once,
 * for tenants with LEDGER_COUNT_UNIQUE (extents.h). */
#define LEDGER_EXTENT_MAX_REFS 32 /* further ranges count again */
struct ledger_extent {
    __u64 state;  /* how often it was used << 32 | being written << 31 | references */
    __u64 source; /* address of the address space or the file's inode */
    __u64 start;  /* in it, in bytes */
    __u64 bytes;
    __u32 tenant;
    __u32 machine; /* from which the bytes were taken; 0: from the tenant */
};

/* Map "processes": tgid -> a process that has used an IOMMUFD, or was named. */
struct ledger_process {
    __u64 start;
    __u32 owner;
    __u32 role; /* enum ledger_role */
};

/* Map "owners". */
struct ledger_owner {
    __u64 start;                          /* of its first process */
    struct ledger_ratelimit ratelimit[2]; /* of events on its behalf: refusals, and others */
    __u32 tgid;
    __u32 machine;
    __u32 tenant;
    __s32 processes; /* alive */
    __s32 objects;
    __s32 pages; /* entries of the map "pages" */
    __u32 pad;
    char comm[16];
};

/* Map "accounts": what an owner has in a context. Pages are those of the kernel's accounting. */
struct ledger_account_key {
    __u32 context;
    __u32 owner;
};
struct ledger_account {
    __s64 pinned; /* pages */
    __s64 peak;   /* pages */
    __s64 mapped; /* bytes */
    __u64 moves;  /* how often something was added or taken away */
    __u64 maps;
    __u64 unmaps;
    __u64 refused;
    __u32 tenant; /* of the owner, when the account was opened */
    __u32 pad;
};

/* What may be used, and what is: a tenant's or the host's (reserve.h). */
struct ledger_budget {
    __u64 limit;  /* bytes, LEDGER_NO_LIMIT: none */
    __s64 used;   /* bytes that count: promised to machines, and mapped or about to be besides */
    __s64 credit; /* of a tenant: bytes of "used" that are known to be the same memory twice */
};

/* Map "host", one element: an index of 0, and the budget of the host. */

/* Bytes that count and for which no range was seen, since a hook was skipped or a map full: they
 * stay counted until a reconciliation finds the range, or finds none. And how often that was. */
struct ledger_leaks {
    __s64 unmatched;
    __u64 count;
};

/* Map "tenants". */
struct ledger_tenant {
    struct ledger_budget budget;
    __s64 pinned; /* pages */
    __s64 peak;   /* pages */
    __u64 moves;  /* how often "pinned" has changed */
    __u64 maps;   /* these three: of accounts that are closed */
    __u64 unmaps;
    __u64 refused;
    __u64 releases; /* how often memory was given back, while some tenant counts unique bytes */
    struct ledger_leaks leaks; /* of who is no machine */
    __u32 count;               /* enum ledger_count */
    __u32 pad;
};

/*
 * Map "reservations": what a thread has taken from its machine or tenant for a mapping, and no
 * range has taken over yet. Only where a mapping is reserved before it is known to the kernel
 * (guard_context()). The end of a thread may not be seen; what stands here for one that is gone a
 * reconciliation gives back.
 */
#define LEDGER_RESERVATIONS 4096
struct ledger_reservation {
    __u64 start; /* of the thread; 0: the entry is being written, or freed */
    __u64 bytes;
    __u32 tid; /* 0: the entry is free */
    __u32 tenant;
    __u32 pad;
    __u64 share; /* LEDGER_SHARE(): as the range will have it */
};

/*
 * Map "machines", by an id that iommud gives out and never reuses. An entry stays when the machine
 * is removed, with LEDGER_ROOM_CLOSED as its room, until no program that has found it can still
 * run.
 */
struct ledger_machine {
    __u32 tenant;
    __u32 owner;           /* 0: no process is it yet */
    __u32 claimed_by_bind; /* its owner has bound its device, and iommud has not named it yet */
    __u32 has_others;      /* its owner has mapped something before it was the machine */
    /* What it may map (promise.h), in bytes. */
    __u64 reserved; /* promised to it */
    __s64 room;     /* of what it has taken from its tenant, what is not mapped */
    __u64 borrowed; /* taken from its tenant beyond what is promised */
    struct ledger_leaks leaks;
    /* RLIMIT_MEMLOCK of its process when it started, and what was promised to it then (plug.bpf.h);
     * 0: its limit is not followed. */
    __u64 plug_limit;
    __u64 plug_reserved;
};
/* Far below what any sum can come to. */
#define LEDGER_ROOM_CLOSED (-(1ll << 62))
#define LEDGER_IS_CLOSED(room) ((room) < LEDGER_ROOM_CLOSED / 2)

/* Map "devices": a device, by its name on its bus -> whose it is. */
#define LEDGER_DEVICE_NAME 24
struct ledger_device_key {
    char name[LEDGER_DEVICE_NAME]; /* "0000:01:00.0", filled up with 0, never full */
};
struct ledger_device {
    union {
        struct {
            __u32 machine; /* 0: any one process of the tenant */
            __u32 tenant;
        };
        __u64 holder; /* both; whoever exchanges it has claimed the device. 0: nobody */
    };
    __u32 owner; /* that bound it */
    __u32 flags; /* enum ledger_device_flags */
    __u32 unit;  /* 0: it is a unit by itself */
    __u32 pad;
};

/* Map "units": a number that iommud gives to what must not be parted -> the machine that has
 * claimed devices of it, and how many. */
struct ledger_unit {
    __u64 claim; /* LEDGER_CLAIM(); 0: nobody */
};
#define LEDGER_CLAIM(machine, devices) ((__u64)(machine) << 32 | (devices))
#define LEDGER_CLAIM_MACHINE(claim) ((__u32)((claim) >> 32))
#define LEDGER_CLAIM_DEVICES(claim) ((__u32)(claim))

/* Ring buffer "events". */
enum ledger_event_kind {
    LEDGER_EVENT_REFUSED = 1,      /* an ioctl, a file or a device was refused */
    LEDGER_EVENT_LIMIT,            /* a mapping beyond what was promised, and what is left */
    LEDGER_EVENT_ARGUMENT_CHANGED, /* the argument was changed behind the check: killed */
    LEDGER_EVENT_EXIT,             /* the last process of an owner is gone */
    LEDGER_EVENT_FULL,             /* a map is full, so that a mapping was refused */
    LEDGER_EVENT_PLUG,             /* a machine's limit was raised, and its promise if need be */
    LEDGER_EVENT_PLUG_REFUSED,     /* the same was refused: there is not so much to promise */
};
struct ledger_event {
    __u64 requested; /* bytes */
    __u64 left;      /* bytes */
    __u32 kind;      /* enum ledger_event_kind */
    __s32 error;     /* negative errno that was returned */
    __u32 tgid;
    __u32 machine; /* of the process, 0: none */
    __u32 tenant;
    __u32 context;
    __u32 command;        /* ioctl */
    __u32 id;             /* object that was named */
    __u32 object_machine; /* whose that object was then, 0: no machine's */
    __u32 of_host;        /* LIMIT: the host has too little left, and not the tenant */
    __u32 pad;
    char comm[16];
};

/* Arguments of the programs in control.bpf.c, by their names. "expected": what the entry had when
 * it was read; the program changes nothing if it has something else by now (-ESTALE). */
struct control_register {
    __s32 fd; /* of the caller */
    __u32 tenant;
    __u32 flags; /* enum ledger_context_flags */
    __u32 ret_context_id;
};
struct control_name_process {
    __u64 start;
    __u32 tgid;
    __u32 role;    /* enum ledger_role */
    __u32 machine; /* 0: none */
    __u32 tenant;
};
struct control_set_limit {
    __u64 limit;
    __u32 tenant;
    __u32 count; /* enum ledger_count */
};
struct control_set_budget {
    __u64 limit;
};
/* What is promised to the machine. */
/* How the machine's promise is to follow its limit, from here on. */
struct control_follow_limit {
    __u64 limit; /* 0: it is not to */
    __u64 reserved;
    __u32 machine;
    __u32 pad;
};
struct control_reserve_machine {
    __u64 bytes;
    __u32 machine;
    __u32 forced; /* whatever is left: it was promised before */
    __u64 ret_left;
    __u32 ret_of_host;
    __u32 pad;
};
struct control_admit_device {
    struct ledger_device_key device;
    __u32 tenant;
    __u32 machine;
    __u32 flags; /* enum ledger_device_flags */
    __u32 unit;
    __u32 ret_machine; /* that has the device, or its unit */
    __u32 pad;
};
struct control_dismiss_device {
    struct ledger_device_key device;
    __u32 machine; /* that has it */
    __u32 pad;
};
struct control_remove_machine {
    __u32 machine;
    __u32 pad;
};
struct control_set_dedup_credit {
    __s64 credit;
    __u64 expected_releases;
    __u32 tenant;
    __u32 pad;
};
/* Makes one range's entry what the kernel's own structure says it is; adds it if it is not known.
 */
struct control_set_range {
    __u64 pages; /* address of the range */
    __u64 bytes;
    __u64 expected_charge;
    __u64 charged; /* pages that the kernel has charged */
    __u64 start;   /* of the process, */
    __u32 tgid;    /* and its pid */
    __u32 context;
    __u32 tenant;
    __u32 known; /* the ledger has an entry */
};
struct control_remove_range {
    __u64 pages; /* address of the range */
    __u64 expected_charge;
};
struct control_close_account {
    struct ledger_account_key account;
    __u32 tenant; /* which its counters are added to */
    __u32 pad;
};
/* What an account, or a tenant, has by the entries of the map "pages". */
struct control_set_totals {
    __u64 expected_moves;
    __s64 expected_pinned;
    __s64 pinned;
    __s64 expected_mapped; /* of an account only */
    __s64 mapped;
    __u32 context;
    __u32 owner;
    __u32 tenant; /* 0: it is an account */
    __u32 pad;
};
struct control_adopt_object {
    __u64 object; /* address */
    __u64 ictx;
    __u64 start; /* of the process, */
    __u32 tgid;  /* and its pid; 0: not known */
    __u32 context;
    __u32 id;
    __u32 type;
};
struct control_remove_object {
    __u64 object; /* address */
    __u64 ictx;   /* 0: it is not known any more */
    __u32 context;
    __u32 id;
};
struct control_remove_context {
    __u64 context; /* address */
    __u32 id;
    __u32 pad;
};
struct control_remove_process {
    __u64 start;
    __u32 tgid;
    __u32 pad;
};
/* What an owner has by the entries of the other maps. */
struct control_set_counts {
    __u32 owner;
    __s32 expected_objects;
    __s32 objects;
    __s32 expected_pages;
    __s32 pages;
    __u32 pad;
};
/* Of a machine, or, if that is 0, of what its tenant's others have. */
struct control_drop_unmatched {
    __u64 expected_leaks;
    __u32 tenant;
    __u32 machine;
};
struct control_leak_reservation {
    __u64 expected_start;
    __u32 expected_tid;
    __u32 number; /* of the entry */
};

/* The walk over the kernel's own structures. */
#define LEDGER_WALK_RECORDS 4096
enum ledger_record_kind {
    LEDGER_RECORD_OBJECT = 1,
    LEDGER_RECORD_RESERVED, /* an id whose object is in the making */
    LEDGER_RECORD_AREA,
    LEDGER_RECORD_PENDING, /* an area that is being mapped: its range can't be reached from it yet
                            */
    LEDGER_RECORD_DMABUF,  /* an area that shows a device's memory: nothing is pinned or counted */
    LEDGER_RECORD_TYPE1,   /* a mapping of VFIO's own */
};
struct ledger_walk {
    __u64 context; /* address */
    __u64 iova;    /* continue with the areas of IOAS id from here, if in_areas */
    __u32 id;      /* continue with this object */
    __u32 in_areas;
    __u32 ret_records; /* that are in the map "records" now */
    __u32 ret_done;
};
struct ledger_record {
    __u64 address; /* of the object, or of the range's struct iopt_pages */
    __u64 npages;  /* of the range, not of the area */
    __u64 pinned;
    __u64 charged;
    __u64 source; /* address space or file */
    __u64 offset; /* of the range in it, in bytes */
    __u64 start;  /* of the mapping process */
    __u32 tgid;
    __u32 kind;  /* enum ledger_record_kind */
    __u32 id;    /* object, or the IOAS of the area */
    __u32 type;  /* enum ledger_object_type */
    __u32 under; /* the IOAS of a HWPT */
    __u32 pad;
};

/* /dev/vfio/vfio, as the kernel's dev_t. */
#define LEDGER_CONTAINER_RDEV (10u << 20 | 196)

/* One record of the iterator over all open files: an IOMMUFD, a device that is bound to one, or a
 * container of VFIO's own. */
struct ledger_opened {
    __u64 context; /* address; by rdev that of a container */
    __u64 start;
    __u32 tgid;
    __u32 fd;
    __u32 device; /* id of the bound device, 0: this is the IOMMUFD itself */
    __u32 rdev;
};
