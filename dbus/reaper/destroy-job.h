/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One sweep of an IOMMUFD: the worker's part of the reaper (reaper.h). */
#pragma once

#include "dbus/core/manager.h"
#include "kernel/ledger/ledger.h"

/* Layers are destroyed in their order, 0 first. */
#define SWEEP_LAYERS 16

/* What may go, if it still is what it was when that was decided. */
typedef struct {
    uint32_t id;
    unsigned layer;
    HostObjectType type; /* without the ledger: to be known again by */
    uint32_t owner;      /* with the ledger */
    uint32_t machine;    /* the number that it has there, 0: none */
    bool unmap;          /* an IOAS that is certainly a dead machine's */
    uint64_t unmapped;   /* the outcome: bytes that were mapped in it */
} SweepCandidate;

typedef struct Sweep {
    TenantLife *life; /* for the event loop only; NULL when the tenant is gone */
    GPtrArray *calls; /* for the event loop only: of Reap() */
    Host *host;
    Ledger *ledger;     /* NULL: objects are found by probes */
    uint32_t context;   /* the IOMMUFD in the ledger */
    int fd;             /* owned: a copy of the tenant's IOMMUFD */
    GArray *candidates; /* SweepCandidate: what may go */
    /* The outcome. */
    GArray *destroyed; /* SweepCandidate */
    HostObject *left;  /* without the ledger: all that is in the IOMMUFD afterwards */
    size_t n_left;
    uint64_t freed; /* bytes that were mapped; without the ledger: by how many fewer are pinned */
    int result;     /* 0, or a negative errno: left is not known then */
} Sweep;

Sweep *sweep_new(Host *host);
void sweep_free(Sweep *sweep);
void sweep_add(Sweep *sweep, SweepCandidate candidate);
bool sweep_is_empty(const Sweep *sweep);
/* On the worker's thread: destroys the candidates that are still there, layer by layer. */
void sweep_run(void *sweep);
