/* SPDX-License-Identifier: GPL-2.0-only OR LGPL-2.1-or-later */
/*
 * What the BPF programs and user space both know: keys, values and messages. Plain data only.
 *
 * Pointers of the kernel appear as 64-bit numbers and serve as names, never to be followed by user
 * space. Everything that can be reused by the kernel (a context's address, a pid) is paired with
 * something that can't (a serial number, a start time).
 */
#pragma once

#include <linux/types.h>

/* The layout of the maps below. Programs and maps of different layouts never share a folder. */
#define LEDGER_LAYOUT 7

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
    LEDGER_ROLE_CARRIER = 2, /* passes guarded files on: libvirtd, a D-Bus broker */
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
    LEDGER_CONTEXT_GUARDED = 1 << 0,       /* iommud registered it: its ioctls are checked */
    LEDGER_CONTEXT_SHARED = 1 << 1,        /* for more than one machine */
    LEDGER_CONTEXT_CLOSED_CIRCLE = 1 << 2, /* only known processes may receive its file */
};

/* In place of a machine's number: a cgroup whose processes pass guarded files on. */
#define LEDGER_CARRIER 0xffffffffu

enum ledger_guard_mode {
    LEDGER_GUARD_OFF = 0,
    LEDGER_GUARD_KNOWN = 1,  /* an unknown ioctl is allowed and counted */
    LEDGER_GUARD_STRICT = 2, /* an unknown ioctl is refused */
};

enum ledger_config_flags {
    LEDGER_CONFIG_NO_OPEN = 1 << 0, /* a machine may not open /dev/iommu itself */
    LEDGER_CONFIG_EXACT = 1 << 1,   /* what iommufd has copied is checked where it can be refused */
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
    __u32 active;
    __u32 guarding;
    __u32 exact;
    __u32 used;       /* a service has worked with it */
    char reason[256]; /* one sentence, "" if active */
    char guard_reason[256];
};

/* Map "config", one element. Written by user space only. It is also what is put into the map
 * "fence": the kernel then waits until no program is in the middle of anything. */
struct ledger_config {
    __u32 guard;      /* enum ledger_guard_mode */
    __u32 flags;      /* enum ledger_config_flags */
    __u32 iommu_rdev; /* /dev/iommu, as the kernel's dev_t; 0: unknown */
    __u32 vfio_major; /* of /dev/vfio/devices; 0: unknown */
    __u32 max_pages;  /* entries of the map "pages" */
    __u32 max_objects;
    __u32 places; /* entries of the map "places": a power of two */
    __u32 pad;
};

/* Map "state", one element. Written by programs only. "lost": what found its map full. */
struct ledger_state {
    __u32 contexts; /* serial numbers given out */
    __u32 owners;   /* owners given out, less LEDGER_OWNER_FIRST */
    __u32 changes;  /* in who is who: what threads know about themselves is old then */
    __u32 ranges;   /* entries of "pages" that there have ever been */
    __s64 pages;    /* entries in "pages" */
    __s64 objects;  /* entries in "objects" */
    __u64 lost_contexts;
    __u64 lost_objects;
    __u64 lost_pages;
    __u64 lost_books;
    __u64 lost_owners;
    __u64 lost_events;
    __u64 unknown_ioctls;
    __u64 tampered;
    __u64 window[2]; /* of events of nobody known: refusals, and limit hits */
    __u32 events[2];
};

/* Map "contexts": address of the struct iommufd_ctx -> the IOMMUFD. */
struct ledger_context {
    __u32 serial;
    __u32 tenant;
    __u32 flags;  /* enum ledger_context_flags */
    __u32 max_id; /* the highest object id ever seen */
};

/* Map "objects". An entry stays until its context is closed: ids are reused. */
struct ledger_object_key {
    __u32 context; /* serial */
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
 * A range's charge: the pages that the kernel has charged for it, and above them the number of this
 * entry. Ranges come and go at the same addresses, and entries at the same places in memory: who
 * exchanges a charge for another knows by its number that it was the same range's all the time.
 *
 * In place of the pages, "taken" is the mark of a range that is out of the books already, by
 * whoever has set it. Nobody then touches the entry but to remove it. A range's own end removes it
 * at once; what was taken by a look stays until no program can be in the middle of it.
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
    __u32 place; /* its number from 1 on, to which the bytes belong; 0: they are its own */
};
#define LEDGER_PLACE_TAKEN (~0u) /* the range's end has begun */

