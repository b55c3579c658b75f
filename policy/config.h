/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Configuration: CONFIG_DIR/iommud.conf, and one file per tenant in CONFIG_DIR/tenants.d and in
 * STATE_DIR/tenants.d (those that CreateTenant made). GKeyFile; an unknown group or key is an
 * error. Everything is read and checked before any of it is taken over.
 *
 *   iommud.conf                     tenants.d/acme.conf
 *   [Host]                          [Tenant]
 *   Budget=90%|64G|infinity         Id=acme          (default: the file's name)
 *   [Tenants]                       Limit=64G|infinity
 *   Default=acme                    Count=charged|unique
 *   [Machines]                      Isolation=tenant|machine
 *   AdmissionTimeout=600            Accounting=process|user
 *   [Kernel]                        Devices=0000:81:00.*;10de:*;
 *   Guard=off|known|strict
 *   RequireGuard=yes|no
 *   DirectOpen=yes|no
 *   FdRelayUnits=libvirtd.service;...
 *   MaxIommufds=4096, MaxObjects=65536, MaxMappings=65536, MaxProcesses=8192
 */
#pragma once

#include "policy/tenant.h"

/* What the kernel component checks on the IOMMUFDs that iommud opened. */
typedef enum {
    GUARD_OFF,
    GUARD_KNOWN,  /* ioctls that it does not know are allowed, and counted */
    GUARD_STRICT, /* they are refused */
} Guard;

/* "off"/"known"/"strict". */
ENUM_DECLARE(guard, Guard)

typedef struct {
    uint64_t budget;            /* bytes; SIZE_INFINITY: none. Used when budget_percent is 0 */
    unsigned budget_percent;    /* of the host's memory, 1 to 100; 0: budget is meant */
    char *default_tenant;       /* for machines that name none; NULL: they are refused */
    unsigned admission_timeout; /* seconds after which an unstarted machine gives back */
    Guard guard;
    bool require_guard; /* without it no IOMMUFD is shared */
    bool direct_open;   /* machines may open /dev/iommu themselves */
    char **relay_units; /* systemd units that pass IOMMUFDs on */
    /* For how many of these, on the whole host, the kernel component has room. */
    unsigned max_iommufds, max_objects, max_mappings, max_processes;
    GPtrArray *tenants; /* owned TenantConfig */
} Config;

/* The defaults: Budget=100%, no default tenant, AdmissionTimeout=600, Guard=known,
 * RequireGuard=yes, DirectOpen=yes, the units of D-Bus and libvirt as relay units, room for 4096
 * IOMMUFDs, 65536 objects, 65536 mappings and 8192 processes, no tenant. */
Config *config_new(void);
/*
 * Reads both folders. Missing folders and files are the defaults; in tenants.d, files whose name
 * starts with '.' or does not end in ".conf" are ignored. Tenants are sorted by id. Those of
 * CONFIG_DIR have their file as source; those of STATE_DIR have none, and step back where
 * CONFIG_DIR has a tenant of the same id.
 * INVALID_ARGUMENT names file, group and key: a file over 1 MiB, not regular, or not UTF-8; an
 * unknown group or key; a value that is none; a tenant that two files of a folder define.
 */
Config *config_load(const char *config_dir, const char *state_dir, GError **error);
/* Accepts NULL. */
void config_free(Config *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Config, config_free)

/* The host budget in bytes on a host with so much memory. */
uint64_t config_host_budget(const Config *config, uint64_t memory_total);

/* The two kinds of files, as text; file stands in messages, and its name is the tenant's default
 * id. What a failed config_parse() has put into config is undefined. */
gboolean config_parse(Config *config, const char *file, const char *data, size_t length,
                      GError **error);
TenantConfig *tenant_config_parse(const char *file, const char *data, size_t length,
                                  GError **error);
/* What tenant_config_parse() reads. Freed with g_free(). */
char *tenant_config_to_data(const TenantConfig *config);

/* Writes STATE_DIR/tenants.d/ID.conf (0600) whole and durably (temporary file, fsync, rename), or
 * removes it; a file that is not there is removed already. Missing folders are made (0700).
 * INVALID_ARGUMENT: the id; KERNEL_REFUSED: the file could not be written or removed. */
gboolean tenant_config_save(const TenantConfig *config, const char *state_dir, GError **error);
gboolean tenant_config_remove(const char *id, const char *state_dir, GError **error);
