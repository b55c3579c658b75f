/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The agent: one connection to libvirt for life, because libvirt forgets the descriptors that a
 * connection has associated when that ends.
 *
 * Three kinds of threads: the event loop owns everything here and makes no call that blocks; one
 * thread runs libvirt's own event loop, whose callbacks only post what they saw; workers make the
 * calls to libvirt and iommud.
 */
#pragma once

#include "plugin/libvirt/agent/associations.h"
#include "plugin/libvirt/agent/autostart.h"
#include "plugin/libvirt/agent/domain-job.h"
#include "dbus/base/worker.h"

typedef struct Agent {
    const char *uri;
    const char *bus_address; /* as client_open_bus() takes it */

    sd_event *event;
    sd_bus *bus;
    Worker *worker;
    Worker *starter; /* one thread: starts take long, and one after the other as libvirtd does */

    Associations *associations; /* the callers are sd_bus_message */
    Autostart *autostart;
    GHashTable *admitted; /* UUIDs that the last sweep saw, or NULL */
    bool sweeping;

    /* The connection: NULL while there is none. Events of an older one are dropped by number. */
    virConnectPtr libvirt;
    unsigned generation;
    unsigned long version; /* libvirt's, 12002000 is 12.2.0 */
    char *state;           /* a sentence for people: property State */
    uint64_t backoff_usec;
} Agent;

/* ---- agent-libvirt.c: the connection ---- */

/* Begins to connect, and keeps connecting whenever the connection is lost. 0 or negative errno. */
int agent_libvirt_start(Agent *agent);
/* Whom workers ask; its libvirt is a reference that agent_context_free() drops. Connected only. */
WorkContext *agent_context_new(const Agent *agent);
void agent_context_free(WorkContext *context);
/* "12.8.0", freed with g_free(). */
char *agent_version_text(const Agent *agent);

/* ---- agent-domains.c: what is done about domains ---- */

/* Wants all domains associated and followed. just_connected: those that libvirtd could not start
 * itself are then started. */
void agent_sync(Agent *agent, bool just_connected);
/* Wants work of one domain, and gives the answer to caller (taken, may be NULL). */
void agent_want(Agent *agent, const char *uuid, unsigned work, sd_bus_message *caller);
/* Does what is wanted as far as there is a connection. */
void agent_dispatch(Agent *agent);
/* Looks for admissions whose start was lost, from time to time. 0 or negative errno. */
int agent_sweep_start(Agent *agent);

/* ---- agent-bus.c: org.iommud1.Libvirt, and what iommud says ---- */

/* Puts the object on the bus, requests the name, follows iommud. 0 or negative errno. */
int agent_bus_start(Agent *agent);
/* PropertiesChanged of one property. */
void agent_bus_changed(Agent *agent, const char *property);
