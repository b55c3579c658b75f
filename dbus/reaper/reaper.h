/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The reaper: destroys what dead machines have left in their tenant's shared IOMMUFD, where it
 * would stay pinned as long as the service or another machine holds the descriptor. It works off
 * the queue: one inventory of a tenant's IOMMUFD per turn, whatever has woken it.
 *
 * What may go is decided on the event loop's thread, by the ledger (orphans.h), and is a list of
 * ids with owners; the worker asks again right before it destroys (destroy-job.h). What is still in
 * use (EBUSY) is tried again, and said after a minute.
 *
 * A machine that has an IOMMUFD of its own leaves nothing: the kernel frees all of it with the last
 * copy of the descriptor. Where the ledger was lost while machines share, what they leave waits
 * until none of them lives; then the IOMMUFD is closed.
 */
#pragma once

#include "dbus/core/manager.h"

typedef struct Reaper Reaper;

/* Works off the manager's queue from now on. */
Reaper *reaper_new(Manager *manager);
/* Who waits for a reap is answered. Accepts NULL. */
void reaper_free(Reaper *reaper);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Reaper, reaper_free)

/* How many objects were destroyed, and how many bytes were mapped in them. */
typedef void (*ReaperDone)(uint32_t objects, uint64_t bytes, void *data);
/* Reaps the tenant now, or when the reap that is under way has ended. done is called once. */
void reaper_call(Reaper *reaper, const char *tenant, ReaperDone done, void *data);
