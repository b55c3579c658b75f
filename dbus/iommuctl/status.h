/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The host, its tenants, their machines and devices, as one tree. A verb is as base/context.h says.
 */
#pragma once

#include "dbus/iommuctl/base/context.h"

int verb_status(Iommuctl *ctl, char **arguments);
