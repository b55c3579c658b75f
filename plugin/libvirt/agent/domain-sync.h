/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Hot-plugging runs no hook, and a start can miss iommud: these make iommud's accounting say what
 * libvirt's domains have. For worker threads. They log what goes wrong: nobody waits for them.
 */
#pragma once

#include "plugin/libvirt/agent/associations.h"
#include "plugin/libvirt/agent/work-context.h"

/* Makes iommud's machine have the running domain's leader, devices and memory. Given back is only
 * what the domain has had (known; NULL: that is not known) and has no longer: anything else was
 * promised by somebody for later. A machine that iommud does not know is admitted, and for
 * pinned_tenant if that is not "", whatever its metadata says by now. *ret_pinned_tenant is the
 * tenant of the machine that iommud has, freed with g_free(), and *ret_live what it was told; they
 * are left alone when there is none or the domain does not run. */
void domain_sync(const WorkContext *context, virDomain *dom, const char *pinned_tenant,
                 const DomainLive *known, char **ret_pinned_tenant, DomainLive **ret_live);

/* Looks at machines that iommud has only admitted. One whose domain runs is started: the hook could
 * not do it. One that was already in seen, while libvirt has the domain and it does not run, is
 * released: its start was lost. Returns the UUIDs of those that are admitted now, for the next
 * time; seen may be NULL. */
GHashTable *domain_settle_admitted(const WorkContext *context, GHashTable *seen);
