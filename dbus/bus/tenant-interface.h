/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* org.iommud1.Tenant */
#pragma once

#include "dbus/bus/bus.h"

/* Puts it on the bus. 0 or negative errno. */
int bus_tenant_register(Service *service);
