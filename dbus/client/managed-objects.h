/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The service's tenants and machines with all their properties, in one answer. */
#pragma once

#include "dbus/client/properties.h"

typedef struct {
    GHashTable *tenants;  /* object path -> Properties, both owned */
    GHashTable *machines; /* the same */
} Managed;

/* What was in *ret_managed before is not freed. */
int managed_get(sd_bus *bus, sd_bus_error *error, Managed *ret_managed);
/* How many calls of all tenants were refused. */
uint64_t managed_refusals(const Managed *managed);
void managed_clear(Managed *managed);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Managed, managed_clear)
