/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policy/device.h"
#include "policy/error.h"

static void test_address(void)
{
    static const struct {
        const char *text;
        const char *address;
    } addresses[] = {
        {"0000:01:00.0", "0000:01:00.0"}, {"01:00.0", "0000:01:00.0"},
        {"1:0.0", "0000:01:00.0"},        {"0:1:0.0", "0000:01:00.0"},
        {"FFFF:FF:1F.7", "ffff:ff:1f.7"}, {"10000:e1:00.0", "10000:e1:00.0"},
        {"0000:Ab:1c.3", "0000:ab:1c.3"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(addresses); i++) {
        g_autofree char *address = device_address_parse(addresses[i].text, NULL);
        g_assert_cmpstr(address, ==, addresses[i].address);
    }
}

static void test_address_refuses(void)
{
    static const char *const texts[] = {
        "",
        "0000",
        "01:00",
        "01:00.",
        "01:00.8",
        "01:20.0",
        "100:00.0",
        "01:000.0",
        "01:00.00",
        "0000:01:00.0 ",
        " 01:00.0",
        "01:00.0x",
        "-1:00.0",
        "+1:00.0",
        "0x1:00.0",
        "01-00.0",
        "0000:01:00",
        "000000000:01:00.0",
        "0:0:0:0.0",
        ":01:00.0",
        "0000::00.0",
        "*",
        "0000:01:00.*",
        "0000/01/00.0",
        "g1:00.0",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(device_address_parse(texts[i], &error));
        g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT);
    }
    g_autoptr(GError) error = NULL;
    g_assert_null(device_address_parse(NULL, &error));
    g_assert_cmpstr(error->message, ==,
                    "\"\" is not the address of a PCI device: write DOMAIN:BUS:DEVICE.FUNCTION in "
                    "hex, such as 0000:01:00.0.");
}

static void test_addresses(void)
{
    g_autoptr(GError) error = NULL;
    const char *const texts[] = {"6:2.0", "10000:E1:00.0", "0000:06:01.0", "1:0.0", NULL};
    const char *const sorted[] = {"0000:01:00.0", "0000:06:01.0", "0000:06:02.0", "10000:e1:00.0",
                                  NULL};
    g_auto(GStrv) addresses = device_addresses_parse(texts, &error);
    g_assert_no_error(error);
    g_assert_cmpstrv(addresses, sorted);
    g_assert_true(device_addresses_are_canonical(sorted));
    g_assert_false(device_addresses_are_canonical(texts));
    g_auto(GStrv) none = device_addresses_parse(NULL, &error);
    g_assert_cmpuint(g_strv_length(none), ==, 0);
    g_assert_true(device_addresses_are_canonical(NULL));

    const char *const nonsense[] = {"1:0.0", "nonsense", NULL};
    g_assert_null(device_addresses_parse(nonsense, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT);
    g_clear_error(&error);
    const char *const twice[] = {"0000:01:00.0", "6:2.0", "1:0.0", NULL};
    g_assert_null(device_addresses_parse(twice, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT);
    g_assert_cmpstr(error->message, ==,
                    "Device 0000:01:00.0 is named twice: name each device once.");
    const char *const same[] = {"0000:01:00.0", "0000:01:00.0", NULL};
    const char *const backwards[] = {"0000:02:00.0", "0000:01:00.0", NULL};
    g_assert_false(device_addresses_are_canonical(same));
    g_assert_false(device_addresses_are_canonical(backwards));
}

/* Device 0000:81:0a.3, an 8086:1521. */
static void test_pattern(void)
{
    static const struct {
        const char *pattern;
        bool matches;
    } patterns[] = {
        {"0000:81:0a.3", true},
        {"0000:81:0A.3", true},
        {"0000:81:0a.*", true},
        {"0000:81:*", true},
        {"0000:*", true},
        {"*", true},
        {"*.3", true},
        {"*:0a.?", true},
        {"0000:8?:0a.3", true},
        {"*81*", true},
        {"****.**3", true},
        {"0000:81:0[a-f].3", true},
        {"0000:81:0[A-F].3", true},
        {"0000:81:0a.[!0]", true},
        {"0000:81:0a.[0123]", true},
        {"0000:[78]1:*", true},
        {"8086:1521", true},
        {"8086:*", true},
        {"*:1521", true},
        {"*:*", true},
        {"0000:81:0a.4", false},
        {"0000:82:*", false},
        {"0001:*:*", false},
        {"*.0", false},
        {"0000:81:0[0-9].3", false},
        {"0000:81:0a.[!0-7]", false},
        {"10000:81:0a.3", false},
        {"10de:*", false},
        {"8086:1522", false},
        {"*:1522", false},
        {"0000:81:0a.3*", true},
        {"1521:8086", false},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(patterns); i++) {
        g_autoptr(GError) error = NULL;
        g_test_message("%s", patterns[i].pattern);
        g_assert_true(device_pattern_check(patterns[i].pattern, &error));
        g_assert_no_error(error);
        bool matches = device_pattern_matches(patterns[i].pattern, "0000:81:0a.3", 0x8086, 0x1521);
        g_assert_cmpint(matches, ==, patterns[i].matches);
    }
}

/* A rule that no device can match is a mistake, and said to be one. */
static void test_pattern_refuses(void)
{
    static const char *const texts[] = {
        "",
        "81:00.*",
        "81:*",
        "0000:81:00",
        "0000:81:00.0.0",
        "8086",
        "8086:",
        ":1521",
        "808:1521",
        "0x8086:1521",
        "8086:1521:",
        "8086:15*",
        "nvidia",
        "0000:81:00.[",
        "0000:81:00.[]",
        "0000:81:00.[0",
        "0000:81:00.[z]",
        "0000:81:00.0;*",
        "0000:81:00.0 ",
        "0000:81:\\*",
        "0000:81:00.\xff",
        "*:*:*:*",
        "????????????????????????????????????????????????????????????????????????????????",
        "*****************************************************************0",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(device_pattern_check(texts[i], &error));
        g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT);
    }
    g_assert_false(device_pattern_check(NULL, NULL));
}

/* Sixteen stars against an address that they almost match: no exponential search. */
static void test_pattern_is_fast(void)
{
    const char *pattern = "*0*0*0*0*0*0*0*0*0*0*0*0*0*0*0*.7";
    g_test_timer_start();
    for (unsigned i = 0; i < 10000; i++)
        g_assert_false(device_pattern_matches(pattern, "0000:00:00.0", 0, 0));
    g_assert_cmpfloat(g_test_timer_elapsed(), <, 5.0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/device/address", test_address);
    g_test_add_func("/device/address-refuses", test_address_refuses);
    g_test_add_func("/device/addresses", test_addresses);
    g_test_add_func("/device/pattern", test_pattern);
    g_test_add_func("/device/pattern-refuses", test_pattern_refuses);
    g_test_add_func("/device/pattern-is-fast", test_pattern_is_fast);
    return g_test_run();
}
