/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Devices: who may use them, and which driver has them. A verb is as base/context.h says. */
#pragma once

#include "dbus/iommuctl/base/context.h"

int verb_devices(Iommuctl *ctl, char **arguments);
int verb_device_bind(Iommuctl *ctl, char **arguments);
int verb_device_restore(Iommuctl *ctl, char **arguments);
