/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A tenant's shared IOMMUFD, and what is known about the objects in it.
 *
 * Without the ledger the kernel does not say who made an object. What is known instead:
 *
 * - IOASes that AllocateIoas made are known by id.
 * - A start window is open while a machine of the tenant is between AdmitMachine and StartMachine
 *   (or gets a device by hotplug). QEMU allocates in that time, before anybody knows its pid. When
 *   the first machine enters the window, the objects that are there are remembered: they are
 *   "settled". What comes later may belong to a machine that is just starting, has nothing
 *   attached yet, and would be destroyed from under it.
 * - When a machine leaves the window by StartMachine, and no other has been inside since the
 *   window opened, what came in the meantime is its own. If there were two, nobody can tell.
 *
 * The reaper (reaper.h) draws its conclusions from this.
 */
#pragma once

#include "dbus/accounting/accounting.h"
#include "dbus/core/object-set.h"

typedef struct Sweep Sweep;

/* An IOAS that AllocateIoas made. */
typedef struct {
    uint32_t id;
    Charge *charge; /* what is mapped in it */
    bool going;     /* Destroy is with the worker */
} Ioas;

struct TenantLife {
    Manager *manager;
    Tenant *tenant;
    char *id;    /* also after the tenant is gone */
    bool stored; /* the IOMMUFD is in the fd store */
    uint64_t peak_pinned;
    uint32_t number;    /* for the ledger (books.h); 0: none yet */
    uint32_t context;   /* the shared IOMMUFD in the ledger; 0: none */
    GHashTable *ioases; /* id -> Ioas, owned */
    unsigned calls;     /* on ioases, with the worker */

    uint64_t window;    /* number of the window that is open, or was last */
    unsigned inside;    /* machines inside of it; 0: no window is open */
    unsigned entered;   /* machines that have been inside since it opened */
    ObjectSet *settled; /* while it is open */

    Sweep *sweep;          /* with the worker, or NULL */
    bool sweep_again;      /* something happened meanwhile */
    bool judging;          /* machines are being let go of: no sweep may begin */
    bool unfinished;       /* the last sweep left something that was in use */
    bool spared;           /* the last sweep left out objects because the window was open */
    GPtrArray *reap_calls; /* of Reap(), for the next sweep */
    sd_event_source *retry;
};

TenantLife *tenant_life_new(Manager *manager, Tenant *tenant);
/* Neither the IOMMUFD nor the fd store nor the state is touched. Accepts NULL. */
void tenant_life_free(TenantLife *life);

/* Whether the tenant's machines share one IOMMUFD. */
bool tenant_life_shares(const TenantLife *life);
/* The shared IOMMUFD: opened and put into the fd store when there is none. *ret_fresh (may be
 * NULL): whether that was now. NOT_SUPPORTED, KERNEL_REFUSED. */
gboolean tenant_life_open(TenantLife *life, bool *ret_fresh, GError **error);
/* Opens an IOMMUFD as the tenant's configuration says, for the caller to own. */
gboolean tenant_life_open_fresh(TenantLife *life, int *ret_fd, GError **error);
/* Closes the shared IOMMUFD, here and in the fd store. */
void tenant_life_close(TenantLife *life);
/* Makes fd, which it takes, the shared IOMMUFD. */
void tenant_life_adopt(TenantLife *life, int fd);

/* The objects that are in the shared IOMMUFD now; forgets what is known about others. Freed with
 * g_free(). KERNEL_REFUSED. */
gboolean tenant_life_objects(TenantLife *life, HostObject **ret_objects, size_t *ret_n,
                             GError **error);
/* The same with the result of a look that was taken elsewhere. */
void tenant_life_note_objects(TenantLife *life, const HostObject *objects, size_t n);
/* The machine that is known to have made the object, or NULL. */
MachineLife *tenant_life_owner(TenantLife *life, HostObject object);
/* Whether AllocateIoas made it. */
bool tenant_life_made(const TenantLife *life, HostObject object);
void tenant_life_free_ioas(void *ioas);

/* The machine enters the start window. KERNEL_REFUSED. */
gboolean tenant_life_enter(TenantLife *life, MachineLife *machine, GError **error);
/* What is new since the window opened is the machine's, which is inside: adds it to its objects.
 * False when that can't be told, because it was not alone. */
bool tenant_life_attribute(TenantLife *life, MachineLife *machine);
/* The machine leaves the window. When it was the last, what had to wait for that is swept, and
 * reaping machines may be gone afterwards. Nothing happens when it is not inside. */
void tenant_life_leave(TenantLife *life, MachineLife *machine);
/* Opens the window anew for the only machine inside: all that is there by now is settled. */
gboolean tenant_life_renew_window(TenantLife *life, MachineLife *machine, GError **error);

/* All figures; without the ledger those that are known without it. */
void tenant_life_figures(TenantLife *life, Figures *ret_figures);
/* Bytes that are pinned now, and bytes whose process is dead. */
uint64_t tenant_life_pinned(TenantLife *life);
uint64_t tenant_life_orphaned(TenantLife *life);

/* The tenant's machines by name; elements not owned; freed with g_ptr_array_unref(). */
GPtrArray *tenant_life_machines(TenantLife *life);
