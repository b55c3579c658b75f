/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Checks of the guard and the ledger. The service's sentence says why one of them is missing; what
 * to type about it follows from this host's files. */
#pragma once

#include "dbus/iommuctl/doctor/host-files.h"
#include "dbus/iommuctl/doctor/report.h"

/* What the service says of BPF. */
typedef struct {
    const char *guard; /* its GuardState, */
    const char *guard_reason;
    const char *ledger; /* LedgerState, */
    const char *ledger_reason;
    bool rechecks;      /* what the kernel has copied can be refused */
    bool require_guard; /* nothing is shared without the guard */
    bool simulated;
} GuardView;

void check_guard(Report *report, const HostFiles *host, const GuardView *view);
void check_ledger(Report *report, const HostFiles *host, const GuardView *view);
/* Whether the ledger agrees with the kernel. */
void check_drift(Report *report, uint64_t drift, uint64_t untracked);
/* Whether the guard knows all ioctls that machines use. */
void check_ioctls(Report *report, uint64_t unknown);
