/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From what people type to what the service knows. */
#pragma once

#include "dbus/client/managed-objects.h"
#include "dbus/iommuctl/base/context.h"

/* The object path of a tenant, which the service knows to exist. Freed with g_free(). */
int find_tenant(Iommuctl *ctl, const char *id, char **ret_path);
/* The object path of a device. Freed with g_free(). */
int find_device(Iommuctl *ctl, const char *address, char **ret_path);

/* Asks for all objects. */
int get_managed(Iommuctl *ctl, Managed *ret_managed);
/* A tenant among them, by id; a machine among them, by UUID or name. Not owned. */
int pick_tenant(Iommuctl *ctl, const Managed *managed, const char *id,
                const Properties **ret_tenant);
int pick_machine(Iommuctl *ctl, const Managed *managed, const char *text,
                 const Properties **ret_machine);
