/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * PCI functions as people and rules name them.
 *
 * A pattern is an address with the shell's wildcards * ? [...] ("0000:81:00.*", "0000:81:1[0-7].*",
 * "*"), or VENDOR:PRODUCT, each of them four hex digits or * for any ("10de:*", "8086:1521").
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* "1:0.0", "01:00.0", "0000:01:00.0" -> "0000:01:00.0", or NULL with INVALID_ARGUMENT. Freed with
 * g_free(). */
char *device_address_parse(const char *text, GError **error);

/* The same for all of a NULL-terminated list (NULL: none), sorted; INVALID_ARGUMENT also when one
 * device is named twice. Freed with g_strfreev(). */
char **device_addresses_parse(const char *const *texts, GError **error);
/* Whether a list (NULL: none) is as device_addresses_parse() makes it. */
bool device_addresses_are_canonical(const char *const *addresses);

/* Whether text is a pattern that some device could match. INVALID_ARGUMENT. */
gboolean device_pattern_check(const char *pattern, GError **error);
/* pattern as device_pattern_check() accepts it, address canonical. */
bool device_pattern_matches(const char *pattern, const char *address, uint16_t vendor,
                            uint16_t product);
