/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A map, copy, unmap or destroy on an IOAS that AllocateIoas made. The ioctl may pin gigabytes or
 * wait, so the worker does it; before that the tenant is charged, and afterwards what was not
 * mapped is given back. The worker does calls in their order, so one IOAS sees one at a time.
 */
#pragma once

#include "dbus/base/sd-cleanup.h"
#include "dbus/core/tenant.h"

typedef enum {
    IOAS_MAP_FILE,
    IOAS_COPY,
    IOAS_UNMAP,
    IOAS_DESTROY,
} IoasJobKind;

typedef struct {
    IoasJobKind kind;
    uint32_t ioas;
    uint32_t source; /* IOAS_COPY */
    uint64_t offset; /* in the file; IOAS_COPY: in the source */
    uint64_t length;
    uint64_t iova;
    unsigned access;
    int memfd; /* IOAS_MAP_FILE; owned, else -EBADF */
    /* The rest is ioas_job_queue()'s. */
    Manager *manager;
    char *tenant; /* owned: its id */
    sd_bus_message *message;
    Host *host;
    int fd;
    int result;
    uint64_t unmapped;
} IoasJob;

/* Takes job (made by g_new() and the like), also when it fails. When it is queued, message is
 * answered later. LIMIT_EXCEEDED, HOST_BUDGET_EXCEEDED, INVALID_ARGUMENT (an IOAS that AllocateIoas
 * did not make), KERNEL_REFUSED. */
gboolean ioas_job_queue(IoasJob *job, Tenant *tenant, sd_bus_message *message, GError **error);
