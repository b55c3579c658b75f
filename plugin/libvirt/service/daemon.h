/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which libvirtd runs this hook: there can be two (libvirtd and virtqemud, one of somebody's own),
 * and what the agent has told the one the other does not know. */
#pragma once

#include <glib.h>
#include <stdint.h>
#include <sys/types.h>

/* Whether the process has the other end of the connected unix socket with this inode (0: not
 * known), by NETLINK_SOCK_DIAG and /proc/PID/fd. G_FILE_ERROR, with a sentence's second half. */
gboolean daemon_check_peer(pid_t pid, uint64_t socket, GError **error);
