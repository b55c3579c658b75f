/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policy/error.h"
#include "policy/size.h"

#include <string.h>

#define KIB UINT64_C(1024)
#define MIB (KIB * KIB)
#define GIB (KIB * MIB)

static void test_parse(void)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } sizes[] = {
        {"0", 0},
        {"4096", 4096},
        {"7B", 7},
        {"64G", 64 * GIB},
        {"64g", 64 * GIB},
        {"64GB", 64 * GIB},
        {"64GiB", 64 * GIB},
        {"64gib", 64 * GIB},
        {"512M", 512 * MIB},
        {"1K", KIB},
        {"2T", 2048 * GIB},
        {"3P", 3 * 1024 * 1024 * GIB},
        {"1.5G", 3 * GIB / 2},
        {"0.5K", 512},
        {"0.1K", 102},
        {"1.0G", GIB},
        {"0.9999999999999999999999999999999999K", 1023},
        {"000000000000000000000000000001M", MIB},
        {"16383.9P", UINT64_C(18446631483718867353)},
        {"18446744073709551614", UINT64_MAX - 1},
        {"infinity", SIZE_INFINITY},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autoptr(GError) error = NULL;
        uint64_t bytes = 1;
        g_assert_true(size_parse(sizes[i].text, &bytes, &error));
        g_assert_no_error(error);
        g_test_message("%s", sizes[i].text);
        g_assert_cmpuint(bytes, ==, sizes[i].bytes);
    }
}

static void test_parse_refuses(void)
{
    static const char *const texts[] = {
        "",    " ",    "G",     "abc",  "-1",  "+1",    "-1G",    "1.5",     "1.5B",
        ".5G", "5.G",  "1..5G", "1G ",  " 1G", "1 G",   "1Gi",    "1GG",     "1Bi",
        "1BB", "0x10", "1e3",   "1,5G", "64E", "1.5.G", "1G1",    "infinit", "infinityG",
        "inf", "∞",    "1\nG",  "١٢٣G", "%",   "50%",   "1K\xff",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL;
        uint64_t bytes = 4711;
        g_assert_false(size_parse(texts[i], &bytes, &error));
        g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT);
        g_assert_true(g_utf8_validate(error->message, -1, NULL));
        g_assert_cmpuint(bytes, ==, 4711);
    }
    g_autoptr(GError) error = NULL;
    uint64_t bytes;
    g_assert_false(size_parse("64X", &bytes, &error));
    g_assert_cmpstr(error->message, ==,
                    "\"64X\" is not a size: write a number of bytes, a number with one of the "
                    "suffixes K, M, G, T, P, such as 64G or 1.5G, or infinity.");
}

static void test_parse_overflow(void)
{
    static const char *const texts[] = {
        "18446744073709551615",
        "18446744073709551616",
        "16384P",
        "16383.9999999999999999999999999P",
        "99999999999999999999999999999999999999999999",
        "18014398509481984K",
        "20000000T",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL;
        uint64_t bytes = 4711;
        g_assert_false(size_parse(texts[i], &bytes, &error));
        g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT);
        g_assert_cmpuint(bytes, ==, 4711);
    }
}

static void test_format(void)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } sizes[] = {
        {0, "0B"},
        {1, "1B"},
        {1023, "1023B"},
        {1024, "1K"},
        {1535, "1.4K"},
        {1536, "1.5K"},
        {MIB - 1, "1023.9K"},
        {MIB, "1M"},
        {512 * MIB + MIB / 2, "512.5M"},
        {64 * GIB, "64G"},
        {64 * GIB + 4096, "64G"},
        {64 * GIB - 1, "63.9G"},
        {3 * 1024 * 1024 * GIB, "3P"},
        {UINT64_MAX - 1, "16383.9P"},
        {SIZE_INFINITY, "infinity"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autofree char *text = size_format(sizes[i].bytes);
        g_assert_cmpstr(text, ==, sizes[i].text);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/size/parse", test_parse);
    g_test_add_func("/size/parse-refuses", test_parse_refuses);
    g_test_add_func("/size/parse-overflow", test_parse_overflow);
    g_test_add_func("/size/format", test_format);
    return g_test_run();
}
