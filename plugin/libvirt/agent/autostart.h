/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which domains the agent starts.
 *
 * libvirtd starts its autostart domains at boot, perhaps before the agent can hand it a descriptor:
 * then the hook refuses those with fdgroup iommud, and writes that down (service/boot-starts.h).
 * The agent starts them once they are associated: each at most once per boot, and never one that
 * has been running in this boot, since then somebody has stopped it. What has run is kept as empty
 * files in a folder that a boot empties.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

typedef struct Autostart Autostart;

/* dir is made when it is needed. */
Autostart *autostart_new(const char *dir);
/* Accepts NULL. */
void autostart_free(Autostart *autostart);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Autostart, autostart_free)

/* The domain, one of ours, runs. An error on the disk is logged. */
void autostart_ran(Autostart *autostart, const char *uuid);
/* The domain is associated, does not run, and libvirtd is to start it at boot: whether to start it
 * now. True once, and it counts as having run from then on; never when that can't be written down.
 */
bool autostart_take(Autostart *autostart, const char *uuid);
