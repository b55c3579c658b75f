/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the lab's programs share that try the ledger and the guard: a tenant with one IOMMUFD, its
 * machines, and checks, one printed line each.
 */
#pragma once

#include "kernel/host/bpf-ledger.h"
#include "kernel/ledger/cgroups.h"
#include "kernel/ledger/identities.h"
#include "kernel/ledger/maps.h"
#include "kernel/ledger/relays.h"
#include "tests/lab/machine.h"

#define TENANT 1
#define MIB (1ull << 20)
#define EVERYTHING UINT64_MAX
#define USER 64055 /* whom machines run as */
#define TEST_FOLDER "/sys/fs/bpf/iommud-test"

extern Ledger *ledger;
extern int iommufd;      /* the tenant's */
extern uint32_t context; /* the same, for the ledger */

bool check(bool fine, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* That r is `wanted`, 0 or a negative errno. */
void check_error(int r, int wanted, const char *what);
int checks_failed(void);
/* Prints the sum; the program's exit status. */
int checks_end(void);

/* Loads the ledger, opens the tenant's IOMMUFD and registers it, without a limit. Ends the program
 * if that fails. */
void tenant_open(const LedgerOptions *options);
/* Checks that nothing is left, and lets go of everything. host: pages pinned before. */
void tenant_close(uint64_t host);
/* As the programs have it: in pages, but for bytes that are mapped. */
struct ledger_tenant tenant(void);
/* That of the host, of which all tenants use a part. */
struct ledger_budget host_budget(void);
/* As if bytes more were mapped, by the machine (0: by another process of the tenant). Only while
 * nobody maps. */
void count_by_hand(uint32_t machine, int64_t bytes);
/* What is promised to the machine, and what it has mapped. */
LedgerMachine machine_account(uint32_t machine);
LedgerCounters counters(void);
void tenant_limit(uint64_t bytes);

/* A machine of the tenant with what it has in the IOMMUFD. */
typedef struct {
    Machine process;
    uint32_t token;
    uint32_t device, ioas, hwpt;
    uint64_t memory, iova;
} Guest;

/* A number for a machine that is known to the ledger, and may bind the device (NULL: none). */
uint32_t admit_machine(const char *device);
/* Starts a machine as QEMU would: it binds and maps before anybody has told who it is. */
void guest_start(Guest *guest, const char *device, uint64_t size);
/* Kills it, if it lives, reaps what it left, and removes it. */
void guest_end(Guest *guest);
/* What iommud's reaper does, with nothing but the ledger to go by: highest layer first. */
void reap(uint32_t machine);
/* Pages. */
int64_t pinned_by(uint32_t machine);

void check_account(const Guest *guest, const char *when);
void check_truth(const char *when);

/* Events since the last time. NULL: none of this kind. */
const LedgerEvent *find_event(LedgerEventKind kind);
void forget_events(void);
