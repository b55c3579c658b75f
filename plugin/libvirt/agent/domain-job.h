/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the agent does about domains: calls to libvirt and iommud that block, one after the other.
 * For worker threads only; iommud never waits for the agent, so that no circle closes.
 *
 * Functions return 0 or a negative errno, and then error says why in a sentence for the caller on
 * the bus.
 */
#pragma once

#include "plugin/libvirt/agent/associations.h"
#include "dbus/client/client.h"

#include <libvirt/libvirt.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(virDomain, virDomainFree)

#define LIBVIRT_FAILED CLIENT_ERROR_PREFIX "LibvirtFailed"

/* Whom to ask. */
typedef struct {
    virConnectPtr libvirt;   /* a reference of the work's own */
    bool fdgroup;            /* that libvirt knows <iommufd fdgroup> */
    const char *bus_address; /* as client_open_bus() takes it */
} WorkContext;

/* Sets error to LIBVIRT_FAILED: what, a colon, and what libvirt says. Returns -EIO. */
G_GNUC_PRINTF(2, 3) int libvirt_error(sd_bus_error *error, const char *what, ...);

/* The calling thread's connection to iommud's bus; not owned. */
int work_bus(const WorkContext *context, sd_bus **ret_bus, sd_bus_error *error);
/* A domain's XML, by libvirt's flags, freed with g_free(). */
int work_xml(virDomain *dom, unsigned flags, char **ret_text, sd_bus_error *error);

/* The domain of this UUID or name. */
int domain_resolve(const WorkContext *context, const char *domain, char **ret_uuid,
                   sd_bus_error *error);
/* The same, after <iommufd> and the tenant were put into its definition. Nothing is changed when
 * there is no such tenant, or the domain can't be enabled. */
int domain_enable(const WorkContext *context, const char *domain, const char *tenant,
                  char **ret_uuid, sd_bus_error *error);

/* One domain's work. */
typedef struct {
    char *uuid;
    unsigned work;
    char *pinned; /* the tenant that it is known to run as; "": unknown */

    /* Results, as in Finding. */
    bool found;
    bool ours;
    bool associated;
    char *name;
    char *wanted;
    char *running;
    sd_bus_error error; /* why it is not associated */
} DomainWork;

/* Does what is wanted. Why following failed is logged: nobody waits for it. */
void domain_work(const WorkContext *context, DomainWork *work);
/* Frees what is in it. */
void domain_work_clear(DomainWork *work);

typedef struct {
    char uuid[VIR_UUID_STRING_BUFLEN];
    bool active;
    bool autostart; /* inactive, and libvirtd is to start it at boot */
} DomainState;

/* All domains, an array of DomainState. */
int domain_list(const WorkContext *context, GArray **ret_states, sd_bus_error *error);

/* Starts it. Takes as long as the machine takes. Already running is fine. */
int domain_start(const WorkContext *context, const char *uuid, sd_bus_error *error);

/* Makes iommud's books say what the running domain has: its leader, its devices, its memory. Sets
 * work->running. A machine that iommud does not know is admitted. What iommud refuses is logged:
 * it is there already, and nobody waits. */
void domain_follow(const WorkContext *context, virDomain *dom, DomainWork *work);

/*
 * Gives back what was admitted for starts that were lost: releases the machines that were already
 * in seen and are still only admitted, while libvirt has the domain and it does not run. Returns
 * those that are admitted now, for the next sweep; seen may be NULL. Logs.
 */
GHashTable *domain_sweep(const WorkContext *context, GHashTable *seen);
