/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The service's main program. */
#include "config.h"
#include "dbus/accounting/accounting.h"
#include "dbus/base/connect.h"
#include "dbus/base/errors.h"
#include "dbus/base/journal.h"
#include "dbus/bus/access.h"
#include "dbus/bus/objects.h"
#include "dbus/core/service.h"
#include "dbus/core/tenant-config.h"

#include <getopt.h>
#include <locale.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

typedef struct {
    ServiceOptions service;
    const char *bus;
    bool load;
    bool unload;
} Options;

static void print_help(void)
{
    printf("iommud [OPTION...]\n\n"
           "Shares one IOMMUFD among the machines of each tenant, and counts their memory.\n\n"
           "  -h --help              Show this\n"
           "     --version           Show the version\n"
           "     --simulate=FILE     Simulate the host that FILE describes\n"
           "     --bus=BUS           system (the default), user, or a D-Bus address\n"
           "     --config-dir=DIR    Configuration (" CONFIG_DIR ")\n"
           "     --state-dir=DIR     Tenants made at run time (" STATE_DIR ")\n"
           "     --runtime-dir=DIR   State that lives until the next boot (" RUNTIME_DIR ")\n"
           "     --load              Load the ledger and the guard into the kernel, and end\n"
           "     --unload            Remove them from the kernel, and end\n");
}

/* 1: go on; 0: done; negative: wrong usage. */
static int parse_options(int argc, char *argv[], Options *options)
{
    enum {
        OPTION_VERSION = 256,
        OPTION_SIMULATE,
        OPTION_BUS,
        OPTION_CONFIG_DIR,
        OPTION_STATE_DIR,
        OPTION_RUNTIME_DIR,
        OPTION_LOAD,
        OPTION_UNLOAD,
    };
    static const struct option names[] = {
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, OPTION_VERSION},
        {"simulate", required_argument, NULL, OPTION_SIMULATE},
        {"bus", required_argument, NULL, OPTION_BUS},
        {"config-dir", required_argument, NULL, OPTION_CONFIG_DIR},
        {"state-dir", required_argument, NULL, OPTION_STATE_DIR},
        {"runtime-dir", required_argument, NULL, OPTION_RUNTIME_DIR},
        {"load", no_argument, NULL, OPTION_LOAD},
        {"unload", no_argument, NULL, OPTION_UNLOAD},
        {NULL},
    };
    int c;
    while ((c = getopt_long(argc, argv, "h", names, NULL)) >= 0) {
        switch (c) {
        case 'h':
            print_help();
            return 0;
        case OPTION_VERSION:
            puts("iommud " VERSION);
            return 0;
        case OPTION_SIMULATE:
            options->service.simulate = optarg;
            break;
        case OPTION_BUS:
            options->bus = optarg;
            break;
        case OPTION_CONFIG_DIR:
            options->service.config_dir = optarg;
            break;
        case OPTION_STATE_DIR:
            options->service.state_dir = optarg;
            break;
        case OPTION_RUNTIME_DIR:
            options->service.runtime_dir = optarg;
            break;
        case OPTION_LOAD:
            options->load = true;
            break;
        case OPTION_UNLOAD:
            options->unload = true;
            break;
        default:
            return -1;
        }
    }
    if (optind < argc)
        fprintf(stderr, "iommud: there is no argument \"%s\"; try --help.\n", argv[optind]);
    return optind < argc ? -1 : 1;
}

/* ---- signals ---- */

static int on_hangup(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
    g_autoptr(GError) error = NULL;
    (void)sd_notify(0, "RELOADING=1");
    if (!manager_reload(userdata, &error))
        journal_write(LOG_ERR, MESSAGE_CONFIG_REJECTED, NULL,
                      "The configuration is not taken over, and the old one stays: %s",
                      error->message);
    (void)sd_notify(0, "READY=1");
    return 0;
}

/* Signals are for the event loop. They must be blocked before there is another thread, which would
 * be killed by them, and the process with it. */
static int block_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    return sigprocmask(SIG_BLOCK, &set, NULL) < 0 ? -errno : 0;
}

static int watch_signals(sd_event *event, Manager *manager)
{
    /* Without a callback a signal ends the loop. */
    int r = sd_event_add_signal(event, NULL, SIGTERM, NULL, NULL);
    if (r >= 0)
        r = sd_event_add_signal(event, NULL, SIGINT, NULL, NULL);
    if (r >= 0)
        r = sd_event_add_signal(event, NULL, SIGHUP, on_hangup, manager);
    return r;
}

/* ---- bus ---- */

