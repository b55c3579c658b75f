/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One simulated IOMMUFD: a memfd whose content is the table below, mapped shared.
 *
 * The memfd is as long as the table at its fullest, but sparse: memory is used for what was
 * written, 8 KiB for an IOMMUFD with some fifty objects. All functions here and in
 * kernel/simulated/ioas.h are called under the one lock of kernel/simulated/host.c, and work on
 * tables that one process changes at a time: iommud, and after its restart the next iommud.
 */
#pragma once

#include "kernel/host/host.h"

#define SIM_OBJECTS_MAX 65536
#define SIM_RECORDS_MAX 262144

/* Who made an object: a process that a recycled pid is not taken for. */
typedef struct {
    uint64_t start_time;
    int32_t pid;
} SimOwner;

typedef struct {
    uint32_t type;    /* HostObjectType + 1; 0: the id is free */
    uint32_t parent;  /* HWPT: its IOAS; DEVICE: the HWPT it is attached to */
    uint32_t users;   /* objects whose parent this is */
    uint32_t areas;   /* IOAS: record of the first area, by ascending IOVA */
    uint32_t allowed; /* IOAS: record of the first range that may be allocated from, likewise */
    SimOwner owner;
    char address[PCI_ADDRESS_SIZE]; /* DEVICE */
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
} SimRecord;

typedef struct {
    uint64_t magic;
    uint32_t mode;                      /* HostAccounting */
    uint32_t n_objects;                 /* the highest used id */
    uint32_t lowest_free;               /* no id below it is free */
    uint32_t n_devices;                 /* DEVICE objects, of the living and the dead */
    uint32_t n_records;                 /* the highest record that was ever used */
    uint32_t free_records;              /* list of the free ones below it */
    uint64_t pinned;                    /* bytes */
    SimObject objects[SIM_OBJECTS_MAX]; /* by id; ids start at 1 */
    SimRecord records[SIM_RECORDS_MAX]; /* 0 is no record */
} SimTable;

int sim_iommufd_create(HostAccounting mode, int *ret_fd);
/* The table of fd, mapped for as long as sim_iommufd_refresh() finds it in use. -ENOTTY: fd is
 * something else. */
int sim_iommufd_get(int fd, SimTable **ret_table);

/* Looks which IOMMUFDs are still open: those that this process holds, as does the kernel's file
 * table, and those on which a living process plays, whose descriptor is imaginary. Forgets the
 * others. */
void sim_iommufd_refresh(void);
/* Forgets all. */
void sim_iommufd_forget(void);

/* Calls visit for each known table until it returns true, which is the result. */
bool sim_iommufd_any(bool (*visit)(SimTable *table, void *data), void *data);

/* The owner that pid is now. -ESRCH: no such process, or a zombie. */
int sim_owner_of(pid_t pid, SimOwner *ret_owner);

/* New objects; the caller has made sure of their room with sim_table_has_room(). */
uint32_t sim_ioas_new(SimTable *table, const SimOwner *owner);
uint32_t sim_hwpt_new(SimTable *table, const SimOwner *owner, uint32_t ioas);
uint32_t sim_device_new(SimTable *table, const SimOwner *owner, uint32_t hwpt, const char *address);
void sim_device_attach(SimTable *table, uint32_t device, uint32_t hwpt);
bool sim_table_has_room(const SimTable *table, uint32_t objects, uint32_t records);

/* The IOAS, or NULL. */
SimObject *sim_table_ioas(SimTable *table, uint32_t id);

/* Whether a living process has the device bound here. */
bool sim_table_binds(SimTable *table, const char *address);
/* Whether a living process has a device attached to a page table of the IOAS. */
bool sim_ioas_attached(SimTable *table, uint32_t ioas);
/* Whether the process made anything here that is still there. */
bool sim_table_has_owner(const SimTable *table, const SimOwner *owner);
/* Bytes that the process has pinned here. */
uint64_t sim_table_pinned_by(const SimTable *table, const SimOwner *owner);

/* As HostOps.objects() and HostOps.object_destroy(). */
void sim_table_objects(SimTable *table, HostObject **ret_objects, size_t *ret_n);
int sim_table_destroy(SimTable *table, uint32_t id);

/* A record of the kind, zeroed. The caller has made sure of the room. */
uint32_t sim_record_new(SimTable *table, SimRecordKind kind);
void sim_record_free(SimTable *table, uint32_t record);
