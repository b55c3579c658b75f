/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Threads for what can block, and the way back to the event loop. In the service: IOMMU_DESTROY
 * waits up to 60 s for others to let go, a mapping pins all its pages, an unbind waits for whoever
 * uses the device. In the libvirt agent: every call to libvirt waits while somebody holds the
 * domain's lock.
 */
#pragma once

#include "dbus/base/sd-cleanup.h"

#include <stdbool.h>

typedef struct Worker Worker;

/* At most n_threads jobs run at a time, the others wait; with 1 they are done one after the other,
 * in the order they came. Threads are made when they are needed; name is what ps(1) calls them, at
 * most 15 bytes, not copied. 0 or negative errno. */
int worker_new(sd_event *event, const char *name, unsigned n_threads, Worker **ret_worker);
/* Waits for the jobs that were queued and hands in their results. A job that hangs in the kernel
 * is left behind after two seconds: false then, and what it was given must outlive it. Accepts
 * NULL.
 */
bool worker_free(Worker *worker);

/* From the loop's thread: calls run(data) on a thread of the worker's and then done(data) on the
 * loop's, which owns data. */
void worker_queue(Worker *worker, void (*run)(void *data), void (*done)(void *data), void *data);
/* From any thread: calls done(data) on the loop's, in the order of the calls. */
void worker_post(Worker *worker, void (*done)(void *data), void *data);