/*
 * Map "places": memory that several ranges map from end to end and that counts once, for tenants
 * with LEDGER_COUNT_UNIQUE.
 */
#define LEDGER_COPIES 32 /* holders of a place; further ranges count again */
struct ledger_place {
    __u64 state;  /* how often it was used << 32 | being written << 31 | holders */
    __u64 source; /* address of the address space or the file */
    __u64 start;  /* in it, in bytes */
    __u64 bytes;
    __u32 tenant;
    __u32 pad;
};

/* Map "processes": tgid -> a process that has used an IOMMUFD, or was named. */
struct ledger_process {
    __u64 start;
    __u32 owner;
    __u32 role; /* enum ledger_role */
};

/* Map "owners". */
struct ledger_owner {
    __u64 start;     /* of its first process */
    __u64 window[2]; /* of events that were sent on its behalf: refusals, and limit hits */
    __u32 tgid;
    __u32 machine;
    __u32 tenant;
    __s32 processes; /* alive */
    __s32 objects;
    __s32 pages; /* entries of the map "pages" */
    __u32 events[2];
    char comm[16];
};

/* Map "books": what an owner has in a context. Pages are those of the kernel's accounting. */
struct ledger_book_key {
    __u32 context;
    __u32 owner;
};
struct ledger_book {
    __s64 pinned; /* pages */
    __s64 peak;   /* pages */
    __s64 mapped; /* bytes */
    __u64 moves;  /* how often something was added or taken away */
    __u64 maps;
    __u64 unmaps;
    __u64 refused;
    __u32 tenant; /* of the owner, when the book was opened */
    __u32 pad;
};

/* Map "tenants". */
struct ledger_tenant {
    __u64 limit;  /* bytes, LEDGER_NO_LIMIT: none */
    __s64 mapped; /* bytes that count: mapped and about to be */
    __s64 credit; /* bytes of "mapped" that are known to be the same memory twice */
    __s64 pinned; /* pages */
    __s64 peak;   /* pages */
    __u64 moves;  /* how often "pinned" has changed */
    __u64 maps;   /* these three: of books that are closed */
    __u64 unmaps;
    __u64 refused;
    __u64 releases; /* how often memory was given back */
    /* Bytes of "mapped" for which no range was seen, since a hook was skipped or a map full: they
     * stay counted until a walk finds the range, or finds none. And how often that happened. */
    __s64 unsettled;
    __u64 losses;
    __u32 count; /* enum ledger_count */
    __u32 pad;
};

/* Map "machines". Tokens are iommud's; it never reuses one. */
struct ledger_machine {
    __u32 tenant;
    __u32 owner;   /* 0: it has not shown itself yet */
    __u32 claimed; /* by binding a device, nobody has confirmed it */
    __u32 pad;
};

/* Map "devices": a device, by its name on its bus -> whose it is. */
#define LEDGER_DEVICE_NAME 16
struct ledger_device_key {
    char name[LEDGER_DEVICE_NAME]; /* "0000:01:00.0", filled up with 0; never full */
};
struct ledger_device {
    __u32 tenant;
    __u32 machine; /* 0: any one process of the tenant */
    __u32 owner;   /* that bound it */
    __u32 flags;   /* enum ledger_device_flags */
};

/* Ring buffer "events". */
enum ledger_event_kind {
    LEDGER_EVENT_REFUSED = 1, /* an ioctl, a file or a device was refused */
    LEDGER_EVENT_LIMIT,       /* a mapping would have taken the tenant above its limit */
    LEDGER_EVENT_TAMPERED,    /* the argument was changed behind the check: killed */
    LEDGER_EVENT_EXIT,        /* the last process of an owner is gone */
    LEDGER_EVENT_FULL,        /* a map is full, so that a mapping was refused */
};
struct ledger_event {
    __u64 asked; /* bytes */
    __u64 left;  /* bytes */
    __u32 kind;  /* enum ledger_event_kind */
    __s32 error; /* negative errno that was returned */
    __u32 tgid;
    __u32 machine; /* of the process, 0: none */
    __u32 tenant;
    __u32 context;
    __u32 command;        /* ioctl */
    __u32 id;             /* object that was named */
    __u32 object_machine; /* whose that object was then, 0: no machine's */
    char comm[16];
};

