/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What every client of the service on the bus needs: the connection, calls with a time limit, and
 * errors as sentences; names and paths are those of dbus/base. libsystemd and GLib only.
 *
 * Functions return 0 or a negative errno. Where an sd_bus_error is taken, it holds the service's
 * answer when the service refused; client_error_text() makes one sentence of either.
 */
#pragma once

#include "dbus/base/names.h"
#include "dbus/base/paths.h"
#include "dbus/base/sd-cleanup.h"

#include <stdint.h>

#define CLIENT_USEC_PER_SEC G_GUINT64_CONSTANT(1000000)
/* Enough for calls that wait for nothing but the service. */
#define CLIENT_TIMEOUT (25 * CLIENT_USEC_PER_SEC)
/* For calls that wait for a reap: IOMMU_DESTROY alone can block for 60 s. */
#define CLIENT_TIMEOUT_REAP (180 * CLIENT_USEC_PER_SEC)

/* Connects to "system", "user", or a D-Bus address. NULL: what IOMMUD_BUS_ADDRESS in the
 * environment says, in the same words, else the system bus. */
int client_open_bus(const char *address, sd_bus **ret_bus);

/* One sentence for people: the message as the service sent it, "not running", "access denied",
 * or what the errno r says when the error is not set. Freed with g_free(). */
char *client_error_text(const sd_bus_error *error, int r);

/* Calls a method of the service and waits at most timeout_usec for its reply. types and what
 * follows are the arguments as for sd_bus_message_append(); NULL: none. ret_reply may be NULL. */
int client_call(sd_bus *bus, const char *path, const char *interface, const char *member,
                uint64_t timeout_usec, sd_bus_error *error, sd_bus_message **ret_reply,
                const char *types, ...);
/* The same, to any bus name. */
int client_call_name(sd_bus *bus, const char *name, const char *path, const char *interface,
                     const char *member, uint64_t timeout_usec, sd_bus_error *error,
                     sd_bus_message **ret_reply, const char *types, ...);
/* The same for a message that the caller has put together: arrays, dictionaries, descriptors. */
int client_call_message(sd_bus *bus, sd_bus_message *message, uint64_t timeout_usec,
                        sd_bus_error *error, sd_bus_message **ret_reply);
/* All properties of one interface, as an a{sv} that the caller reads from the reply. */
int client_get_properties(sd_bus *bus, const char *name, const char *path, const char *interface,
                          uint64_t timeout_usec, sd_bus_error *error, sd_bus_message **ret_reply);
