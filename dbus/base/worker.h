/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A thread for what can block: IOMMU_DESTROY waits up to 60 s for others to let go, a mapping pins
 * all its pages, an unbind waits for whoever uses the device. Jobs are done one after the other, in
 * the order they came; their results come back on the event loop's thread.
 */
#pragma once

#include "dbus/core/manager.h"

/* The thread is made when the first job comes. 0 or negative errno. */
int worker_new(sd_event *event, const char *name, Worker **ret_worker);
/* Waits for the jobs that were queued and hands in their results. A job that hangs in the kernel
 * is left behind after two seconds. Accepts NULL. */
void worker_free(Worker *worker);

/* Calls run(data) on the worker's thread and then done(data) on the loop's, which owns data. run()
 * may touch nothing but data and the host. */
void worker_queue(Worker *worker, void (*run)(void *data), void (*done)(void *data), void *data);
