/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The begin and the end of all that main() runs, less the bus. */
#pragma once

#include "dbus/core/manager.h"

typedef struct {
    const char *config_dir;
    const char *state_dir;
    const char *runtime_dir;
    const char *simulate; /* the simulated host's file, NULL: the running kernel */
} ServiceOptions;

/* The host that the options name. KERNEL_REFUSED, INVALID_ARGUMENT. */
gboolean service_open_host(const ServiceOptions *options, Host **ret_host, GError **error);
/* Reads the configuration, and takes up what an earlier run has left: machines, leaders, IOMMUFDs.
 * Logs on its own what is missing on this host. */
Manager *service_new(sd_event *event, const ServiceOptions *options, GError **error);
/* Ends the workers: what they did is taken up. Nothing is to be queued with them any more. */
void service_stop(Manager *manager);
/* Machines and IOMMUFDs stay as they are, for the next run. Accepts NULL. */
void service_free(Manager *manager);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Manager, service_free)
