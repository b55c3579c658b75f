/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One sweep of an IOMMUFD: the worker's part of the reaper (reaper.h). */
#pragma once

#include "dbus/manager.h"

typedef struct Sweep {
    TenantLife *life; /* for the event loop only; NULL when the tenant is gone */
    GPtrArray *calls; /* for the event loop only: of Reap() */
    Host *host;
    int fd;             /* owned: a copy of the tenant's IOMMUFD */
    GArray *candidates; /* HostObject: what may go */
    /* The outcome. */
    GArray *destroyed; /* HostObject */
    HostObject *left;  /* all that is in the IOMMUFD afterwards */
    size_t n_left;
    uint64_t unpinned; /* bytes that the host has fewer pinned than before */
    int result;        /* 0, or a negative errno: left is not known then */
} Sweep;

Sweep *sweep_new(Host *host);
void sweep_free(Sweep *sweep);
void sweep_add(Sweep *sweep, HostObject object);
bool sweep_is_empty(const Sweep *sweep);
/* On the worker's thread: destroys the candidates that are still there, layer by layer. */
void sweep_run(void *sweep);
