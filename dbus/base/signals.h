/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the service tells everybody on the bus. Nothing is sent while bus is NULL: before the
 * service has joined it, and in tests without one.
 */
#pragma once

#include "dbus/base/refusal.h"
#include "dbus/base/sd-cleanup.h"

/* InterfacesAdded and TenantNew, when the tenant is there. */
void signal_tenant_added(sd_bus *bus, const char *id);
/* InterfacesRemoved and TenantRemoved, whether it is still there or not. */
void signal_tenant_removed(sd_bus *bus, const char *id);
/* The same of a machine. uuid canonical. */
void signal_machine_added(sd_bus *bus, const char *uuid);
void signal_machine_removed(sd_bus *bus, const char *uuid);
/* PropertiesChanged of one property, which its vtable marks EMITS_CHANGE. */
void signal_tenant_changed(sd_bus *bus, const char *id, const char *property);
void signal_machine_changed(sd_bus *bus, const char *uuid, const char *property);
void signal_manager_changed(sd_bus *bus, const char *property);
/* ReservedBytes of the tenant and of the host. */
void signal_reserved_changed(sd_bus *bus, const char *tenant);
/* LimitExceeded: an admission or a mapping would have gone above a limit. */
void signal_limit_exceeded(sd_bus *bus, const Refusal *refusal);
/* Refused: the guard has refused an ioctl or an IOMMUFD. */
void signal_refused(sd_bus *bus, const Refusal *refusal);
/* Reaped: so much of a dead machine was destroyed and given back. */
void signal_reaped(sd_bus *bus, const char *tenant, const char *uuid, uint32_t objects,
                   uint64_t bytes);
