/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the agent does about domains: calls to libvirt and iommud that block, one after the other.
 * For worker threads only; iommud never waits for the agent, so that neither waits for the other.
 *
 * Functions return 0 or a negative errno, and then error says why in a sentence for the caller on
 * the bus.
 */
#pragma once

#include "plugin/libvirt/agent/associations.h"
#include "plugin/libvirt/agent/work-context.h"

/* The domain of this UUID or name. */
int domain_resolve(const WorkContext *context, const char *domain, char **ret_uuid,
                   sd_bus_error *error);
/* The same, after <iommufd> and the tenant were put into its definition. Nothing is changed when
 * there is no such tenant, or the domain can't be enabled. */
int domain_enable(const WorkContext *context, const char *domain, const char *tenant,
                  char **ret_uuid, sd_bus_error *error);

/* What one domain needs. */
typedef struct {
    char *uuid;
    unsigned flags;      /* JobFlags */
    bool forced;         /* somebody asks for it: what libvirt is known to have is handed again */
    char *pinned_tenant; /* that it is known to run as; "": unknown */
    char *tenant;        /* whose IOMMUFD libvirt has for it, */
    uint64_t iommufd;    /* and which; "" and 0: none */
    DomainLive *live;    /* what iommud was told last; NULL: unknown */

    int fd; /* that domain_job_give() hands over; -EBADF: nothing has to be */
    JobResult result;
    sd_bus_error error; /* why it is not associated */
} DomainJob;

/* Does the jobs, less handing the IOMMUFD over; one that turns out to have to associate has
 * JOB_ASSOCIATE among its flags afterwards. Why one could not be synchronized is logged: nobody
 * waits for it. */
void domain_job_run(const WorkContext *context, DomainJob *job);
/* Then, if there is an fd: hands it to libvirt. This waits while a start holds the domain's lock.
 */
void domain_job_give(const WorkContext *context, DomainJob *job);
/* Frees what is in it. */
void domain_job_clear(DomainJob *job);

typedef struct {
    char uuid[VIR_UUID_STRING_BUFLEN];
    bool active;
} DomainState;

/* All domains, an array of DomainState. */
int domain_list(const WorkContext *context, GArray **ret_states, sd_bus_error *error);

/* Starts it. Takes as long as the machine takes. Already running is fine. */
int domain_start(const WorkContext *context, const char *uuid, sd_bus_error *error);
