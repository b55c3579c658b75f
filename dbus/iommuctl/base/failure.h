/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "dbus/iommuctl/base/context.h"

/* Sets the context's error to one sentence and returns -EINVAL. fail_usage(): a mistake in writing
 * the command, exit status 2. */
int fail(Iommuctl *ctl, const char *format, ...) G_GNUC_PRINTF(2, 3);
int fail_usage(Iommuctl *ctl, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Prints one sentence on what went wrong, made of the context's error and r, and forgets it. */
void print_failure(Iommuctl *ctl, int r);
