/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is in a tenant's IOMMUFD, and whose it is. A verb is as base/context.h says. */
#pragma once

#include "dbus/iommuctl/base/context.h"

int verb_objects(Iommuctl *ctl, char **arguments);
int verb_reap(Iommuctl *ctl, char **arguments);
