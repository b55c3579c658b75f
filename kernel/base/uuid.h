/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* UUIDs as text. Canonical is lower case with dashes: 4dea22b3-1d52-d8f3-2516-782e98ab3fa0. */
#pragma once

#include <stdbool.h>

/* A UUID in any of the usual spellings (any case, all of its dashes or none) -> canonical, to be
 * freed with g_free(). NULL: text is anything else, or NULL. */
char *uuid_canonicalize(const char *text);
/* text may be NULL. */
bool uuid_is_canonical(const char *text);