/* Arguments of the programs that user space runs (BPF_PROG_RUN). */
struct ledger_register {
    __s32 fd; /* of the caller */
    __u32 tenant;
    __u32 flags;
    __u32 ret_serial;
    __u64 ret_context;
};
struct ledger_name {
    __u64 start;
    __u32 tgid;
    __u32 role;
    __u32 machine;
    __u32 tenant;
    __u32 ret_owner;
    __u32 pad;
};
struct ledger_limit {
    __u64 limit;
    __u32 tenant;
    __u32 count;
};
struct ledger_admit {
    struct ledger_device_key device;
    __u32 tenant;
    __u32 machine;
    __u32 flags;
    __u32 pad;
};
struct ledger_credit {
    __s64 credit;
    __u64 releases; /* as they were when the walk began */
    __u32 tenant;
    __u32 pad;
};
struct ledger_forget {
    __u32 machine;
    __u32 pad;
};
/* Makes one range's entry what the kernel's own structure says it is. */
struct ledger_mend {
    __u64 pages;
    __u64 bytes;
    __u64 was; /* its charge, as the ledger has it */
    __u64 is;  /* pages that the kernel has charged */
    __u64 start;
    __u32 tgid;
    __u32 context;
    __u32 tenant;
    __u32 known; /* the ledger has it */
};
/* Takes a range out of the books whose end was missed. Its entry stays, as taken. */
struct ledger_drop {
    __u64 pages;
    __u64 was; /* its charge, as the ledger has it */
};
/* Closes a book in which nothing is left, and adds what it has counted to the tenant's account. */
struct ledger_retire {
    struct ledger_book_key book;
    __u32 tenant;
    __u32 pad;
};
/* What a book, or a tenant's account, is by the entries of the map "pages". */
struct ledger_balance {
    __u64 moves; /* as they were before the entries were looked at */
    __s64 pinned_was;
    __s64 pinned_is;
    __s64 mapped_was; /* of a book only */
    __s64 mapped_is;
    __u32 context;
    __u32 owner;
    __u32 tenant; /* 0: it is a book, and no account */
    __u32 pad;
};
struct ledger_seed {
    __u64 object;
    __u64 ictx;
    __u64 start;
    __u32 tgid;
    __u32 context;
    __u32 id;
    __u32 type;
};

/* Removes an object's entry whose end was missed. */
struct ledger_free {
    __u64 object;
    __u64 ictx; /* 0: it is not known any more */
    __u32 context;
    __u32 id;
};
/* The end of a context, or of a process, was missed. */
struct ledger_close {
    __u64 context; /* address */
    __u32 serial;
    __u32 pad;
};
struct ledger_bury {
    __u64 start;
    __u32 tgid;
    __u32 pad;
};
/* What an owner has by the entries of the other maps. */
struct ledger_recount {
    __u32 owner;
    __s32 objects_was;
    __s32 objects_is;
    __s32 pages_was;
    __s32 pages_is;
    __u32 pad;
};
/* Gives back what no range has turned up for. */
struct ledger_settle {
    __u64 losses; /* as they were before the walk */
    __u32 tenant;
    __u32 pad;
};

/* The walk over the kernel's own structures. */
#define LEDGER_WALK_ROWS 4096
enum ledger_row_kind {
    LEDGER_ROW_OBJECT = 1,
    LEDGER_ROW_RESERVED, /* an id whose object is in the making */
    LEDGER_ROW_AREA,
    LEDGER_ROW_PENDING, /* an area that is being mapped: its range can't be reached from it yet */
    LEDGER_ROW_DMABUF,  /* an area that shows a device's memory: nothing is pinned or counted */
    LEDGER_ROW_TYPE1,   /* a mapping of VFIO's own */
};
struct ledger_walk {
    __u64 context; /* address */
    __u64 iova;    /* continue with the areas of IOAS id from here, if in_areas */
    __u32 id;      /* continue with this object */
    __u32 in_areas;
    __u32 ret_rows; /* rows that are in the map "rows" now */
    __u32 ret_done;
};
struct ledger_row {
    __u64 address; /* of the object, or of the range's struct iopt_pages */
    __u64 iova;
    __u64 last;   /* inclusive */
    __u64 npages; /* of the range, not of the area */
    __u64 pinned;
    __u64 charged;
    __u64 source; /* address space or file */
    __u64 offset; /* of the range in it, in bytes */
    __u64 first;  /* page of the range at which the area begins */
    __u64 start;  /* of the mapping process */
    __u32 tgid;
    __u32 kind;  /* enum ledger_row_kind */
    __u32 id;    /* object, or the IOAS of the area */
    __u32 type;  /* enum ledger_object_type */
    __u32 under; /* the IOAS of a HWPT */
    __u32 mode;  /* of accounting */
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
