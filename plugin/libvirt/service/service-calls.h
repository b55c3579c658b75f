/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the hook and the agent ask iommud. Functions return 0 or a negative errno, and then error
 * holds what was answered. None of them starts iommud: what an administrator has stopped stays
 * stopped, and is reported.
 */
#pragma once

#include "plugin/libvirt/domain/domain-request.h"
#include "dbus/client/properties.h"

/* Whether iommud itself (or the bus on its behalf) said no. False for every failure that may be
 * gone the next time: it does not run, restarts, does not answer. */
bool iommud_refused(const sd_bus_error *error);

/* Whether a refusal of this machine is to be heeded: its domain uses iommud or names a tenant, or
 * iommud said more than that it has no tenant for it. A domain that only has devices is none of
 * iommud's business while there is no default tenant. */
bool iommud_refusal_counts(const DomainRequest *request, const sd_bus_error *error);

/* iommufd_id: of the IOMMUFD that the start will be given; 0: not said, and not checked. */
int iommud_admit(sd_bus *bus, const DomainRequest *request, uint64_t iommufd_id,
                 sd_bus_error *error);
/* pidfd: of the leader. */
int iommud_start(sd_bus *bus, const char *uuid, int pidfd, sd_bus_error *error);
int iommud_release(sd_bus *bus, const char *uuid, const char *reason, sd_bus_error *error);

/* A machine as iommud knows it. */
typedef struct {
    char *path;
    char *tenant; /* its id */
    char *state;
    char **devices;
    uint64_t reserved;
} IommudMachine;

/* -ENXIO with NoSuchMachine: iommud does not know it. */
int iommud_get_machine(sd_bus *bus, const char *uuid, IommudMachine **ret_machine,
                       sd_bus_error *error);
/* Accepts NULL. */
void iommud_machine_free(IommudMachine *machine);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(IommudMachine, iommud_machine_free)

/* Calls AddDevice or RemoveDevice of a machine. */
int iommud_change_device(sd_bus *bus, const IommudMachine *machine, const char *method,
                         const char *address, sd_bus_error *error);
int iommud_set_reservation(sd_bus *bus, const IommudMachine *machine, const DomainRequest *request,
                           sd_bus_error *error);

/* UUIDs of the machines that were admitted and have not started yet; owned strings. */
int iommud_list_admitted(sd_bus *bus, GPtrArray **ret_uuids, sd_bus_error *error);

/* The tenant of machines that name none; "" when there is no such tenant. Freed with g_free(). */
int iommud_default_tenant(sd_bus *bus, char **ret_tenant, sd_bus_error *error);
/* Whether machines of the tenant that are admitted now share one IOMMUFD. */
int iommud_tenant_shares(sd_bus *bus, const char *tenant, bool *ret_shares, sd_bus_error *error);
/* The tenant's IOMMUFD, or a fresh one if each of its machines has its own, and the id by which an
 * admission names it. The caller owns the descriptor. */
int iommud_open_tenant(sd_bus *bus, const char *tenant, int *ret_fd, uint64_t *ret_id,
                       sd_bus_error *error);
