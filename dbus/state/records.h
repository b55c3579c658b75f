/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the service must know after it was killed, in RUNTIME_DIR: machines/UUID, tenants/ID,
 * devices/ADDRESS, numbers, loader. Private GKeyFiles, replaced whole; /run forgets them at a
 * reboot, as the kernel forgets what they tell of.
 */
#pragma once

#include "dbus/core/manager.h"
#include "dbus/core/object-set.h"

/* Numbers that were given out to tenants and machines (books.h); 0 when there is no record. */
void state_load_numbers(const Manager *manager, uint32_t *ret_tenant, uint32_t *ret_machine);
/* KERNEL_REFUSED. */
gboolean state_save_numbers(const Manager *manager, uint32_t tenant, uint32_t machine,
                            GError **error);
/* What the loader could not load, one sentence each, or "". KERNEL_REFUSED. */
gboolean state_save_loader(const char *runtime_dir, const char *ledger, const char *guard,
                           GError **error);
/* False when no loader has run. Both freed with g_free(). */
bool state_load_loader(const char *runtime_dir, char **ret_ledger, char **ret_guard);

/* Makes the folders. KERNEL_REFUSED. */
gboolean state_prepare(const char *runtime_dir, GError **error);

/* KERNEL_REFUSED. */
gboolean state_save_machine(const MachineLife *life, GError **error);
void state_remove_machine(const Manager *manager, const char *uuid);

/* A machine's record. */
typedef struct {
    char *uuid;
    char *name;
    char *tenant;
    char **devices;
    uint64_t bytes;
    uint64_t last_pinned;
    bool iommufd;
    MachineState state;
    int64_t since;
    pid_t leader;
    uint64_t leader_start;
    uint32_t number;
    bool shares;
    bool shares_as_tenant; /* the record is of a version that went by the tenant alone */
    bool inside;
    uint64_t window;
    bool known;
    ObjectSet *objects;
} MachineRecord;

void machine_record_free(MachineRecord *record);
/* All there are; a file that can't be understood is logged and removed. Freed with
 * g_ptr_array_unref(). */
GPtrArray *state_load_machines(const Manager *manager);

/* Logs when it fails: what is lost then is only known less of. */
void state_save_tenant(const TenantLife *life);
void state_remove_tenant(const Manager *manager, const char *id);
/* Ids of all tenants that have a record. Freed with g_strfreev(). */
char **state_list_tenants(const Manager *manager);

/* A tenant's record. */
typedef struct {
    uint64_t peak_pinned;
    uint32_t number;
    Isolation isolation;
    HostAccounting accounting;
    uint64_t window;
    unsigned entered;
    ObjectSet *settled;
    GHashTable *ioases; /* id -> uint64_t * bytes mapped */
} TenantRecord;

void tenant_record_free(TenantRecord *record);
/* NULL when there is none. */
TenantRecord *state_load_tenant(const Manager *manager, const char *id);

/* The driver that a device had before Bind(). KERNEL_REFUSED. */
gboolean state_save_device(const Manager *manager, const char *address, const char *driver,
                           GError **error);
/* NULL when there is no record. Freed with g_free(). */
char *state_load_device(const Manager *manager, const char *address);
void state_remove_device(const Manager *manager, const char *address);
