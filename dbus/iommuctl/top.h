/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tenants or machines and what they do, again and again. A verb is as base/context.h says. */
#pragma once

#include "dbus/iommuctl/base/context.h"

int verb_top(Iommuctl *ctl, char **arguments);
