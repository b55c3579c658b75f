/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The service's tenants, machines and devices with all their properties, in one answer: what it
 * says of one of them fits what it says of the others. */
#pragma once

#include "dbus/client/properties.h"

typedef struct {
    GHashTable *tenants;  /* object path -> Properties, both owned */
    GHashTable *machines; /* the same */
    GHashTable *devices;  /* the same */
} Managed;

/* What was in *ret_managed before is not freed. */
int managed_get(sd_bus *bus, sd_bus_error *error, Managed *ret_managed);
void managed_clear(Managed *managed);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Managed, managed_clear)

/* Properties in the order of a property that is a string, and of equals by their paths; not owned.
 * Freed with g_ptr_array_unref(). */
GPtrArray *managed_sorted(GHashTable *objects, const char *property);
/* The sum of a figure of all tenants. */
uint64_t managed_sum(const Managed *managed, const char *property);
/* The tenant with this id, or NULL. Not owned. */
const Properties *managed_tenant(const Managed *managed, const char *id);
/* The machine with this UUID, or NULL. Not owned. */
const Properties *managed_machine(const Managed *managed, const char *uuid);
/* The machine with this UUID, in any case, or else with this name. -ENXIO: none; -ENOTUNIQ: more
 * than one has the name. Not owned. */
int managed_find_machine(const Managed *managed, const char *text, const Properties **ret_machine);
