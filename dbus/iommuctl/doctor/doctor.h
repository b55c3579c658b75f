/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * 'iommuctl doctor': each check says one sentence, and what to do about it when it is not well.
 *
 * What the service knows of its kernel goes first (it may be a simulated one); this host's files
 * say the same while the service is away, and why something is missing.
 */
#pragma once

#include "dbus/iommuctl/base/context.h"

int verb_doctor(Iommuctl *ctl, char **arguments);
