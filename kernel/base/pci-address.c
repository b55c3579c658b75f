/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/base/pci-address.h"

#include <glib.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Reads 1 to max_digits hex digits and the character that must follow them. */
static bool scan_hex(const char **p, unsigned max_digits, char end, uint32_t *ret_value)
{
    uint32_t value = 0;
    unsigned n = 0;
    for (; n < max_digits && g_ascii_isxdigit(**p); n++, (*p)++)
        value = value << 4 | (uint32_t)g_ascii_xdigit_value(**p);
    if (n == 0 || **p != end)
        return false;
    if (end)
        (*p)++;
    *ret_value = value;
    return true;
}

bool pci_address_parse(const char *text, PciAddress *ret_address)
{
    uint32_t domain = 0, bus, slot, function;
    const char *p = text ? text : "";
    const char *colon = strchr(p, ':');
    if (colon && strchr(colon + 1, ':') && !scan_hex(&p, PCI_DOMAIN_DIGITS_MAX, ':', &domain))
        return false;
    if (!scan_hex(&p, 2, ':', &bus) || !scan_hex(&p, 2, '.', &slot) ||
        !scan_hex(&p, 1, '\0', &function) || slot > 0x1f || function > 7)
        return false;
    *ret_address = (PciAddress){
        .domain = domain,
        .bus = (uint8_t)bus,
        .slot = (uint8_t)slot,
        .function = (uint8_t)function,
    };
    return true;
}

void pci_address_format(const PciAddress *address, char buffer[PCI_ADDRESS_SIZE])
{
    /* The masks say to the compiler what parsing has made sure of: that it fits. */
    snprintf(buffer, PCI_ADDRESS_SIZE, "%04" PRIx32 ":%02x:%02x.%x", address->domain, address->bus,
             address->slot & 0x1fu, address->function & 7u);
}

bool pci_address_is_canonical(const char *text)
{
    PciAddress address;
    char canonical[PCI_ADDRESS_SIZE];
    if (!pci_address_parse(text, &address))
        return false;
    pci_address_format(&address, canonical);
    return strcmp(text, canonical) == 0;
}
