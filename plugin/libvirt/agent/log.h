/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The agent's log: lines on stderr, with the journal's priorities when that is who reads them. */
#pragma once

#include <glib.h>

void log_info(const char *format, ...) G_GNUC_PRINTF(1, 2);
void log_warning(const char *format, ...) G_GNUC_PRINTF(1, 2);
