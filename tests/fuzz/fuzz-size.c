/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policy/error.h"
#include "policy/size.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    g_autoptr(GError) error = NULL;
    uint64_t bytes = 0;
    if (!size_parse(text, &bytes, &error)) {
        g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT);
        g_assert_true(g_utf8_validate(error->message, -1, NULL));
        g_assert_cmpuint(bytes, ==, 0);
        return 0;
    }
    /* What is shown can be read, is never more, and less by less than a tenth of its unit. */
    g_autofree char *shown = size_format(bytes);
    uint64_t again = 0;
    g_assert_true(size_parse(shown, &again, NULL));
    g_assert_cmpuint(again, <=, bytes);
    g_assert_cmpuint(bytes - again, <=, bytes / 10);
    g_assert_true((again == SIZE_INFINITY) == (bytes == SIZE_INFINITY));
    return 0;
}
