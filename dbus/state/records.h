/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the service must know after it was killed, in RUNTIME_DIR: machines/UUID, tenants/ID,
 * devices/ADDRESS, numbers, loader. Private GKeyFiles, replaced whole; /run forgets them at a
 * reboot, as the kernel forgets what they tell of. Here is how they look; writer.h decides when
 * they are written.
 */
#pragma once

#include "policy/machine.h"

#include <stdbool.h>
#include <sys/types.h>

/* Makes the folders. KERNEL_REFUSED. */
gboolean records_prepare(const char *runtime_dir, GError **error);

/* ---- a machine ---- */

typedef struct {
    char *uuid;
    char *name;
    char *tenant;
    char **devices;
    uint64_t bytes; /* reserved */
    uint64_t last_pinned;
    bool iommufd;
    bool shares; /* its tenant's IOMMUFD */
    MachineState state;
    bool follows_limit; /* as in AdmissionRequest */
    /* Its leader's lock limit when it started, what was reserved then, and the limit that the
     * service has set last; 0: it does not follow it. */
    uint64_t plug_limit;
    uint64_t plug_reserved;
    uint64_t plug_lowered;
    int64_t since; /* CLOCK_MONOTONIC, µs */
    pid_t leader;  /* 0: none */
    uint64_t leader_start;
    uint32_t ledger_id; /* 0: none */
} MachineRecord;

/* Accepts NULL. */
void machine_record_free(MachineRecord *record);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MachineRecord, machine_record_free)
/* KERNEL_REFUSED. */
gboolean machine_record_save(const MachineRecord *record, const char *runtime_dir, GError **error);
/* Logs when it can't be removed. */
void machine_record_remove(const char *runtime_dir, const char *uuid);
/* All there are. A file that can't be read is logged and set aside as UUID.bad. Freed with
 * g_ptr_array_unref(). */
GPtrArray *machine_records_load(const char *runtime_dir);

/* ---- a tenant ---- */

typedef struct {
    char *id;
    uint64_t peak_pinned;
    uint32_t ledger_id;  /* 0: none */
    uint64_t iommufd_id; /* its shared IOMMUFD's; 0: none */
    Isolation isolation;
    HostAccounting accounting;
    GHashTable *ioases; /* id -> uint64_t *, bytes mapped in an IOAS that AllocateIoas made */
} TenantRecord;

/* An empty one. */
TenantRecord *tenant_record_new(const char *id);
/* Accepts NULL. */
void tenant_record_free(TenantRecord *record);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TenantRecord, tenant_record_free)
void tenant_record_add_ioas(TenantRecord *record, uint32_t id, uint64_t bytes);
/* KERNEL_REFUSED. */
gboolean tenant_record_save(const TenantRecord *record, const char *runtime_dir, GError **error);
void tenant_record_remove(const char *runtime_dir, const char *id);
/* NULL when there is none. */
TenantRecord *tenant_record_load(const char *runtime_dir, const char *id);
/* Ids of all tenants that have a record. Freed with g_strfreev(). */
char **tenant_records_list(const char *runtime_dir);

/* ---- others ---- */

/* The driver that a device had before Bind(). KERNEL_REFUSED. */
gboolean device_record_save(const char *runtime_dir, const char *address, const char *driver,
                            GError **error);
/* NULL when there is no record. Freed with g_free(). */
char *device_record_load(const char *runtime_dir, const char *address);
void device_record_remove(const char *runtime_dir, const char *address);

/* The last ids for the ledger that were given out to tenants and machines; 0 without a record. */
void numbers_record_load(const char *runtime_dir, uint32_t *ret_tenant, uint32_t *ret_machine);
/* KERNEL_REFUSED. */
gboolean numbers_record_save(const char *runtime_dir, uint32_t tenant, uint32_t machine,
                             GError **error);

/* What the loader could not load, one sentence each, or "". KERNEL_REFUSED. */
gboolean loader_record_save(const char *runtime_dir, const char *ledger, const char *guard,
                            GError **error);
/* False when no loader has run. Both freed with g_free(). */
bool loader_record_load(const char *runtime_dir, char **ret_ledger, char **ret_guard);
