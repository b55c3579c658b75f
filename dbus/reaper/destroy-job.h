/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The worker's part of the reaper: unmaps and destroys objects of one IOMMUFD. */
#pragma once

#include "kernel/host/host.h"

#include <glib.h>

/* Layers are destroyed in their order, 0 first. */
#define DESTROY_LAYERS 16

/* What may go, if it still is its owner's when its turn comes. */
typedef struct {
    uint32_t id;
    unsigned layer;
    uint32_t owner;       /* as in LedgerObject */
    uint32_t machine;     /* likewise */
    bool of_dead_machine; /* whose leader is dead; else nothing of its owner's may live */
    bool unmap;        /* an IOAS: its pages come back at once, whoever is still attached to it */
    uint64_t unmapped; /* the outcome: bytes that were mapped in it */
} DestroyCandidate;

typedef struct {
    char *tenant; /* owned: whose IOMMUFD it is. For the event loop only */
    Host *host;
    Ledger *ledger;
    uint32_t context;
    int fd;             /* owned: a copy of the IOMMUFD */
    GArray *candidates; /* DestroyCandidate: what may go; afterwards what could not */
    /* The outcome. */
    GArray *destroyed; /* DestroyCandidate */
    uint64_t freed;    /* bytes that were mapped */
    /* For the event loop only. */
    void *reaper;
    GPtrArray *calls; /* of who waits for it */
} DestroyJob;

DestroyJob *destroy_job_new(const char *tenant, Host *host, Ledger *ledger, uint32_t context);
void destroy_job_free(DestroyJob *job);
void destroy_job_add(DestroyJob *job, DestroyCandidate candidate);
bool destroy_job_is_empty(const DestroyJob *job);
/* On the worker's thread: destroys the candidates that are still there, layer by layer, until
 * nothing changes. Can block for a minute for each object (IOMMU_DESTROY). */
void destroy_job_run(void *job);
