/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which of this process's sockets is its connection to libvirt: the client library does not tell.
 * By the inode the hook finds out whether the libvirtd that runs it is at the other end.
 */
#pragma once

#include <glib.h>
#include <stdint.h>

/* Inodes of the sockets that are connected to one with a name, but to none that bus_fd is connected
 * to; GINT keys, freed with g_hash_table_unref(). */
GHashTable *libvirt_sockets(int bus_fd);
/* The one that is in after and not in before; 0: none is, or more than one. */
uint64_t libvirt_socket_new(GHashTable *before, GHashTable *after);
