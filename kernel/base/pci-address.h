/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Addresses of PCI functions as text. Canonical is what the kernel names a device
 * (pci_setup_device():
 * "%04x:%02x:%02x.%d"): lower case, four digits of domain, more only where it needs them, as for
 * the domains that a controller makes of its own (VMD, from 0x10000 on). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Digits of a domain, as few as are written and as many as there can be. */
#define PCI_DOMAIN_DIGITS_MIN 4
#define PCI_DOMAIN_DIGITS_MAX 8
/* Room for any address and its NUL. */
#define PCI_ADDRESS_SIZE sizeof("00000000:00:00.0")

typedef struct {
    uint32_t domain;
    uint8_t bus;
    uint8_t slot;     /* at most 0x1f */
    uint8_t function; /* at most 7 */
} PciAddress;

/* "0000:01:00.0", also with fewer digits ("0:1:0.0"), in upper case, or without its domain, which
 * is 0 then ("01:00.0"). false: text is anything else. text may be NULL. */
bool pci_address_parse(const char *text, PciAddress *ret_address);
/* The canonical text. */
void pci_address_format(const PciAddress *address, char buffer[PCI_ADDRESS_SIZE]);
/* Whether text is the canonical one of some address. text may be NULL. */
bool pci_address_is_canonical(const char *text);
