/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* JSON that came from elsewhere, in the reader's layout. */
#pragma once

#include <stdbool.h>

/* text with two spaces per level and one value per line, or (not pretty) on one line. Only the
 * blanks between the values change. Freed with g_free(). */
char *json_text_layout(const char *text, bool pretty);
