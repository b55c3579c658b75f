/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A command that is a machine of a tenant. A verb is as base/context.h says. */
#pragma once

#include "dbus/iommuctl/base/context.h"

int verb_run(Iommuctl *ctl, char **arguments);
