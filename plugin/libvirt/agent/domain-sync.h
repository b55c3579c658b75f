/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Hot-plugging runs no hook, and a start can miss iommud: these make iommud's accounting say what
 * libvirt's domains have. For worker threads. They log what goes wrong: nobody waits for them.
 */
#pragma once

#include "plugin/libvirt/agent/work-context.h"

/* Makes iommud's machine have the running domain's leader, devices and memory. A machine that
 * iommud does not know is admitted, and for pinned_tenant if that is not "", whatever its metadata
 * says by now. *ret_pinned_tenant is the tenant of the machine that iommud has, freed with
 * g_free(); it is left alone when there is none or the domain does not run. */
void domain_sync(const WorkContext *context, virDomain *dom, const char *pinned_tenant,
                 char **ret_pinned_tenant);

/* Gives back what was admitted for starts that were lost: releases the machines that were already
 * in seen and are still only admitted, while libvirt has the domain and it does not run. Returns
 * the UUIDs of those that are admitted now, for the next time; seen may be NULL. */
GHashTable *domain_release_lost(const WorkContext *context, GHashTable *seen);
