/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policy/machine.h"

#define UUID "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"

static void test_uuid(void)
{
    static const char *const spellings[] = {
        UUID,
        "4DEA22B3-1D52-D8F3-2516-782E98AB3FA0",
        "4dea22b31d52d8f32516782e98ab3fa0",
        "4dea22b31D52D8F32516782e98ab3fa0",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(spellings); i++) {
        g_autofree char *uuid = machine_uuid_parse(spellings[i], NULL);
        g_assert_cmpstr(uuid, ==, UUID);
    }
}

static void test_uuid_refuses(void)
{
    static const char *const texts[] = {
        "",
        "-",
        "----",
        "4dea22b3",
        "4dea22b3-1d52-d8f3-2516-782e98ab3fa",
        "4dea22b3-1d52-d8f3-2516-782e98ab3fa00",
        "4dea22b3-1d52-d8f3-2516-782e98ab3fa0-",
        "4dea22b3-1d52d8f3-2516-782e98ab3fa0",
        "4dea22b3-1d52-d8f3-2516782e98ab3fa0",
        "4dea22b31d52d8f32516-782e98ab3fa0",
        "4dea-22b31d52-d8f3-2516-782e98ab3fa0",
        "{4dea22b3-1d52-d8f3-2516-782e98ab3fa0}",
        " 4dea22b3-1d52-d8f3-2516-782e98ab3fa0",
        "4dea22b3-1d52-d8f3-2516-782e98ab3fag",
        "4dea22b3-1d52-d8f3-2516",
        "../../etc/passwd",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(machine_uuid_parse(texts[i], &error));
        g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT);
    }
    g_assert_null(machine_uuid_parse(NULL, NULL));
}

static void test_name(void)
{
    g_autofree char *longest = g_strnfill(255, 'x');
    g_autofree char *too_long = g_strnfill(256, 'x');
    g_assert_true(machine_name_check("web-1", NULL));
    g_assert_true(machine_name_check("gr\xc3\xbc\xc3\x9f dich", NULL));
    g_assert_true(machine_name_check(longest, NULL));
    const char *const refused[] = {NULL,    "",         too_long, "a\nb", "\033[0m",
                                   "a\x7f", "\xc2\x85", "\xff",   "a\xc3"};
    for (size_t i = 0; i < G_N_ELEMENTS(refused); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(machine_name_check(refused[i], &error));
        g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT);
        g_assert_true(g_utf8_validate(error->message, -1, NULL));
    }
}

static void test_state(void)
{
    g_assert_cmpint(machine_state_from_string("admitted"), ==, MACHINE_ADMITTED);
    g_assert_cmpstr(machine_state_to_string(MACHINE_REAPING), ==, "reaping");
    g_assert_cmpint(machine_state_from_string("dead"), ==, -1);
    g_assert_cmpint(machine_state_from_string(NULL), ==, -1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/machine/uuid", test_uuid);
    g_test_add_func("/machine/uuid-refuses", test_uuid_refuses);
    g_test_add_func("/machine/name", test_name);
    g_test_add_func("/machine/state", test_state);
    return g_test_run();
}
