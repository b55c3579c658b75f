/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Whom the jobs on worker threads ask: libvirt and iommud. All calls here may block, but
 * work_context_new().
 *
 * Functions return 0 or a negative errno, and then error says why in a sentence for the caller on
 * the bus.
 */
#pragma once

#include "dbus/client/client.h"

#include <libvirt/libvirt.h>
#include <stdbool.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(virDomain, virDomainFree)

#define LIBVIRT_FAILED BUS_ERROR_PREFIX "LibvirtFailed"
/* <iommufd fdgroup> came with 12.2. */
#define LIBVIRT_VERSION_FDGROUP 12002000

typedef struct {
    virConnectPtr libvirt;   /* a reference of the context's own */
    bool has_fdgroup;        /* that libvirt knows <iommufd fdgroup> */
    const char *bus_address; /* as client_open_bus() takes it; not owned */
} WorkContext;

/* version: libvirt's. Never NULL. */
WorkContext *work_context_new(virConnectPtr libvirt, unsigned long version,
                              const char *bus_address);
/* On a worker thread: dropping the last reference to a connection is a call to libvirtd. */
void work_context_free(WorkContext *context);

/* The calling thread's connection to iommud's bus; not owned. */
int work_context_bus(const WorkContext *context, sd_bus **ret_bus, sd_bus_error *error);
/* A domain's XML, by libvirt's flags, freed with g_free(). */
int libvirt_domain_xml(virDomain *dom, unsigned flags, char **ret_text, sd_bus_error *error);

/* "12.8.0", freed with g_free(). */
char *libvirt_version_text(unsigned long version);
/* Sets error to LIBVIRT_FAILED: what, a colon, and what libvirt says. Returns -EIO. */
G_GNUC_PRINTF(2, 3) int libvirt_error(sd_bus_error *error, const char *what, ...);
