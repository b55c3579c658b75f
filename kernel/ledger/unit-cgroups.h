/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The cgroups of the unified hierarchy, as systemd lays them out: slices in slices, units in them.
 * What sd_pid_get_cgroup() and sd_pid_get_unit() do not tell. A path begins with a slash. */
#pragma once

#include <stdint.h>

/* The kernel's number of the cgroup. -ENOENT: there is none at the path. */
int cgroup_id(const char *path, uint64_t *ret_id);

/* The cgroup of the unit, in whatever slice. root stands before /sys, "" for the real one. -ENOENT:
 * it does not run, or is a slice itself. */
int cgroup_find_unit(const char *root, const char *unit, uint64_t *ret_id);

/* The part of the path that leads to the scope which systemd-machined has made for one machine, to
 * be freed with g_free(). NULL: it leads through none. */
char *cgroup_machine(const char *path);
