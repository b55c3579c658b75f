/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/libvirt/agent/agent-libvirt.h"

#include "dbus/base/journal.h"
#include "plugin/libvirt/agent/agent-domains.h"
#include "plugin/libvirt/agent/libvirt-socket.h"
#include "plugin/libvirt/agent/work-context.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <systemd/sd-daemon.h>

/* libvirtd is looked for often at first: a restart takes a second. */
#define BACKOFF_MIN_USEC (200 * 1000)
#define BACKOFF_MAX_USEC (5 * 1000 * 1000)
/* A libvirtd that does not answer for a minute is given up. */
#define KEEPALIVE_SECONDS 10
#define KEEPALIVE_COUNT 6

static void connect_soon(Agent *agent);

/* ---- state ---- */

G_GNUC_PRINTF(2, 3) static void set_state(Agent *agent, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *state = g_strdup_vprintf(format, args);
    va_end(args);
    if (g_strcmp0(state, agent->state) == 0)
        return;
    g_free(agent->state);
    agent->state = g_steal_pointer(&state);
    journal_write(LOG_INFO, NULL, NULL, "%s: %s", agent->uri, agent->state);
    sd_notifyf(0, "STATUS=%s", agent->state);
    agent->changed(agent, "State");
    agent->changed(agent, "Connected");
}

/* ---- events, on libvirt's thread ---- */

/* libvirt's callbacks find the agent here. What they are given is only the number of their
 * connection, which nobody has to free: some drivers never call the function that would. */
static Agent *the_agent;

typedef struct {
    unsigned generation;
    char uuid[VIR_UUID_STRING_BUFLEN];
    int lifecycle; /* virDomainEventType; -1: the machine's devices or memory changed */
    bool another;  /* the domain of this UUID is not any more the one that it was */
} Event;

static void on_event(void *data)
{
    g_autofree Event *event = data;
    Agent *agent = the_agent;

    if (event->generation != agent->generation)
        return;
    /* Before anything is begun for it: a start may be waiting to be told. */
    if (event->another)
        associations_void(agent->associations, event->uuid);
    switch (event->lifecycle) {
    case VIR_DOMAIN_EVENT_DEFINED:
    case VIR_DOMAIN_EVENT_UNDEFINED:
        agent_request_job(agent, event->uuid, JOB_ASSOCIATE, NULL);
        break;
    case VIR_DOMAIN_EVENT_STARTED:
        /* Associated again: with an IOMMUFD for each start, libvirt must let go of the one that the
         * machine has now, or its memory would stay pinned when it ends. */
        agent_request_job(agent, event->uuid, JOB_ASSOCIATE | JOB_SYNC, NULL);
        break;
    case VIR_DOMAIN_EVENT_STOPPED:
        associations_stopped(agent->associations, event->uuid);
        break;
    case -1:
        agent_request_job(agent, event->uuid, JOB_SYNC, NULL);
        break;
    default:
        break;
    }
}

static void post_event(void *generation, virDomain *dom, int lifecycle, bool another)
{
    Event *event = g_new0(Event, 1);

    event->generation = GPOINTER_TO_UINT(generation);
    event->lifecycle = lifecycle;
    event->another = another;
    if (virDomainGetUUIDString(dom, event->uuid) == 0)
        worker_post(the_agent->worker, on_event, event);
    else
        g_free(event);
}

static int on_lifecycle(virConnectPtr connect, virDomainPtr dom, int event, int detail,
                        void *generation)
{
    post_event(generation, dom, event,
               event == VIR_DOMAIN_EVENT_UNDEFINED ||
                   (event == VIR_DOMAIN_EVENT_DEFINED && detail == VIR_DOMAIN_EVENT_DEFINED_ADDED));
    return 0;
}

static void on_device(virConnectPtr connect, virDomainPtr dom, const char *alias, void *generation)
{
    post_event(generation, dom, -1, false);
}

static void on_memory(virConnectPtr connect, virDomainPtr dom, const char *alias,
                      unsigned long long size, void *generation)
{
    post_event(generation, dom, -1, false);
}

static void run_close(void *data)
{
    virConnectClose(data);
}

static void on_closed(void *data)
{
}

static void on_lost(void *data)
{
    Agent *agent = the_agent;

    /* Not there yet: on_connected() will see that it is dead. */
    if (GPOINTER_TO_UINT(data) != agent->generation || !agent->libvirt)
        return;
    worker_queue(agent->worker, run_close, on_closed, g_steal_pointer(&agent->libvirt));
    associations_lost(agent->associations, NULL);
    set_state(agent, "waiting for libvirt: the connection is lost");
    agent->changed(agent, "Domains");
    connect_soon(agent);
}

static void on_close(virConnectPtr connect, int reason, void *generation)
{
    worker_post(the_agent->worker, on_lost, generation);
}

/* ---- connecting, on a worker ---- */

