/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The service's side of the ledger and the guard (kernel/ledger/ledger.h): tells the kernel who is
 * who, reads what everybody has, and hears of what was refused.
 *
 * The kernel knows tenants and machines by numbers. A tenant's stays until the next boot, a
 * machine's belongs to one admission; neither is ever given out again (RUNTIME_DIR/numbers).
 *
 * Where there is no ledger (books_count() is false) all functions do nothing and succeed, and what
 * is known comes from elsewhere: pinned pages from /proc, objects from probes.
 */
#pragma once

#include "dbus/core/manager.h"
#include "dbus/state/fd-store.h"
#include "kernel/ledger/ledger.h"
#include "policy/config.h"

/* Opens the host's ledger, or takes over what an earlier run has left of it, also in store. What
 * can't be had is logged, and said by the states. Never NULL. */
Books *books_new(Manager *manager, const Config *config, FdStore *store);
/* What was restored is all told by now: programs of other versions may go. */
void books_settle(Books *books);
/* The programs go on. Accepts NULL. */
void books_free(Books *books);

/* Loads the programs for a service that is about to start and may not do so itself: what could not
 * be loaded is kept for it in runtime_dir. KERNEL_REFUSED. */
gboolean books_load(Host *host, const Config *config, const char *runtime_dir, GError **error);
/* Removes what was loaded. KERNEL_REFUSED. */
gboolean books_unload(Host *host, GError **error);

/* Whether the ledger counts, and whether the guard checks. */
bool books_count(const Books *books);
bool books_guard(const Books *books);
/* Whether an argument that is changed while it is checked makes its ioctl fail. */
bool books_guard_is_exact(const Books *books);
/* "active" or "unavailable"; "enforcing", "off" or "unavailable". */
const char *books_ledger_state(const Books *books);
const char *books_guard_state(const Books *books);
/* Why it is unavailable, one sentence; "": it is not. */
const char *books_ledger_reason(const Books *books);
const char *books_guard_reason(const Books *books);
/* Whether a tenant's machines may share an IOMMUFD as far as RequireGuard= is concerned. */
bool books_may_share(const Books *books);
bool books_require_guard(const Books *books);

/* ---- who is who (books-names.c) ---- */

/* A new tenant or limit, or another way to count. */
void books_set_tenant(Books *books, TenantLife *life);
void books_remove_tenant(Books *books, TenantLife *life);
/* fd is an IOMMUFD of the tenant, shared by its machines or for one alone: it is guarded from now
 * on. KERNEL_REFUSED: it must not be handed out. */
gboolean books_register(Books *books, TenantLife *life, int fd, bool shared, GError **error);
/* A machine that may bind its devices from now on; one with legacy VFIO binds none. Again after its
 * devices have changed. */
gboolean books_admit(Books *books, MachineLife *life, GError **error);
/* It is gone from the registry, or was never there. devices were its own. */
void books_dismiss(Books *books, MachineLife *life, const char *const *devices);
/* The device is no longer a machine's, in the registry either: who has one beside it may reset
 * their bus again. */
void books_dismiss_device(Books *books, const char *address);
/* Its leader is known. INVALID_ARGUMENT: another process has shown itself as this machine. */
gboolean books_start(Books *books, MachineLife *life, pid_t pid, uint64_t start, GError **error);
/* It is not its leader after all: another process may be. */
void books_undo_start(Books *books, MachineLife *life);
/* The process is about to get the tenant's IOMMUFD. NOT_SUPPORTED: it is another's already. */
gboolean books_name_client(Books *books, TenantLife *life, pid_t pid, GError **error);
/* The systemd units that pass descriptors on, which no others do any more. */
void books_set_relay_units(Books *books, const char *const *units);
/* The message bus passes descriptors on. */
void books_trust_bus(Books *books, pid_t pid);

/* ---- what they have (books-figures.c) ---- */

typedef struct {
    uint64_t pinned;   /* bytes that the kernel has pinned */
    uint64_t orphaned; /* of these, bytes whose process is dead */
    uint64_t peak;     /* of pinned */
    uint64_t unique;   /* of pinned, each page once, as of the last look */
    uint64_t mapped;   /* bytes mapped, pinned or not */
    uint64_t maps;
    uint64_t unmaps;
    uint64_t refusals;
} Figures;

/* What a process has mapped through containers of VFIO's own (/dev/vfio/vfio, type1), as of a
 * second ago at most: pinned, unique, mapped, and as maps those that there are. False, and zeros:
 * there is no ledger, or it can't look into them. */
bool books_legacy(Books *books, pid_t pid, Figures *ret_figures);

/* Compares the books with the kernel's own structures and mends them, if the last time is that many
 * microseconds ago (longer where a look costs much), or if something was missed since. */
void books_look(Books *books, int64_t age);
/* The same, if the last time is ten seconds ago. */
void books_refresh(Books *books);
/* All in one look per turn of the event loop. False, and zeros: there is no ledger. */
bool books_machine(Books *books, const MachineLife *life, Figures *ret_figures);
bool books_tenant(Books *books, const TenantLife *life, Figures *ret_figures);
/* What one owner has pinned in an IOMMUFD; both numbers are those of a LedgerObject. */
uint64_t books_owner_pinned(Books *books, uint32_t context, uint32_t owner);
/* The objects in the tenant's shared IOMMUFD. KERNEL_REFUSED. Freed with g_free(). */
gboolean books_objects(Books *books, const TenantLife *life, LedgerObject **ret_objects,
                       size_t *ret_n, GError **error);
/* The machine with that number, or NULL. */
MachineLife *books_find_machine(const Books *books, uint32_t number);
/* Bytes by which looks into the kernel's own structures found the books to be off, all together. */
uint64_t books_drift(const Books *books);
/* Events that the ledger could not take down when they happened; the next look finds them. */
uint64_t books_missed(Books *books);
/* Ioctls that the guard does not know and has allowed (Guard=known) or refused (strict). */
uint64_t books_unknown_ioctls(Books *books);
/* For the reaper's worker. Valid as long as books. */
Ledger *books_ledger(const Books *books);