/* The bus receives the descriptors that it passes on, which the guard allows only those that it was
 * told of. If a bus does not say its pid, the guard refuses it what Open() sends. */
static void trust_bus(Manager *manager)
{
    g_autoptr(sd_bus_message) reply = NULL;
    uint32_t pid;
    if (sd_bus_call_method(manager->bus, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                           "org.freedesktop.DBus", "GetConnectionUnixProcessID", NULL, &reply, "s",
                           "org.freedesktop.DBus") >= 0 &&
        sd_bus_message_read(reply, "u", &pid) >= 0)
        accounting_trust_relay(manager->accounting, (pid_t)pid);
}

/* The name is requested last: whoever sees it finds all objects. */
static int join_bus(Service *service, const char *name)
{
    Manager *manager = service->manager;
    int r = bus_connect(name, &manager->bus);
    if (r >= 0)
        r = sd_bus_set_exit_on_disconnect(manager->bus, true);
    if (r >= 0)
        r = sd_bus_attach_event(manager->bus, manager->event, SD_EVENT_PRIORITY_NORMAL);
    if (r >= 0)
        r = access_install(manager->bus);
    if (r >= 0)
        r = bus_register(service);
    if (r >= 0)
        trust_bus(manager);
    if (r >= 0)
        r = sd_bus_request_name(manager->bus, BUS_NAME, 0);
    return r;
}

static int run(sd_event *event, Service *service, const char *bus)
{
    Manager *manager = service->manager;
    int r = watch_signals(event, manager);
    if (r >= 0)
        r = sd_event_set_watchdog(event, true);
    if (r < 0) {
        journal_write(LOG_ERR, MESSAGE_START_FAILED, NULL, "The event loop can't be set up: %s.",
                      g_strerror(-r));
        return r;
    }
    r = join_bus(service, bus);
    if (r < 0) {
        journal_write(LOG_ERR, MESSAGE_START_FAILED, NULL,
                      r == -EEXIST ? "Another iommud runs on the bus \"%s\" already: %s."
                                   : "The bus \"%s\" can't be joined: %s.",
                      bus, g_strerror(-r));
        return r;
    }
    (void)sd_notify(0, "READY=1");
    manager_notify_status(manager);
    journal_write(LOG_INFO, MESSAGE_STARTED, NULL, "iommud " VERSION " is ready.");
    r = sd_event_loop(event);
    (void)sd_notify(0, "STOPPING=1");
    return r;
}

/* Each is a run of its own (ExecStartPre): the service lacks the privileges that they need. */
static int load_or_unload(const Options *options)
{
    const ServiceOptions *service = &options->service;
    g_autoptr(GError) error = NULL;
    g_autoptr(Config) config = NULL;
    Host *host = NULL;
    bool done = service_open_host(service, &host, &error);
    if (done && options->unload)
        done = accounting_unload(host, &error);
    if (done && options->load) {
        config = config_load(service->config_dir, service->state_dir, &error);
        done = config && accounting_load(host, config, service->runtime_dir, &error);
    }
    host_free(host);
    if (!done)
        fprintf(stderr, "iommud: %s\n", error->message);
    return done ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char *argv[])
{
    Options options = {
        .service = {.config_dir = CONFIG_DIR, .state_dir = STATE_DIR, .runtime_dir = RUNTIME_DIR},
        .bus = "system",
    };
    /* One malloc() arena for all threads: an arena for each worker would only cost memory, as
     * workers allocate next to nothing. */
    mallopt(M_ARENA_MAX, 1);
    setlocale(LC_CTYPE, "C.UTF-8");
    bus_error_register();
    int r = parse_options(argc, argv, &options);
    if (r <= 0)
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
    if (options.load || options.unload)
        return load_or_unload(&options);

    g_autoptr(sd_event) event = NULL;
    r = block_signals();
    if (r >= 0)
        r = sd_event_default(&event);
    if (r < 0) {
        fprintf(stderr, "iommud: no event loop: %s.\n", g_strerror(-r));
        return EXIT_FAILURE;
    }
    g_autoptr(GError) error = NULL;
    g_autoptr(Manager) manager = service_new(event, &options.service, &error);
    if (!manager) {
        journal_write(LOG_ERR, MESSAGE_START_FAILED, NULL, "iommud can't start: %s",
                      error->message);
        return EXIT_FAILURE;
    }
    Service service = {
        .manager = manager,
        .reaper = reaper_new(manager),
        .pending = pending_calls_new(manager),
    };
    r = run(event, &service, options.bus);
    service_stop(manager);
    pending_calls_free(service.pending);
    reaper_free(service.reaper);
    return r < 0 ? EXIT_FAILURE : r;
}
