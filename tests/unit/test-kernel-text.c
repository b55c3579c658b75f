/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a hostile name must not do to a terminal, a journal or a sentence. */
#include "kernel/base/text.h"

#include <glib.h>
#include <string.h>

#define FFFD "\xef\xbf\xbd"

static void test_nasty(void)
{
    static const struct {
        const char *what;
        const char *text;
        const char *clean;
        const char *ascii;
    } texts[] = {
        {"nothing", NULL, "", ""},
        {"empty", "", "", ""},
        {"plain", "web-1 (4dea22b3)", "web-1 (4dea22b3)", "web-1 (4dea22b3)"},
        {"letters", "gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f", "gr??"},
        {"wide, beyond 16 bits", "\xf0\x9f\x98\x80\xe4\xb8\xad", "\xf0\x9f\x98\x80\xe4\xb8\xad",
         "??"},
        {"ESC, title of the window", "\033]0;owned\007", "?]0;owned?", "?]0;owned?"},
        {"ESC, colour", "a\033[31mb", "a?[31mb", "a?[31mb"},
        {"lines", "a\nb\r\nc\td\v\f", "a?b??c?d??", "a?b??c?d??"},
        {"backspace, DEL", "a\bb\x7f", "a?b?", "a?b?"},
        {"C1: CSI, NEL",
         "a\xc2\x9b"
         "31m\xc2\x85",
         "a?31m?", "a?31m?"},
        {"C1 as a byte",
         "a\x9b"
         "31m",
         "a" FFFD "31m", "a?31m"},
        {"right-to-left override",
         "\xe2\x80\xae"
         "exe.txt",
         "?exe.txt", "?exe.txt"},
        {"isolates", "\xe2\x81\xa6x\xe2\x81\xa9", "?x?", "?x?"},
        {"zero width",
         "a\xe2\x80\x8b\xe2\x80\x8d\xef\xbb\xbf"
         "b",
         "a???b", "a???b"},
        {"tag characters", "\xf3\xa0\x81\x81", "?", "?"},
        {"line and paragraph separators",
         "a\xe2\x80\xa8"
         "b\xe2\x80\xa9",
         "a?b?", "a?b?"},
        {"unassigned, noncharacter", "\xf3\xbf\xbf\xbf", "?", "?"},
        {"invalid bytes",
         "a\xff\xfe"
         "b",
         "a" FFFD FFFD "b", "a??b"},
        {"cut sequence", "a\xe2\x80", "a" FFFD FFFD, "a??"},
        {"overlong NUL", "a\xc0\x80", "a" FFFD FFFD, "a??"},
        {"surrogate", "\xed\xa0\x80", NULL, NULL},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autofree char *clean = text_sanitize(texts[i].text, TEXT_WHOLE, false);
        g_autofree char *ascii = text_sanitize(texts[i].text, TEXT_WHOLE, true);
        g_test_message("%s: %s, %s", texts[i].what, clean, ascii);
        if (texts[i].clean)
            g_assert_cmpstr(clean, ==, texts[i].clean);
        if (texts[i].ascii)
            g_assert_cmpstr(ascii, ==, texts[i].ascii);
        g_assert_true(g_utf8_validate(clean, -1, NULL));
        g_assert_true(g_str_is_ascii(ascii));
    }
}

static void test_every_character(void)
{
    for (gunichar c = 1; c <= 0x10ffff; c++) {
        char text[8] = {0};
        if (!g_unichar_validate(c))
            continue;
        (void)g_unichar_to_utf8(c, text);
        g_autofree char *clean = text_sanitize(text, TEXT_WHOLE, false);
        g_assert_cmpint(g_utf8_strlen(clean, -1), ==, 1);
        gunichar shown = g_utf8_get_char(clean);
        g_assert_true(shown == c || shown == '?');
        g_assert_false(g_unichar_iscntrl(shown));
        if (c >= 0x20 && c <= 0x7e)
            g_assert_cmpuint(shown, ==, c);
    }
}

static void test_cut(void)
{
    g_autofree char *exact = text_sanitize("abcd", 4, false);
    g_autofree char *cut = text_sanitize("abcde", 4, false);
    g_autofree char *none = text_sanitize("abcde", 0, false);
    g_assert_cmpstr(exact, ==, "abcd");
    g_assert_cmpstr(cut, ==, "abcd...");
    g_assert_cmpstr(none, ==, "...");
    /* Counted in characters, and never cut within one. */
    g_autofree char *wide = text_sanitize("\xe4\xb8\xad\xe4\xb8\xad\xe4\xb8\xad", 2, false);
    g_assert_cmpstr(wide, ==, "\xe4\xb8\xad\xe4\xb8\xad...");
    g_autofree char *widest = text_sanitize("\xf0\x9f\x98\x80\xf0\x9f\x98\x80", 2, false);
    g_assert_cmpstr(widest, ==, "\xf0\x9f\x98\x80\xf0\x9f\x98\x80");

    g_autofree char *megabyte = g_strnfill(1024 * 1024, 'x');
    g_autofree char *some = text_sanitize(megabyte, TEXT_QUOTED_MAX, false);
    g_autofree char *all = text_sanitize(megabyte, TEXT_WHOLE, false);
    g_assert_cmpuint(strlen(some), ==, TEXT_QUOTED_MAX + strlen("..."));
    g_assert_cmpstr(all, ==, megabyte);
    g_autofree char *bytes = g_strnfill(1024 * 1024, '\xff');
    g_autofree char *replaced = text_sanitize(bytes, TEXT_QUOTED_MAX, true);
    g_assert_cmpuint(strlen(replaced), ==, TEXT_QUOTED_MAX + strlen("..."));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/text/nasty", test_nasty);
    g_test_add_func("/text/every-character", test_every_character);
    g_test_add_func("/text/cut", test_cut);
    return g_test_run();
}
