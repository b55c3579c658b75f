/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What follows from an event, done by the event loop afterwards (systemd-machined's GC queue): a
 * dead machine is reaped, and who waits for its end is answered. So nothing that handles an event
 * is entered again from below, and no object goes away under its feet. Tenants and machines are
 * queued by name, for they may be gone when their turn comes.
 *
 * What is reaped in a turn was queued before it began; a reap that is queued meanwhile comes in the
 * next one. Who is gone by then is told of in the same turn, before anybody asks anew.
 */
#pragma once

#include "dbus/base/sd-cleanup.h"

typedef struct Queue Queue;

/* id of a tenant, or UUID of a machine. */
typedef void (*QueueHandler)(const char *name, void *data);

/* NULL: the event loop can't be had. */
Queue *queue_new(sd_event *event);
/* What is queued is forgotten. Accepts NULL. */
void queue_free(Queue *queue);

/* Who reaps a tenant, and who is told that a machine is gone. One each. */
void queue_on_reap(Queue *queue, QueueHandler handler, void *data);
void queue_on_gone(Queue *queue, QueueHandler handler, void *data);

/* Something of the tenant may be there to be reaped, or it is gone itself. Once, however often it
 * is queued. */
void queue_reap(Queue *queue, const char *tenant);
/* The machine is gone. After all reaps of the turn. */
void queue_gone(Queue *queue, const char *uuid);
