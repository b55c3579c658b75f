/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The domains that use iommud: whose IOMMUFD each of them has, and what is to be done about each.
 *
 * Work on one domain is never done twice at a time: what is wanted while some is being done is
 * collected and done afterwards, once. UUIDs are as libvirt spells them.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

typedef enum {
    WORK_ASSOCIATE = 1 << 0, /* hand libvirt the tenant's IOMMUFD */
    WORK_FOLLOW = 1 << 1,    /* make iommud's books say what the running domain has */
} WorkFlags;

typedef struct {
    char *uuid;
    char *name;    /* "" before it was looked at */
    bool ours;     /* its definition names our fdgroup */
    char *wanted;  /* the tenant that its definition names; "" when it was not found out */
    char *tenant;  /* whose IOMMUFD libvirt has for it; "": none */
    char *running; /* the tenant that it runs as: never changes while it runs; "": unknown */

    unsigned work;      /* WorkFlags that are wanted */
    bool busy;          /* some is being done */
    GPtrArray *callers; /* who waits for WORK_ASSOCIATE; owned as the table was told */
} Association;

typedef struct Associations Associations;

/* free_caller frees what associations_want() is given. */
Associations *associations_new(GDestroyNotify free_caller);
/* Accepts NULL. */
void associations_free(Associations *associations);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Associations, associations_free)

/* NULL when it is unknown. */
Association *associations_find(Associations *associations, const char *uuid);
/* Adds work; takes caller, which may be NULL. Makes the entry if there is none. */
Association *associations_want(Associations *associations, const char *uuid, unsigned work,
                               void *caller);
/* The next entry with work that is not busy, or NULL. */
Association *associations_next(Associations *associations);
/* Begins what is wanted: the entry is busy until associations_done(). *ret_callers is owned. */
unsigned associations_begin(Associations *associations, Association *association,
                            GPtrArray **ret_callers);

/* What was found out about a domain. Strings as in Association. */
typedef struct {
    bool found;      /* libvirt has it */
    bool ours;       /* looked for with WORK_ASSOCIATE, as are associated and wanted */
    bool associated; /* libvirt has the IOMMUFD of wanted now */
    const char *name;
    const char *wanted;
    const char *running; /* NULL: not looked for */
} Finding;

/* Ends what was begun. done: the work that was asked for. Forgets a domain that is gone or none of
 * ours, unless more is wanted of it. */
void associations_done(Associations *associations, Association *association, unsigned done,
                       const Finding *finding);

/* The domain has stopped: the next start may be another tenant's. */
void associations_stopped(Associations *associations, const char *uuid);
/* libvirt's copies of all descriptors are gone (its connection is), or of one tenant's (it was
 * removed). NULL: all. */
void associations_lost(Associations *associations, const char *tenant);
/* Wants WORK_ASSOCIATE of the domains that the tenant's appearance concerns: those that name it and
 * those whose tenant was not found out. */
void associations_want_tenant(Associations *associations, const char *tenant);

/* All that are associated, not owned, sorted by name and UUID; free with g_ptr_array_unref(). */
GPtrArray *associations_list(Associations *associations);
