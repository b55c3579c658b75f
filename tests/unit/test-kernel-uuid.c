/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/base/uuid.h"

#include <glib.h>

#define UUID "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"

static void test_canonicalize(void)
{
    static const char *const spellings[] = {
        UUID,
        "4DEA22B3-1D52-D8F3-2516-782E98AB3FA0",
        "4dea22b31d52d8f32516782e98ab3fa0",
        "4dea22b31D52D8F32516782e98ab3fa0",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(spellings); i++) {
        g_autofree char *uuid = uuid_canonicalize(spellings[i]);
        g_assert_cmpstr(uuid, ==, UUID);
        g_assert_true(uuid_is_canonical(spellings[i]) == (i == 0));
    }
    g_autofree char *nil = uuid_canonicalize("00000000000000000000000000000000");
    g_assert_cmpstr(nil, ==, "00000000-0000-0000-0000-000000000000");
}

static void test_refuses(void)
{
    static const char *const texts[] = {
        "",
        "-",
        "----",
        "4dea22b3",
        "4dea22b3-1d52-d8f3-2516-782e98ab3fa",
        "4dea22b3-1d52-d8f3-2516-782e98ab3fa00",
        "4dea22b3-1d52-d8f3-2516-782e98ab3fa0-",
        "4dea22b3-1d52-d8f3-2516-782e98ab3fa0\n",
        "4dea22b3-1d52d8f3-2516-782e98ab3fa0",
        "4dea22b3-1d52-d8f3-2516782e98ab3fa0",
        "4dea22b31d52d8f32516-782e98ab3fa0",
        "4dea-22b31d52-d8f3-2516-782e98ab3fa0",
        "4dea22b3-1d52-d8f3-2516-782e98ab",
        "{4dea22b3-1d52-d8f3-2516-782e98ab3fa0}",
        "urn:uuid:4dea22b3-1d52-d8f3-2516-782e98ab3fa0",
        " 4dea22b3-1d52-d8f3-2516-782e98ab3fa0",
        "4dea22b3-1d52-d8f3-2516-782e98ab3fag",
        "4dea22b31d52d8f32516782e98ab3fa",
        "4dea22b31d52d8f32516782e98ab3fa00",
        "4dea22b31d52d8f32516782e98ab3fag",
        "4dea22b3-1d52-d8f3-2516",
        "../../etc/passwd",
        "\xff\xff\xff\xff\xff\xff\xff\xff-\xff\xff\xff\xff-\xff\xff\xff\xff",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_assert_null(uuid_canonicalize(texts[i]));
        g_assert_false(uuid_is_canonical(texts[i]));
    }
    g_assert_null(uuid_canonicalize(NULL));
    g_assert_false(uuid_is_canonical(NULL));

    g_autofree char *megabyte = g_strnfill(1024 * 1024, 'a');
    g_assert_null(uuid_canonicalize(megabyte));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/uuid/canonicalize", test_canonicalize);
    g_test_add_func("/uuid/refuses", test_refuses);
    return g_test_run();
}
