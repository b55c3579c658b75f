/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A machine's life:
 *
 *   AdmitMachine -> admitted -> StartMachine, -> running -> death of its leader -> reaping -> gone
 *                      |        or adoption                                          ^
 *                      +--- ReleaseMachine, or the admission's time limit, ----------+
 *                           if no living process owns anything of it
 *
 * machine-admit.h, machine-start.h, machine-end.h and machine-devices.h are its steps. The charge
 * and the devices are the machine's from its admission until it is gone, which it is when nothing
 * is left of it in its tenant's IOMMUFD (reaper/orphans.h says how that is known).
 */
#pragma once

#include "dbus/core/tenant.h"

struct Machine {
    MachinePolicy policy; /* first: the registry makes and frees machines */
    Manager *manager;
    WriterItem record;
    uint32_t ledger_id; /* 0: the kernel was not told of it */
    /* Since its admission: it uses its tenant's shared IOMMUFD, and may leave objects in it. */
    bool shares;
    bool follows_limit; /* its lock limit says what it is promised: machine-devices.h */
    uint64_t plug_limit;
    uint64_t plug_reserved;
    uint64_t plug_lowered;
    int64_t since; /* CLOCK_MONOTONIC, µs: when its state was entered */
    PidRef leader; /* running, or reaping after that: dead, maybe without a pidfd */
    sd_event_source *leader_event;
    sd_event_source *admission_timer;
    uint64_t last_pinned; /* bytes, as of its start or its last change of devices */
    /* What was reaped of it so far. */
    unsigned reaped_objects;
    uint64_t reaped_bytes;
    bool stuck_logged;
};

static inline Tenant *machine_tenant(const Machine *machine)
{
    return (Tenant *)machine->policy.tenant;
}

static inline const char *machine_uuid(const Machine *machine)
{
    return machine->policy.uuid;
}

static inline bool machine_is_live(const Machine *machine)
{
    return machine->policy.state != MACHINE_REAPING;
}

/* Whether its leader is dead: then what helpers of that one keep goes, too. One that was released,
 * or whose admission has ended, has no leader, and its processes lose nothing while they live. */
static inline bool machine_is_dead(const Machine *machine)
{
    return machine->policy.state == MACHINE_REAPING && pidref_is_set(&machine->leader);
}

/* Sets up one that the registry has just made, and whose record is written. */
void machine_begin(Machine *machine, Manager *manager);
/* For the registry (RegistryTypes). */
void machine_clear(MachinePolicy *machine);
/* Makes it known by its id for the ledger (0: none). */
void machine_set_ledger_id(Machine *machine, uint32_t ledger_id);
/* Marks its record to be written. */
void machine_mark(Machine *machine);
/* Enters a state, now. */
void machine_set_state(Machine *machine, MachineState state);
/* An admitted or running machine becomes a reaping one; the rest follows from the queue. */
void machine_reap(Machine *machine);
/* Makes it known by its leader, which it takes (PIDREF_NULL: by none). */
void machine_set_leader(Machine *machine, PidRef leader);

/* Addresses of its devices, NULL-terminated, to be freed with g_strfreev(). */
char **machine_devices(const Machine *machine);
/* What an entry of the journal about it says. */
#define JOURNAL_MACHINE(machine)                                                                   \
    .tenant = tenant_id(machine_tenant(machine)), .machine = machine_uuid(machine)
