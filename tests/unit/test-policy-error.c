/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policy/error.h"

#include <string.h>

static void test_quote(void)
{
    static const struct {
        const char *text;
        const char *quoted;
    } texts[] = {
        {NULL, "\"\""},
        {"", "\"\""},
        {"acme", "\"acme\""},
        {"a\nb\tc\033[31m", "\"a?b?c?[31m\""},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autofree char *quoted = error_quote(texts[i].text);
        g_assert_cmpstr(quoted, ==, texts[i].quoted);
    }
    g_autofree char *megabyte = g_strnfill(1024 * 1024, 'x');
    g_autofree char *cut = error_quote(megabyte);
    g_assert_cmpuint(strlen(cut), ==, 128 + strlen("\"...\""));
    g_assert_true(g_str_has_suffix(cut, "x...\""));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/error/quote", test_quote);
    return g_test_run();
}
