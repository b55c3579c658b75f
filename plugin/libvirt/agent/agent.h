/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The agent: one connection to libvirt for life, because libvirt forgets the descriptors that a
 * connection has associated when that ends.
 *
 * Three kinds of threads: the event loop owns everything here and makes no call that blocks; one
 * thread runs libvirt's own event loop, whose callbacks only post what they saw; workers make the
 * calls to libvirt and iommud.
 *
 * agent-domains.c decides what is done about domains; above it, agent-starts.c says what a start
 * would get, agent-libvirt.c holds the connection and agent-bus.c the object on the bus; both tell
 * it what happened.
 *
 * libvirt serves five calls of a connection at a time (max_client_requests), and most wait for a
 * domain's lock: so never more than three of the agent's do (two workers and the starter), and
 * there is always room for a proof.
 */
#pragma once

#include "dbus/base/worker.h"
#include "plugin/libvirt/agent/associations.h"
#include "plugin/libvirt/agent/autostart.h"

#include <libvirt/libvirt.h>

typedef struct Proof Proof;

typedef struct Agent {
    const char *uri;
    const char *bus_address; /* as client_open_bus() takes it */

    sd_event *event;
    sd_bus *bus;
    Worker *worker;
    Worker *prover;  /* one thread, for calls that wait for no domain */
    Worker *starter; /* one thread: starts take long, and one after the other as libvirtd does */

    /* Tells the bus that this property of org.iommud1.Libvirt has changed. */
    void (*changed)(struct Agent *agent, const char *property);

    Associations *associations; /* the callers are sd_bus_message */
    Autostart *autostart;
    GHashTable *admitted; /* UUIDs that the last look for lost starts saw, or NULL */
    bool looking;         /* such a look is on its way */
    bool listed;          /* all domains were asked for once */
    bool ready;           /* the service manager was told */

    /* Calls of BeginStart: whom the proof that is on its way is for, and who came after it began.
     */
    Proof *proof;
    GQueue proven;
    GQueue starts;

    /* The connection: NULL while there is none. Events of an older one are dropped by number. */
    virConnectPtr libvirt;
    unsigned generation;
    uint64_t socket;       /* inode of its socket here; 0: not known */
    unsigned long version; /* libvirt's, 12002000 is 12.2.0 */
    char *state;           /* a sentence for people: property State */
    uint64_t backoff_usec;
} Agent;
