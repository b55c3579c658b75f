/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The domains that use iommud: whose IOMMUFD each of them has, and which jobs it needs.
 *
 * Jobs on one domain are never done twice at a time: what is asked for while one is on its way is
 * collected and done afterwards, once. UUIDs are as libvirt spells them.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum {
    JOB_ASSOCIATE = 1 << 0, /* hand libvirt the tenant's IOMMUFD */
    JOB_SYNC = 1 << 1,      /* make iommud's accounting say what the running domain has */
    /* Hand libvirt another IOMMUFD, where each start is to have its own: what a start that has
     * ended left in the one that libvirt has would stay pinned as long as that is open. */
    JOB_RENEW = 1 << 2,
} JobFlags;

/* What a running domain had when iommud was last told of it. */
typedef struct {
    char **devices;
    uint64_t bytes;    /* that its memory needs */
    uint64_t reserved; /* what iommud had reserved for it after that */
} DomainLive;

DomainLive *domain_live_new(char **devices, uint64_t bytes, uint64_t reserved);
/* Both accept NULL. */
DomainLive *domain_live_copy(const DomainLive *live);
void domain_live_free(DomainLive *live);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DomainLive, domain_live_free)

typedef struct {
    char *uuid;
    char *name;           /* "" before it was looked at */
    bool uses_iommud;     /* its definition names our fdgroup */
    char *desired_tenant; /* that its definition names; "" when it was not found out */
    /* Whose IOMMUFD libvirt has for it now, and the id by which an admission names it. "" and 0:
     * none, or it is not known for sure. */
    char *tenant;
    uint64_t iommufd;
    bool given;          /* a start has been told of it */
    char *why;           /* why libvirt has none, as the last job said; NULL: no job has */
    char *pinned_tenant; /* that it runs as, which never changes while it runs; "": unknown */
    DomainLive *live;    /* NULL: unknown */

    unsigned pending;   /* JobFlags that are asked for */
    bool busy;          /* a job is on its way */
    unsigned epoch;     /* how often what libvirt has became unknown */
    GPtrArray *callers; /* who waits for JOB_ASSOCIATE; owned as the table was told */
} Association;

typedef struct Associations Associations;

/* free_caller frees what associations_request() is given. */
Associations *associations_new(GDestroyNotify free_caller);
/* Accepts NULL. */
void associations_free(Associations *associations);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Associations, associations_free)

/* NULL when it is unknown. */
Association *associations_find(Associations *associations, const char *uuid);
/* Asks for jobs; takes caller, which may be NULL. Makes the entry if there is none. */
Association *associations_request(Associations *associations, const char *uuid, unsigned flags,
                                  void *caller);
/* The next entry that needs a job and is not busy, or NULL. */
Association *associations_next(Associations *associations);
/* Begins the jobs that are asked for, and returns them: the entry is busy until
 * associations_done(). *ret_callers is owned. */
unsigned associations_begin(Associations *associations, Association *association,
                            GPtrArray **ret_callers);

/* What came of a job. Its strings are owned; NULL where a job did not get so far. */
typedef struct {
    bool found;       /* libvirt has the domain */
    bool uses_iommud; /* by JOB_ASSOCIATE, as is all down to desired_tenant */
    bool autostart;   /* it does not run, and libvirtd is to start it at boot */
    bool associated;  /* libvirt has the IOMMUFD of desired_tenant, this one */
    uint64_t iommufd;
    unsigned epoch; /* of associations_give() */
    char *name;
    char *desired_tenant;
    char *pinned_tenant; /* by JOB_SYNC */
    DomainLive *live;    /* by JOB_SYNC; taken over by the table */
    const char *why;     /* it is not associated; not owned; NULL: it is */
} JobResult;

/* libvirt is about to be handed another IOMMUFD: until that has an answer nobody knows which it
 * has. Returns what JobResult.epoch is to be. */
unsigned associations_give(Association *association);
/* Ends what was begun. Sets result->associated to false if what libvirt has became unknown since
 * associations_give(): it may have been handed to a domain that is gone. done: the jobs that were
 * asked for. Forgets a domain that is gone or does not use iommud, unless more is asked for. */
void associations_done(Associations *associations, Association *association, unsigned done,
                       JobResult *result);

/* What libvirt has for the domain is gone: it is undefined, or another of that UUID is defined. */
void associations_void(Associations *associations, const char *uuid);
/* The domain has stopped: the next start may be another tenant's. */
void associations_stopped(Associations *associations, const char *uuid);
/* libvirt's copies of all descriptors are gone (its connection is), or of one tenant's (it was
 * removed). NULL: all. */
void associations_lost(Associations *associations, const char *tenant);
/* Asks for JOB_ASSOCIATE of the domains that a new tenant concerns: those that name it and those
 * whose tenant was not found out. */
void associations_request_tenant(Associations *associations, const char *tenant);

/* Whether no job is on its way or asked for. */
bool associations_idle(Associations *associations);

/* All that are associated, not owned, sorted by name and UUID; free with g_ptr_array_unref(). */
GPtrArray *associations_list(Associations *associations);
