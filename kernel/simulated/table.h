/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The content of a simulated IOMMUFD's memfd: objects by id, and records of what is mapped; and
 * beside each what the simulated ledger knows about it, as the kernel's ledger keeps its own
 * tables.
 *
 * The memfd is as long as the table at its fullest, but sparse: memory is used for what was
 * written. All functions here and in the other files of this folder are called under sim_lock, and
 * work on tables that one process changes at a time: iommud, and after its restart the next iommud.
 */
#pragma once

#include "kernel/host/host.h"

#include <glib.h>

#define SIM_OBJECTS_MAX 65536
#define SIM_RECORDS_MAX 262144
#define SIM_PAGE UINT64_C(4096)

/* Of everything simulated in this process. */
extern GMutex sim_lock;
#define SIM_LOCKED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&sim_lock)

/* Who made an object: a process that a recycled pid is not taken for. */
typedef struct {
    uint64_t start_time;
    int32_t pid;
} SimOwner;

typedef struct {
    uint32_t type;    /* LedgerObjectType; 0: the id is free, and no OTHER is ever made here */
    uint32_t parent;  /* HWPT: its IOAS; DEVICE: the HWPT it is attached to */
    uint32_t users;   /* objects whose parent this is */
    uint32_t areas;   /* IOAS: record of the first area, by ascending IOVA */
    uint32_t allowed; /* IOAS: record of the first range that may be allocated from, likewise */
    char address[PCI_ADDRESS_SIZE]; /* DEVICE */
    SimOwner owner;
} SimObject;

typedef enum {
    SIM_RECORD_FREE,
    SIM_RECORD_AREA,    /* a mapped range of an IOAS */
    SIM_RECORD_ALLOWED, /* a range for IOMMU_IOAS_ALLOW_IOVAS */
    SIM_RECORD_PAGES,   /* memory behind areas, shared by copies: the kernel's iopt_pages */
} SimRecordKind;

typedef struct {
    uint32_t kind;
    union {
        uint32_t next; /* of its list; 0: the last */
        uint32_t refs; /* PAGES: areas */
    };
    union {
        uint32_t pages;   /* AREA */
        uint32_t pinners; /* PAGES: areas in an IOAS that has a page table */
    };
    int32_t pid; /* PAGES: who mapped them, and is charged */
    union {
        uint64_t start;
        uint64_t start_time; /* PAGES */
    };
    union {
        uint64_t last;
        uint64_t bytes; /* PAGES */
    };
    uint64_t source; /* PAGES: the address space or file that the memory is of, */
    uint64_t offset; /* and where in it */
} SimRecord;

/* What the ledger knows of the object with the same index. */
typedef struct {
    uint32_t type;  /* LedgerObjectType; 0: it knows of none */
    uint32_t owner; /* its number, 0: not known */
    SimOwner maker;
} SimKnownObject;

/* What the ledger knows of the PAGES record with the same index. */
typedef struct {
    uint32_t known; /* it knows of it */
    uint32_t owner;
    uint32_t tenant;
    uint32_t machine; /* from which its bytes are taken; 0: from the tenant */
    uint64_t bytes;
    uint64_t charged; /* bytes that are pinned */
    uint64_t source;
    uint64_t offset;
} SimKnownRange;

/* What the ledger knows of the IOMMUFD. */
typedef struct {
    uint64_t ledger;     /* whose knowledge all this is; another ledger has none */
    uint32_t context_id; /* the context's number */
    uint32_t tenant;
    uint32_t flags;     /* LedgerContextFlags */
    uint32_t n_objects; /* the highest id that it has known */
    uint32_t n_ranges;  /* the highest record that it has known */
    uint32_t unused;
} SimKnownContext;

