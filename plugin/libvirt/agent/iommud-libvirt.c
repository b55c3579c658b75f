/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* iommud-libvirt, the agent: hands tenants' IOMMUFDs to libvirt. See agent.h. */
#include "config.h"
#include "dbus/base/journal.h"
#include "dbus/client/client.h"
#include "plugin/libvirt/agent/agent-bus.h"
#include "plugin/libvirt/agent/agent-domains.h"
#include "plugin/libvirt/agent/agent-libvirt.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <systemd/sd-daemon.h>

#define DEFAULT_URI "qemu:///system"
/* Made by systemd, emptied by a boot. */
#define RUNTIME_FOLDER "/run/iommud-libvirt"
/* A worker waits while a start holds the lock of its domain; the others go on. */
/* See agent.h. */
#define N_WORKERS 2
/* A domain whose lock somebody holds for long keeps the host's boot waiting no longer. */
#define READY_USEC (30 * CLIENT_USEC_PER_SEC)

static void usage(void)
{
    puts("Usage: iommud-libvirt [OPTION...]\n\n"
         "Hands the tenants' IOMMUFDs of iommud to libvirt's domains.\n\n"
         "  --uri=URI        libvirt to connect to (default: " DEFAULT_URI ")\n"
         "  --bus=BUS        system (default), user, or a D-Bus address\n"
         "  --version        print the version\n"
         "  -h, --help       print this help");
}

/* -1: go on; else the exit status. */
static int parse_options(int argc, char **argv, Agent *agent)
{
    static const struct option options[] = {
        {"uri", required_argument, NULL, 'u'},
        {"bus", required_argument, NULL, 'b'},
        {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (option) {
        case 'u':
            agent->uri = optarg;
            break;
        case 'b':
            agent->bus_address = optarg;
            break;
        case 'v':
            puts("iommud-libvirt " VERSION);
            return 0;
        case 'h':
            usage();
            return 0;
        default:
            return 2;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "iommud-libvirt: '%s' is not an option; see --help.\n", argv[optind]);
        return 2;
    }
    return -1;
}

static int prepare(Agent *agent)
{
    const char *dir = g_getenv("RUNTIME_DIRECTORY");
    g_autofree char *started = g_build_filename(dir ? dir : RUNTIME_FOLDER, "started", NULL);
    sigset_t signals;
    int r = sd_event_default(&agent->event);

    agent->associations = associations_new(sd_auto_free_message);
    agent->autostart = autostart_new(started);
    agent->state = g_strdup("waiting for libvirt: not connected yet");

    /* Threads inherit the mask: before any is made, so that signals come to the event loop only. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    if (r >= 0)
        r = sd_event_add_signal(agent->event, NULL, SIGTERM, NULL, NULL);
    if (r >= 0)
        r = sd_event_add_signal(agent->event, NULL, SIGINT, NULL, NULL);
    if (r >= 0)
        r = worker_new(agent->event, "libvirt", N_WORKERS, &agent->worker);
    if (r >= 0)
        r = worker_new(agent->event, "prover", 1, &agent->prover);
    if (r >= 0)
        r = worker_new(agent->event, "starter", 1, &agent->starter);
    return r;
}

static int on_ready_time(sd_event_source *source, uint64_t usec, void *userdata)
{
    agent_ready(userdata);
    return 0;
}

static int run(Agent *agent)
{
    int r = prepare(agent);

    if (r < 0) {
        journal_write(LOG_WARNING, NULL, NULL, "The agent can't start: %s.", g_strerror(-r));
        return r;
    }
    r = agent_bus_start(agent);
    if (r < 0) {
        journal_write(LOG_WARNING, NULL, NULL,
                      "The agent can't have the name " BUS_LIBVIRT_NAME " on the bus: %s. Is "
                      "there another agent, and does its D-Bus policy allow it?",
                      g_strerror(-r));
        return r;
    }
    r = agent_watch_admitted(agent);
    if (r >= 0)
        r = sd_event_add_time_relative(agent->event, NULL, CLOCK_MONOTONIC, READY_USEC, 0,
                                       on_ready_time, agent);
    if (r >= 0)
        r = agent_libvirt_start(agent);
    if (r < 0) {
        journal_write(LOG_WARNING, NULL, NULL, "The agent can't use libvirt's client library: %s.",
                      g_strerror(-r));
        return r;
    }
    return sd_event_loop(agent->event);
}

int main(int argc, char **argv)
{
    /* Not freed: threads that wait for libvirt may still look at it when the process ends. */
    static Agent agent = {.uri = DEFAULT_URI, .changed = agent_bus_changed};
    int status = parse_options(argc, argv, &agent);

    if (status >= 0)
        return status;
    status = run(&agent) < 0;
    sd_notify(0, "STOPPING=1");
    return status;
}
