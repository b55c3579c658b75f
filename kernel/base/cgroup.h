/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The cgroups of the unified hierarchy, as systemd lays them out: slices in slices, units in them.
 * A path is without a slash before it. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/* The path of the process's cgroup, to be freed with g_free(). -ENOENT: it has none, or is gone. */
int cgroup_of(pid_t pid, char **ret_path);
/* The kernel's number of the cgroup. -ENOENT: there is none at the path. */
int cgroup_id(const char *path, uint64_t *ret_id);

/* The name of the systemd unit that the path leads into, to be freed with g_free(). NULL: it leads
 * into none. */
char *cgroup_unit(const char *path);
/* The cgroup of the unit, in whatever slice. root stands before /sys, "" for the real one. -ENOENT:
 * it does not run, or is a slice itself. */
int cgroup_find_unit(const char *root, const char *unit, uint64_t *ret_id);

/* The part of the path that leads to the scope which systemd-machined has made for one machine, to
 * be freed with g_free(). NULL: it leads through none. */
char *cgroup_machine(const char *path);
