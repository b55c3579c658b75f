/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A map, copy, unmap or destroy on an IOAS that AllocateIoas made. The ioctl may pin gigabytes or
 * wait, so the worker does it; before that the tenant is charged, and afterwards what was not
 * mapped is given back. The worker does calls in their order, so one IOAS sees one at a time.
 */
#pragma once

#include "dbus/core/tenant.h"

typedef enum {
    IOAS_MAP_FILE,
    IOAS_COPY,
    IOAS_UNMAP,
    IOAS_DESTROY,
} IoasCallKind;

typedef struct {
    IoasCallKind kind;
    uint32_t ioas;
    uint32_t source; /* IOAS_COPY */
    uint64_t offset; /* in the file; IOAS_COPY: in the source */
    uint64_t length;
    uint64_t iova;
    unsigned access;
    int memfd; /* IOAS_MAP_FILE; owned, else -EBADF */
    /* The rest is ioas_call_queue()'s. */
    TenantLife *life;
    sd_bus_message *message;
    Host *host;
    int fd;
    int result;
    uint64_t unmapped;
} IoasCall;

/* Takes call (made by g_new() and the like), also when it fails. When it is queued, message is
 * answered later. LIMIT_EXCEEDED, HOST_BUDGET_EXCEEDED, INVALID_ARGUMENT (an IOAS that AllocateIoas
 * did not make), KERNEL_REFUSED. */
gboolean ioas_call_queue(IoasCall *call, TenantLife *life, sd_bus_message *message, GError **error);

/* The IOAS, if AllocateIoas made it and it is not being destroyed. INVALID_ARGUMENT. */
Ioas *ioas_find(const TenantLife *life, uint32_t id, GError **error);
