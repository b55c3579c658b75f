/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/base/pci-address.h"

#include <glib.h>

static void test_parse(void)
{
    static const struct {
        const char *text;
        const char *canonical;
    } addresses[] = {
        {"0000:01:00.0", "0000:01:00.0"},
        {"01:00.0", "0000:01:00.0"},
        {"1:0.0", "0000:01:00.0"},
        {"0:1:0.0", "0000:01:00.0"},
        {"FFFF:FF:1F.7", "ffff:ff:1f.7"},
        {"0000:Ab:1c.3", "0000:ab:1c.3"},
        {"10000:e1:00.0", "10000:e1:00.0"},
        {"00010000:E1:00.0", "10000:e1:00.0"},
        {"00000000:01:00.0", "0000:01:00.0"},
        {"FFFFFFFF:ff:1f.7", "ffffffff:ff:1f.7"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(addresses); i++) {
        PciAddress address;
        char text[PCI_ADDRESS_SIZE];
        g_assert_true(pci_address_parse(addresses[i].text, &address));
        pci_address_format(&address, text);
        g_assert_cmpstr(text, ==, addresses[i].canonical);
        g_assert_true(pci_address_is_canonical(text));
    }
    PciAddress address;
    g_assert_true(pci_address_parse("12345678:9a:1b.5", &address));
    g_assert_cmphex(address.domain, ==, 0x12345678);
    g_assert_cmphex(address.bus, ==, 0x9a);
    g_assert_cmphex(address.slot, ==, 0x1b);
    g_assert_cmphex(address.function, ==, 5);
}

static void test_parse_refuses(void)
{
    static const char *const texts[] = {
        "",
        "0000",
        "01:00",
        "01:00.",
        "0000:01:00",
        "0000:01:00.8",
        "0000:01:00.a",
        "0000:01:20.0",
        "0000:100:00.0",
        "0000:01:000.0",
        "0000:01:00.00",
        "0000:01:00.0 ",
        "0000:01:00.0\n",
        " 0000:01:00.0",
        "0000:01:00.0x",
        "../0000:01:00.0",
        "-1:00.0",
        "+1:00.0",
        "0x1:00.0",
        "0000:0x:00.0",
        "01-00.0",
        "000000000:01:00.0",
        "0:0:0:0.0",
        ":01:00.0",
        "0000::00.0",
        "0000:01:.0",
        "*",
        "0000:01:00.*",
        "0000:0G:00.0",
        "g1:00.0",
    };
    PciAddress address;
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_assert_false(pci_address_parse(texts[i], &address));
        g_assert_false(pci_address_is_canonical(texts[i]));
    }
    g_assert_false(pci_address_parse(NULL, &address));
    g_assert_false(pci_address_is_canonical(NULL));
}

/* One spelling each, for addresses are keys of tables and names of files. */
static void test_canonical(void)
{
    static const char *const canonical[] = {"0000:01:00.0", "0000:ff:1f.7", "10000:e1:00.0",
                                            "ffffffff:00:00.0"};
    static const char *const others[] = {"01:00.0",       "000:01:00.0",      "0000:1:00.0",
                                         "0000:01:0.0",   "0000:AB:00.0",     "FFFF:ab:00.0",
                                         "00001:01:00.0", "00010000:e1:00.0", "0ffff:01:00.0"};
    for (size_t i = 0; i < G_N_ELEMENTS(canonical); i++)
        g_assert_true(pci_address_is_canonical(canonical[i]));
    for (size_t i = 0; i < G_N_ELEMENTS(others); i++)
        g_assert_false(pci_address_is_canonical(others[i]));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pci-address/parse", test_parse);
    g_test_add_func("/pci-address/parse-refuses", test_parse_refuses);
    g_test_add_func("/pci-address/canonical", test_canonical);
    return g_test_run();
}