typedef struct {
    uint64_t magic;
    uint32_t n_objects;    /* the highest used id */
    uint32_t lowest_free;  /* no id below it is free */
    uint32_t n_devices;    /* DEVICE objects, of the living and the dead */
    uint32_t n_records;    /* the highest record that was ever used */
    uint32_t free_records; /* list of the free ones below it */
    uint64_t pinned;       /* bytes */
    SimKnownContext known;
    SimObject objects[SIM_OBJECTS_MAX]; /* by id; ids start at 1 */
    SimRecord records[SIM_RECORDS_MAX]; /* 0 is no record */
    SimKnownObject known_objects[SIM_OBJECTS_MAX];
    SimKnownRange known_ranges[SIM_RECORDS_MAX];
} SimTable;

/* Who wants to hear of what happens in tables, as the ledger's programs do in the kernel. */
typedef struct {
    /* This process has come across the IOMMUFD. */
    void (*opened)(SimTable *table);
    void (*object_made)(SimTable *table, uint32_t id);
    /* Before it is gone. */
    void (*object_freed)(SimTable *table, uint32_t id);
    void (*range_made)(SimTable *table, uint32_t record);
    /* Its first page table came, or its last one went. */
    void (*range_charged)(SimTable *table, uint32_t record);
    /* Before it is gone. */
    void (*range_freed)(SimTable *table, uint32_t record);
    /* Nobody has the IOMMUFD open any more. */
    void (*closed)(SimTable *table);
} SimObserver;

/* From now on; NULL: nobody. */
void sim_table_observe(const SimObserver *observer);
void sim_table_note_opened(SimTable *table);
void sim_table_note_closed(SimTable *table);

/* Whoever worked on the table may have been killed in the middle of a call, which a kernel would
 * have finished: what follows from the rest is made so again. */
void sim_table_repair(SimTable *table);

/* The owner that pid is now. -ESRCH: no such process, or a zombie. */
int sim_owner_of(pid_t pid, SimOwner *ret_owner);
bool sim_owner_equal(const SimOwner *a, const SimOwner *b);
bool sim_owner_alive(const SimOwner *owner);

bool sim_table_has_capacity(const SimTable *table, uint32_t objects, uint32_t records);
/* An object with the lowest free id, as xa_alloc() finds it. The caller has made sure of the room.
 */
uint32_t sim_object_new(SimTable *table, LedgerObjectType type, const SimOwner *owner);
void sim_object_free(SimTable *table, uint32_t id);
/* The object of that type, or NULL. */
SimObject *sim_table_object(SimTable *table, uint32_t id, LedgerObjectType type);

/* A record of the kind, zeroed. The caller has made sure of the room. */
uint32_t sim_record_new(SimTable *table, SimRecordKind kind);
void sim_record_free(SimTable *table, uint32_t record);

/* PAGES with the memory of the owner; what maps them holds them. */
uint32_t sim_pages_new(SimTable *table, const SimOwner *owner, uint64_t source, uint64_t offset,
                       uint64_t bytes);
void sim_pages_pin(SimTable *table, uint32_t pages);
void sim_pages_unpin(SimTable *table, uint32_t pages);
void sim_pages_hold(SimTable *table, uint32_t pages);
/* Freed by the last. */
void sim_pages_drop(SimTable *table, uint32_t pages);

/* A DEVICE goes with its process: the kernel unbinds it when the VFIO descriptor closes. Here that
 * is made up for whenever somebody looks. Whether the device is still there. */
bool sim_device_lives(SimTable *table, uint32_t id);
/* Whether a living process has the device bound here. */
bool sim_table_binds(SimTable *table, const char *address);
/* Whether a living process has a device attached to the page table. */
bool sim_hwpt_attached(SimTable *table, uint32_t hwpt);
/* The same of any page table of the IOAS. */
bool sim_ioas_attached(SimTable *table, uint32_t ioas);
/* Removes the devices of processes that are dead, of those whose pids are in the set. Whether these
 * have left anything here. */
bool sim_table_remove_dead(SimTable *table, GHashTable *pids);

/* Whether the process made anything here that is still there. */
bool sim_table_has_owner(const SimTable *table, const SimOwner *owner);
bool sim_table_has_living_owner(const SimTable *table);
/* Bytes that the process has pinned here. */
uint64_t sim_table_pinned_by(const SimTable *table, const SimOwner *owner);
