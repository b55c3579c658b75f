/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is the same for every object on the bus: announcements, and a few types of values. */
#pragma once

#include "dbus/accounting/accounting.h"
#include "dbus/base/names.h"
#include "dbus/base/paths.h"
#include "dbus/base/refusal.h"

/* Puts every object on the bus: the last step before the name is requested. 0 or negative errno. */
int bus_register(Manager *manager);
/* One interface each; the parts of bus_register(). */
int bus_manager_register(Manager *manager);
int bus_tenant_register(Manager *manager);
int bus_machine_register(Manager *manager);
int bus_device_register(Manager *manager);
int bus_simulation_register(Manager *manager);

/* InterfacesAdded, TenantNew. When the tenant is there. */
void bus_tenant_added(Manager *manager, const char *id);
/* InterfacesRemoved, TenantRemoved. Whether it is still there or not. */
void bus_tenant_removed(Manager *manager, const char *id);
void bus_machine_added(Manager *manager, const char *uuid);
void bus_machine_removed(Manager *manager, const char *uuid);
/* PropertiesChanged of one property, which its vtable marks EMITS_CHANGE. */
void bus_tenant_changed(Manager *manager, const char *id, const char *property);
void bus_machine_changed(Manager *manager, const char *uuid, const char *property);
void bus_manager_changed(Manager *manager, const char *property);
/* ReservedBytes of the tenant and of the host. */
void bus_reserved_changed(Manager *manager, const char *tenant);
/* The signals of the same names. */
void bus_limit_exceeded(Manager *manager, const Refusal *refusal);
void bus_refused(Manager *manager, const Refusal *refusal);
void bus_reaped(Manager *manager, const char *tenant, const char *uuid, uint32_t objects,
                uint64_t bytes);

/* The figure of that property's name. 0 or negative errno. */
int bus_append_figure(sd_bus_message *reply, const char *property, const Figures *figures);
/* An array of strings; NULL-terminated, NULL is empty. 0 or negative errno. */
int bus_append_strings(sd_bus_message *message, const char *const *strings);