typedef struct {
    unsigned generation;
    virConnectPtr libvirt; /* NULL: failed */
    uint64_t socket;
    unsigned long version;
    char *error;
} Connecting;

static int listen_for(virConnectPtr libvirt, int id, void *callback, void *generation)
{
    return virConnectDomainEventRegisterAny(libvirt, NULL, id, VIR_DOMAIN_EVENT_CALLBACK(callback),
                                            generation, NULL);
}

/* The rest of what is wanted of a connection. Lifecycle events are needed, the others are what this
 * libvirt offers. */
static bool set_up(Connecting *connecting)
{
    virConnectPtr libvirt = connecting->libvirt;
    void *generation = GUINT_TO_POINTER(connecting->generation);

    (void)virConnectSetKeepAlive(libvirt, KEEPALIVE_SECONDS, KEEPALIVE_COUNT);
    (void)listen_for(libvirt, VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, on_device, generation);
    (void)listen_for(libvirt, VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, on_device, generation);
    (void)listen_for(libvirt, VIR_DOMAIN_EVENT_ID_MEMORY_DEVICE_SIZE_CHANGE, on_memory, generation);
    return virConnectRegisterCloseCallback(libvirt, on_close, generation, NULL) == 0 &&
           listen_for(libvirt, VIR_DOMAIN_EVENT_ID_LIFECYCLE, on_lifecycle, generation) >= 0 &&
           virConnectGetLibVersion(libvirt, &connecting->version) == 0;
}

static void run_connect(void *data)
{
    Connecting *connecting = data;

    int bus_fd = sd_bus_get_fd(the_agent->bus);
    g_autoptr(GHashTable) before = libvirt_sockets(bus_fd);

    connecting->libvirt = virConnectOpen(the_agent->uri);
    g_autoptr(GHashTable) after = libvirt_sockets(bus_fd);
    connecting->socket = libvirt_socket_new(before, after);
    if (connecting->libvirt && set_up(connecting))
        return;
    connecting->error = g_strdup(virGetLastErrorMessage());
    g_clear_pointer(&connecting->libvirt, virConnectClose);
}

static void on_connected(void *data)
{
    g_autofree Connecting *connecting = data;
    Agent *agent = the_agent;

    if (connecting->libvirt && virConnectIsAlive(connecting->libvirt) != 1) {
        worker_queue(agent->worker, run_close, on_closed, g_steal_pointer(&connecting->libvirt));
        connecting->error = g_strdup("the connection is lost");
    }
    if (!connecting->libvirt) {
        set_state(agent, "waiting for libvirt: %s", connecting->error);
        g_free(connecting->error);
        agent_ready(agent);
        connect_soon(agent);
        return;
    }
    agent->libvirt = connecting->libvirt;
    agent->socket = connecting->socket;
    agent->version = connecting->version;
    agent->backoff_usec = BACKOFF_MIN_USEC;
    g_autofree char *version = libvirt_version_text(agent->version);
    if (agent->version >= LIBVIRT_VERSION_FDGROUP)
        set_state(agent, "connected");
    else
        set_state(agent, "libvirt %s has no fdgroup: machines are admitted and counted only",
                  version);
    agent->changed(agent, "LibvirtVersion");
    agent_sync_all(agent);
}

static int on_connect_time(sd_event_source *source, uint64_t usec, void *userdata)
{
    Agent *agent = userdata;
    Connecting *connecting = g_new0(Connecting, 1);

    agent->generation++;
    connecting->generation = agent->generation;
    worker_queue(agent->worker, run_connect, on_connected, connecting);
    return 0;
}

static void connect_soon(Agent *agent)
{
    int r = sd_event_add_time_relative(agent->event, NULL, CLOCK_MONOTONIC, agent->backoff_usec, 0,
                                       on_connect_time, agent);

    agent->backoff_usec = MIN(agent->backoff_usec * 2, BACKOFF_MAX_USEC);
    if (r < 0)
        sd_event_exit(agent->event, r);
}

/* libvirt's own event loop, on a thread of its own: calls that workers make add and remove what it
 * waits for, and it wakes itself then. */
static void *run_events(void *data)
{
    for (;;)
        if (virEventRunDefaultImpl() < 0)
            g_usleep(BACKOFF_MIN_USEC);
    return NULL;
}

/* Without a handler libvirt writes each error to stderr; callers say what virGetLastError() has. */
static void on_error(void *data, virErrorPtr error)
{
}

int agent_libvirt_start(Agent *agent)
{
    virSetErrorFunc(NULL, on_error);
    if (virInitialize() < 0 || virEventRegisterDefaultImpl() < 0)
        return -EIO;
    g_thread_unref(g_thread_new("libvirt-events", run_events, NULL));
    the_agent = agent;
    agent->backoff_usec = BACKOFF_MIN_USEC;
    return on_connect_time(NULL, 0, agent);
}
