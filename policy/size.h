/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sizes as people write them. */
#pragma once

#include <glib.h>
#include <stdint.h>

/* "no limit", on the bus and in memory. */
#define SIZE_INFINITY UINT64_MAX

/* "64G", "512M", "1.5G", "4096", "infinity" -> bytes. Suffixes B, K, M, G, T, P are powers of
 * 1024, also written KiB or KB, in any case; decimals only with K and above, rounded down to a
 * byte. INVALID_ARGUMENT: anything else, negative, or over 2^64 - 2 bytes. */
gboolean size_parse(const char *text, uint64_t *ret_bytes, GError **error);

/* Bytes for people: "64G", "512.5M", "0B", "infinity"; at most one decimal, never rounded up to
 * more than there is. Freed with g_free(). */
char *size_format(uint64_t bytes);
