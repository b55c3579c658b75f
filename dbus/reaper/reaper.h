/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The reaper: destroys what dead machines have left in their tenant's shared IOMMUFD, where it
 * would stay pinned as long as the service or another machine holds the descriptor.
 *
 * Where the ledger is there it says whose every object is (leftovers.h). Without it the kernel says
 * which objects there are, not whose they are, and these rules make sure that nothing is destroyed
 * from under a machine that lives:
 *
 * (a) While a start window is open (tenant-life.h), only objects may go that were there when it
 *     opened, still exist with the type they had, and are not known to be a live machine's.
 * (b) While no window is open, all objects may go that are not known to be a live machine's.
 * (c) IOASes that AllocateIoas made never go, nor do objects that are known to be those of a
 *     machine that is admitted or runs. Known objects of a reaping machine always may go.
 * (d) DEVICE objects never go: the kernel removes them with the VFIO descriptor. Objects of the
 *     other types (vIOMMU, fault queue ...) can be in use without being busy, so they go only when
 *     they are known to be a dead machine's, or when no machine of the tenant lives.
 * (e) The highest layer first: others, HWPTs, IOASes; again until nothing changes. EBUSY means that
 *     somebody alive uses it, and it stays. Nothing is unmapped: whose IOAS it is is a guess, and
 *     EBUSY corrects a wrong guess where an unmap would take a live machine's memory away.
 *
 * What may go is decided on the event loop's thread and is a list of ids with types; the worker
 * looks again at each before it destroys it, and at nothing else. So a window that opens while the
 * worker is busy takes no harm.
 *
 * A machine is reaped when what is known to be its own is gone, or, where nothing is known, when
 * nothing is left that could be. If only objects are left that a live machine may hold, they are
 * taken for its own after one second.
 */
#pragma once

#include "dbus/core/manager.h"

/* Sweeps the tenant's IOMMUFD, now or when the sweep that is under way has ended. Machines may be
 * gone when this returns. */
void reaper_wake(TenantLife *life);
/* The start window has closed: sweeps if something had to wait for that. */
void reaper_window_closed(TenantLife *life);
/* Sweeps, and answers call (Reap() -> objects, bytes). 0 or negative errno. */
int reaper_call(TenantLife *life, sd_bus_message *call);
/* The tenant goes away: a sweep under way no longer reports to it. */
void reaper_detach(TenantLife *life);
