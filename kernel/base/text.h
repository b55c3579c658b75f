/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Text that somebody else wrote, on its way to a terminal, a journal or an error message. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Characters of such a text that a sentence quotes. */
#define TEXT_QUOTED_MAX 128
/* No limit for text_sanitize(). */
#define TEXT_WHOLE SIZE_MAX

/* A copy that is one line of valid UTF-8 and nothing but letters that can be seen, to be freed with
 * g_free(). Invalid bytes become U+FFFD; control characters (C0, C1, DEL), line separators, those
 * that turn or hide text (bidirectional controls, zero width, tags) and unassigned ones become '?',
 * and in ascii all that is not ASCII. After max_chars characters the rest is "...". NULL is "". */
char *text_sanitize(const char *text, size_t max_chars, bool ascii);
