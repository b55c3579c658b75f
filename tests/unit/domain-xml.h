/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The parts that tests put domain XML together of. */
#pragma once

#include "plugin/libvirt/domain/domain-xml.h"

#include <string.h>

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)

#define UUID "9b2cfcdc-6005-4de0-a6ac-aaa68d1917c0"
#define HEAD "<domain type='kvm'><name>vm</name><uuid>" UUID "</uuid>"
#define MEM "<memory>262144</memory>"
#define FDGROUP "<iommufd enabled='yes' fdgroup='iommud'/>"
#define NOVA "xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'"
#define NOVA10 "xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.0'"
#define IOMMUD "xmlns:iommud='urn:iommud:domain:1'"
#define ACME "<iommud:tenant " IOMMUD " id='acme'/>"
#define PCI(bus)                                                                                   \
    "<hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='0x0000' "         \
    "bus='" bus "' slot='0x00' function='0x0'/></source></hostdev>"
#define DEVICES(x) "<devices>" x "</devices>"
#define META(x) "<metadata>" x "</metadata>"
#define END "</domain>"

static inline DomainXml *parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    DomainXml *xml = domain_xml_parse(text, strlen(text), &error);
    g_assert_no_error(error);
    g_assert_nonnull(xml);
    return xml;
}
