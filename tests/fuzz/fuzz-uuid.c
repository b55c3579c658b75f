/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/base/uuid.h"

#include <glib.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    g_autofree char *uuid = uuid_canonicalize(text);
    if (!uuid) {
        g_assert_false(uuid_is_canonical(text));
        return 0;
    }
    g_assert_true(g_uuid_string_is_valid(uuid));
    g_assert_true(uuid_is_canonical(uuid));
    g_assert_true(uuid_is_canonical(text) == (strcmp(text, uuid) == 0));
    g_assert_true(strlen(text) == strlen(uuid) ? g_ascii_strcasecmp(text, uuid) == 0
                                               : strlen(text) == 32);
    return 0;
}
