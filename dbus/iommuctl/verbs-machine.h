/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Machines. A verb is as base/context.h says. */
#pragma once

#include "dbus/iommuctl/base/context.h"

int verb_machines(Iommuctl *ctl, char **arguments);
int verb_machine_show(Iommuctl *ctl, char **arguments);
int verb_machine_release(Iommuctl *ctl, char **arguments);
