/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The service's side of the ledger and the guard (kernel/ledger/ledger.h): tells the kernel who is
 * who, reads what everybody has, and hands on what the kernel has refused. Tenants and machines are
 * ids here (state/numbers.h); whose they are is core's to know.
 *
 * Where there is no ledger the functions that tell do nothing and succeed, and those that read say
 * that nothing is known.
 */
#pragma once

#include "dbus/base/sd-cleanup.h"
#include "kernel/base/pidref.h"
#include "kernel/host/host.h"
#include "policy/config.h"

typedef struct Accounting Accounting;

typedef struct {
    sd_event *event;
    Host *host;
    const Config *config;
    const char *runtime_dir; /* of the loader's record */
    int descriptor;          /* the ledger's, kept by an earlier run (fd-store.h), or -EBADF */
} AccountingSetup;

/* Opens the ledger, or takes over the one that an earlier run has left. What can't be had is
 * logged, and said by the states. Never NULL. */
Accounting *accounting_new(const AccountingSetup *setup);
/* Who hears of events from now on. The handler may mark and queue, but not free the accounting. */
void accounting_set_handler(Accounting *accounting, LedgerEventHandler handler, void *data);
/* What was restored is all told by now: programs of other versions may go. */
void accounting_finish_start(Accounting *accounting);
/* The ledger goes on. Accepts NULL. */
void accounting_free(Accounting *accounting);

/* Loads the programs for a service that is about to start and may not do so itself: what could not
 * be loaded is kept for it in runtime_dir. KERNEL_REFUSED. */
gboolean accounting_load(Host *host, const Config *config, const char *runtime_dir, GError **error);
/* Removes programs and maps. KERNEL_REFUSED. */
gboolean accounting_unload(Host *host, GError **error);

/* Whether the ledger counts, whether the guard checks, and whether an argument that is changed
 * while it is checked makes its ioctl fail. */
bool accounting_is_active(const Accounting *accounting);
bool accounting_guard_is_active(const Accounting *accounting);
bool accounting_guard_rechecks(const Accounting *accounting);
/* "active" or "unavailable"; "enforcing", "off" or "unavailable"; and one sentence on why, or "".
 */
const char *accounting_ledger_state(const Accounting *accounting);
const char *accounting_ledger_reason(const Accounting *accounting);
const char *accounting_guard_state(const Accounting *accounting);
const char *accounting_guard_reason(const Accounting *accounting);
/* Whether a tenant's machines may share an IOMMUFD: the ledger counts, and the guard checks unless
 * RequireGuard=no says that a tenant is one trust domain. */
bool accounting_allows_sharing(const Accounting *accounting);
bool accounting_requires_guard(const Accounting *accounting);
/* Why they may not: a sentence for whoever asked. */
const char *accounting_sharing_reason(const Accounting *accounting);
/* A descriptor that must outlive the service along with the ledger, or -EBADF. Stays its own. */
int accounting_descriptor(Accounting *accounting);

/* ---- who is who (identities.c) ---- */

/* A new tenant or limit, or another way to count. KERNEL_REFUSED. */
gboolean accounting_set_tenant(Accounting *accounting, uint32_t tenant, const TenantConfig *config,
                               GError **error);
void accounting_remove_tenant(Accounting *accounting, uint32_t tenant);
/* fd is an IOMMUFD of the tenant, shared by its machines or for one alone: it is guarded from now
 * on. *ret_context names it below, 0 without a ledger. KERNEL_REFUSED: it must not be handed out;
 * the caller begins the sentence with whose it is. */
gboolean accounting_register_iommufd(Accounting *accounting, int fd, uint32_t tenant, bool shared,
                                     uint32_t *ret_context, GError **error);
/* A machine that may bind its devices from now on. Again for the same: nothing. KERNEL_REFUSED: the
 * caller begins the sentence with the machine's name. */
gboolean accounting_add_machine(Accounting *accounting, uint32_t machine, uint32_t tenant,
                                GError **error);
/* It is gone, and what was promised to it; what it left keeps its owner until it is destroyed. */
void accounting_remove_machine(Accounting *accounting, uint32_t machine);
/* Bytes for all tenants together. Logs when the kernel does not take them. */
void accounting_set_budget(Accounting *accounting, uint64_t bytes);

/* What is to be promised to a machine in the kernel's account, which has the last word on it. */
typedef struct {
    uint32_t machine;     /* 0: the kernel does not know it, and nothing is done */
    uint64_t bytes;       /* in place of what was promised to it, */
    uint64_t before;      /* which is this */
    const Budget *budget; /* its tenant's, which makes the sentence of a refusal */
    const char *what;     /* as of charge_take() */
} AccountingPromise;

/* LIMIT_EXCEEDED, HOST_BUDGET_EXCEEDED, with what the kernel has left; KERNEL_REFUSED. */
gboolean accounting_promise(Accounting *accounting, const AccountingPromise *promise,
                            GError **error);
