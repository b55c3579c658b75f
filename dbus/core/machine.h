/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A machine's life:
 *
 *   AdmitMachine -> admitted -> StartMachine -> running -> death of its leader -> reaping -> gone
 *                      |                                                            ^
 *                      +--- ReleaseMachine, or the admission's time limit ----------+
 *
 * The charge and the devices are the machine's from its admission until it is gone, which it is
 * when nothing is left of it in the tenant's IOMMUFD (reaper.h says how that is known).
 */
#pragma once

#include "dbus/accounting/accounting.h"
#include "dbus/core/object-set.h"

struct MachineLife {
    Manager *manager;
    TenantLife *tenant;
    Machine *machine;
    char *uuid;
    sd_event_source *leader_event; /* its leader's pidfd; running */
    sd_event_source *timer;        /* admitted: the time limit; running: the end of a hotplug */
    uint64_t leader_start;         /* process_start_time() */
    uint32_t number;               /* for the ledger (books.h); 0: none yet */

    bool shares;        /* since its admission: what it leaves is in the tenant's shared IOMMUFD */
    bool inside;        /* of the tenant's start window */
    uint64_t window;    /* the number of the window it was inside of last */
    bool known;         /* objects is all that it made at its start */
    ObjectSet *objects; /* that are known to be its own */

    unsigned reaped;       /* objects destroyed so far */
    uint64_t reaped_bytes; /* that were mapped in them, if the ledger could tell */
    bool stuck;            /* logged that it can't be reaped */
};

/* Takes pidfd, also when it fails: the leader is watched from now on. INVALID_ARGUMENT: it is not
 * the machine's process; MACHINE_EXISTS: another one is already; NO_SUCH_MACHINE: too late. */
gboolean machine_life_start(MachineLife *life, int pidfd, GError **error);

/* Whether its leader is alive. A machine whose leader has died since the loop last looked is
 * reaping afterwards (and may be gone). */
bool machine_life_check_alive(MachineLife *life);
/* An admitted or running machine becomes a reaping one. It may be gone afterwards. */
void machine_life_reap(MachineLife *life);
/* Nothing is left of it: gives back the charge, announces it, answers who waits, frees life. */
void machine_life_finish(MachineLife *life);
/* address canonical. DEVICE_*, GROUP_SHARED, ... as registry_add_device(). */
gboolean machine_life_add_device(MachineLife *life, const char *address, GError **error);
gboolean machine_life_remove_device(MachineLife *life, const char *address, GError **error);
/* LIMIT_EXCEEDED, HOST_BUDGET_EXCEEDED. */
gboolean machine_life_set_reservation(MachineLife *life, uint64_t bytes, uint64_t unique_bytes,
                                      GError **error);

/* All figures; without the ledger those that are known without it. */
void machine_life_figures(MachineLife *life, Figures *ret_figures);
/* Bytes its leader has pinned now; 0 unless it runs. */
uint64_t machine_life_pinned(MachineLife *life);
/* Bytes it had pinned when it died; 0 unless it is being reaped. */
uint64_t machine_life_orphaned(const MachineLife *life);

/* Addresses of its devices, NULL-terminated, to be freed with g_strfreev(). */
char **machine_life_devices(const MachineLife *life);

/* For admit.c and restore.c. The machine has just been put into the registry. */
MachineLife *machine_life_new(Manager *manager, TenantLife *tenant, Machine *machine);
/* Neither the registry nor the fd store nor the state is touched. Accepts NULL. */
void machine_life_free(MachineLife *life);
/* Takes its machine, which is gone then, out of the registry and the ledger. */
void machine_life_unregister(MachineLife *life);
/* Begins to watch: the leader of a running one, the time limit of an admitted one. */
int machine_life_watch(MachineLife *life);
