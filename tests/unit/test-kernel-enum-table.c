/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/base/enum-table.h"

#include <glib.h>

typedef enum { RED, GREEN, BLUE } Colour;

ENUM_DECLARE(colour, Colour)

static const char *const colours[] = {[RED] = "red", [GREEN] = "green", [BLUE] = "blue"};
const EnumTable colour_table = ENUM_TABLE("a colour", colours);

static void test_words(void)
{
    for (int i = RED; i <= BLUE; i++)
        g_assert_cmpint(colour_from_string(colour_to_string((Colour)i)), ==, i);
    g_assert_cmpstr(colour_to_string(BLUE), ==, "blue");
    g_assert_cmpint(colour_from_string("green"), ==, GREEN);
    g_assert_cmpint(colour_from_string("Green"), ==, -1);
    g_assert_cmpint(colour_from_string(""), ==, -1);
    g_assert_cmpint(colour_from_string(NULL), ==, -1);
}

static void test_alternatives(void)
{
    static const EnumTable two = {.names = colours, .n = 2};
    static const EnumTable one = {.names = colours, .n = 1};
    g_autofree char *all = enum_alternatives(&colour_table);
    g_autofree char *some = enum_alternatives(&two);
    g_autofree char *single = enum_alternatives(&one);
    g_assert_cmpstr(all, ==, "red, green or blue");
    g_assert_cmpstr(some, ==, "red or green");
    g_assert_cmpstr(single, ==, "red");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/enum-table/words", test_words);
    g_test_add_func("/enum-table/alternatives", test_alternatives);
    return g_test_run();
}
