/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A tenant, with its shared IOMMUFD and what was allocated in it over the bus. */
#pragma once

#include "dbus/core/manager.h"

/* An IOAS that AllocateIoas made. */
typedef struct {
    uint32_t id;
    Charge *charge; /* what is mapped in it */
    bool destroying;
} Ioas;

struct Tenant {
    TenantPolicy policy; /* first: the registry makes and frees tenants */
    Manager *manager;
    WriterItem record;
    uint32_t ledger_id;  /* 0: none yet */
    bool introduced;     /* the kernel was told of it */
    int iommufd;         /* shared by its machines; -EBADF: none */
    uint64_t iommufd_id; /* its name for those who pass it on, never another's; 0: none */
    uint32_t context_id; /* the same in the ledger; 0: none */
    GQueue *fresh_ids;   /* uint64_t *: IOMMUFDs for one machine that no admission has named yet */
    HostAccounting iommufd_accounting;
    uint64_t peak_pinned; /* the most that was read; the ledger may have seen more */
    GHashTable *ioases;   /* id -> Ioas, owned */
    unsigned ioas_jobs;   /* on ioases, with the worker */
};

static inline const char *tenant_id(const Tenant *tenant)
{
    return tenant->policy.config->id;
}

/* Sets up one that the registry has just made. */
void tenant_begin(Tenant *tenant, Manager *manager);
/* For the registry (RegistryTypes): closes the descriptor here, not in the fd store. */
void tenant_clear(TenantPolicy *tenant);
/* Tells the kernel of it, and its limit as of now; gives it an id for that, if it has none, which
 * is written before. KERNEL_REFUSED. */
gboolean tenant_introduce(Tenant *tenant, GError **error);
/* Marks its record to be written. */
void tenant_mark(Tenant *tenant);

/* Whether machines that are admitted now share one IOMMUFD: by its configuration, and because the
 * ledger counts and the guard checks. */
bool tenant_shares(const Tenant *tenant);
/* NOT_SUPPORTED: they don't, and why. */
gboolean tenant_need_shared(const Tenant *tenant, GError **error);
/* The shared IOMMUFD: opened, registered and put into the fd store when there is none. *ret_fresh
 * (may be NULL): whether that was now. NOT_SUPPORTED, KERNEL_REFUSED. */
gboolean tenant_open(Tenant *tenant, bool *ret_fresh, GError **error);
/* Opens and registers an IOMMUFD for one machine alone, for the caller to own; no copy is kept.
 * *ret_id (may be NULL) names it to tenant_check_given(). */
gboolean tenant_open_fresh(Tenant *tenant, int *ret_fd, uint64_t *ret_id, GError **error);
/* Whether a start that is given the IOMMUFD of this id has what a machine that is admitted now is
 * to have: the shared one, or one that no admission has named yet. NOT_ASSOCIATED. */
gboolean tenant_check_given(const Tenant *tenant, uint64_t id, const char *name, const char *uuid,
                            GError **error);
/* An admission has named it. */
void tenant_use_given(Tenant *tenant, uint64_t id);
/* Makes fd, which it takes, the shared IOMMUFD, which is in the fd store already or is put there;
 * the ledger is to be told by tenant_register_iommufd(). */
void tenant_adopt_iommufd(Tenant *tenant, int fd, bool stored);
gboolean tenant_register_iommufd(Tenant *tenant, GError **error);
/* Closes the shared IOMMUFD, here and in the fd store: with it goes all that is in it. */
void tenant_close(Tenant *tenant);
/* Closes it if its configuration says by now that it should be another kind of it, or none. */
void tenant_follow_config(Tenant *tenant);

/* The IOAS, if AllocateIoas made it and it is not being destroyed. INVALID_ARGUMENT. */
Ioas *tenant_find_ioas(const Tenant *tenant, uint32_t id, GError **error);
/* Takes charge, and marks the record. */
void tenant_add_ioas(Tenant *tenant, uint32_t id, Charge *charge);
void tenant_remove_ioas(Tenant *tenant, uint32_t id);

/* Its Machines by name and UUID; elements not owned; freed with g_ptr_array_unref(). */
GPtrArray *tenant_machines(const Tenant *tenant);
