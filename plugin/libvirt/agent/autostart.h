/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which domains the agent starts.
 *
 * libvirtd starts its autostart domains before anybody can hand it a descriptor, so that those with
 * fdgroup iommud fail. The agent starts them once they are associated: each at most once per boot,
 * and never one that has been running in this boot, since then somebody has stopped it. What has
 * run is kept as empty files in a folder that a boot empties.
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

/* Right after connecting, the domain was inactive and libvirtd is to start it at boot. */
void autostart_offer(Autostart *autostart, const char *uuid);
/* The domain turned out to be none of ours, or is gone. */
void autostart_drop(Autostart *autostart, const char *uuid);
/* The domain, one of ours, runs. An error on the disk is logged. */
void autostart_ran(Autostart *autostart, const char *uuid);
/* The domain is associated: whether to start it now. True once, and it counts as having run from
 * then on; never when that can't be written down. */
bool autostart_take(Autostart *autostart, const char *uuid);
