/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/base/pci-address.h"

#include <glib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    PciAddress address, again;
    char canonical[PCI_ADDRESS_SIZE];
    if (!pci_address_parse(text, &address)) {
        g_assert_false(pci_address_is_canonical(text));
        return 0;
    }
    pci_address_format(&address, canonical);
    g_assert_true(pci_address_is_canonical(canonical));
    g_assert_true(pci_address_is_canonical(text) == (strcmp(text, canonical) == 0));
    g_assert_true(pci_address_parse(canonical, &again));
    g_assert_true(again.domain == address.domain && again.bus == address.bus &&
                  again.slot == address.slot && again.function == address.function);
    return 0;
}
