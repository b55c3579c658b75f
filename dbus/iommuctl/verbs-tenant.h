/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tenants. A verb is as base/context.h says. */
#pragma once

#include "dbus/iommuctl/base/context.h"

int verb_tenant_list(Iommuctl *ctl, char **arguments);
int verb_tenant_show(Iommuctl *ctl, char **arguments);
int verb_tenant_create(Iommuctl *ctl, char **arguments);
int verb_tenant_set_limit(Iommuctl *ctl, char **arguments);
int verb_tenant_delete(Iommuctl *ctl, char **arguments);