/* What was promised before, whatever the limits are now. */
void accounting_promise_again(Accounting *accounting, uint32_t machine, uint64_t bytes);
/* What is promised to the machine. False: there is no ledger, or it does not know the machine. */
bool accounting_promised(Accounting *accounting, uint32_t machine, uint64_t *ret_bytes);
/* What is promised to the machine follows the lock limit of its process from here on: `reserved`,
 * and what the limit is above `limit`. False: there is no ledger, or it refuses. */
bool accounting_follow_limit(Accounting *accounting, uint32_t machine, uint64_t limit,
                             uint64_t reserved);
/* The process is the machine. INVALID_ARGUMENT: another has shown itself as this machine. */
gboolean accounting_name_leader(Accounting *accounting, uint32_t machine, uint32_t tenant,
                                const PidRef *leader, GError **error);
/* The machine may bind the device. reset_shared: a reset of it would hit another machine's.
 * DEVICE_BUSY: another has claimed it in the kernel; KERNEL_REFUSED. */
gboolean accounting_admit_device(Accounting *accounting, const char *address, uint32_t tenant,
                                 uint32_t machine, bool reset_shared, GError **error);
/* It may not bind it any more. Nothing, if the kernel has it as another's. */
void accounting_dismiss_device(Accounting *accounting, const char *address, uint32_t machine);
/* The machine that has it, by the kernel. 0: none. */
uint32_t accounting_device_machine(Accounting *accounting, const char *address);
/* The process is about to get the tenant's IOMMUFD. NOT_SUPPORTED: it is another's already. */
gboolean accounting_allow_receiver(Accounting *accounting, pid_t pid, uint32_t tenant,
                                   GError **error);
/* The systemd units that pass descriptors on, which no others do any more. Logs when the kernel
 * does not take them. */
void accounting_set_relay_units(Accounting *accounting, const char *const *units);
/* The process passes descriptors on: the message bus. */
void accounting_trust_relay(Accounting *accounting, pid_t pid);

/* ---- who of the living has something of a machine (owners.c) ---- */

typedef enum {
    OWNER_NONE,    /* nobody has */
    OWNER_UNKNOWN, /* somebody has or may have, but who leads it can't be told */
    OWNER_FOUND,
} OwnerState;

/* There is a ledger, and it knows the machine: who has bound a device of it, or else has mapped
 * memory and is its process by the UUID on its command line. *ret_owner is set with OWNER_FOUND
 * only, and to be cleared with pidref_clear(). */
OwnerState accounting_find_owner(Accounting *accounting, uint32_t machine, uint32_t tenant,
                                 const char *uuid, PidRef *ret_owner);

/* ---- what they have (usage.c) ---- */

typedef struct {
    uint64_t pinned;   /* bytes that the kernel has pinned */
    uint64_t orphaned; /* of these, bytes whose process is dead */
    uint64_t peak;     /* of pinned */
    uint64_t unique;   /* of pinned, each page once, as of the last reconciliation */
    uint64_t mapped;   /* bytes mapped, pinned or not */
    uint64_t maps;
    uint64_t unmaps;
    uint64_t refusals;
} Usage;

/* False, and zeros: there is no ledger, or the id is 0. One reading serves all that is asked in one
 * turn of the event loop. */
bool accounting_machine_usage(Accounting *accounting, uint32_t machine, Usage *ret_usage);
bool accounting_tenant_usage(Accounting *accounting, uint32_t tenant, Usage *ret_usage);
/* What a process has mapped through containers of VFIO's own (/dev/vfio/vfio, type1), as of a
 * second ago at most: pinned, unique, mapped, and as maps those that there are. False, and zeros:
 * there is no ledger, or it can't look into them. */
bool accounting_legacy_usage(Accounting *accounting, pid_t pid, Usage *ret_usage);
/* Bytes that one owner has pinned in an IOMMUFD; both numbers are those of a LedgerObject. */
uint64_t accounting_owner_pinned(Accounting *accounting, uint32_t context, uint32_t owner);
/* The objects in an IOMMUFD. NOT_SUPPORTED: there is no ledger; KERNEL_REFUSED. Freed with
 * g_free(). */
gboolean accounting_objects(Accounting *accounting, uint32_t context, LedgerObject **ret_objects,
                            size_t *ret_n, GError **error);
/* For a worker's thread, which may look up single objects (LedgerOps.object()). NULL: there is
 * none. Valid as long as accounting. */
Ledger *accounting_ledger(const Accounting *accounting);

/* Compares the ledger with the kernel's own structures and repairs it. There is a ledger. */
void accounting_reconcile(Accounting *accounting);
/* The same, if the last time is that
 * many microseconds ago (longer where that takes long), or if something was missed since. */
void accounting_refresh_if_older(Accounting *accounting, int64_t age);
/* The same, if the last time is ten seconds ago. */
void accounting_refresh(Accounting *accounting);

/* Bytes by which reconciliations have found the ledger to be off, all together. */
uint64_t accounting_corrected_bytes(const Accounting *accounting);
/* What the ledger could not take down when it happened; the next reconciliation finds it. */
uint64_t accounting_untracked(Accounting *accounting);
/* Ioctls that the guard does not know and has allowed (Guard=known) or refused (strict). */
uint64_t accounting_unknown_ioctls(Accounting *accounting);
