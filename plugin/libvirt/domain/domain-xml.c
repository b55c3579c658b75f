/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/libvirt/domain/domain-xml.h"

#include "kernel/base/pci-address.h"
#include "kernel/base/text.h"

#include <string.h>

#define NAME_MAX_BYTES 255

/* ---- devices ---- */

/* An unsigned number as libvirt reads them: decimal, 0x..., 0...; absent is 0. */
static gboolean address_part(xmlNode *address, const char *name, uint64_t max, unsigned *ret_part,
                             GError **error)
{
    g_autofree char *text = xml_attribute(address, name);
    char *end = NULL;
    guint64 value = 0;

    if (text) {
        value = g_ascii_isdigit(*text) ? g_ascii_strtoull(text, &end, 0) : G_MAXUINT64;
        if (value > max || *end) {
            g_autofree char *clean = text_sanitize(text, TEXT_QUOTED_MAX, false);
            return xml_invalid(
                error,
                "The domain has a PCI device whose address says %s '%s', which no PCI "
                "address has.",
                name, clean);
        }
    }
    *ret_part = (unsigned)value;
    return TRUE;
}

static gboolean address_parse(xmlNode *address, PciAddress *ret_address, GError **error)
{
    unsigned domain, bus, slot, function;

    if (!address_part(address, "domain", UINT32_MAX, &domain, error) ||
        !address_part(address, "bus", 0xff, &bus, error) ||
        !address_part(address, "slot", 0x1f, &slot, error) ||
        !address_part(address, "function", 7, &function, error))
        return FALSE;
    *ret_address = (PciAddress){.domain = domain,
                                .bus = (uint8_t)bus,
                                .slot = (uint8_t)slot,
                                .function = (uint8_t)function};
    return TRUE;
}

/* address: the element that names the PCI function. */
static gboolean add_device(GPtrArray *devices, xmlNode *element, xmlNode *address, GError **error)
{
    if (!address) {
        return xml_invalid(error,
                           "The domain has a <%s> of a PCI device without the device's address.",
                           (const char *)element->name);
    }
    PciAddress parsed;
    if (!address_parse(address, &parsed, error))
        return FALSE;
    char text[PCI_ADDRESS_SIZE];
    pci_address_format(&parsed, text);
    /* Several namespaces of one NVMe controller are several disks, and one device. */
    if (!g_ptr_array_find_with_equal_func(devices, text, g_str_equal, NULL))
        g_ptr_array_add(devices, g_strdup(text));
    return TRUE;
}

static xmlNode *child(xmlNode *parent, const char *name)
{
    return parent ? xml_first(parent->children, name, NULL) : NULL;
}

static bool is_legacy(xmlNode *element)
{
    xmlNode *driver = child(element, "driver");
    return driver && xml_attribute_is(driver, "iommufd", "no");
}

static gboolean read_hostdev(DomainXml *xml, GPtrArray *devices, xmlNode *hostdev, GError **error)
{
    if (xml_attribute_is(hostdev, "mode", "capabilities"))
        return TRUE;
    if (xml_attribute_is(hostdev, "type", "mdev"))
        xml->n_mdevs++;
    if (!xml_attribute_is(hostdev, "type", "pci"))
        return TRUE;
    xml->n_hostdevs++;
    xml->n_legacy += is_legacy(hostdev);
    return add_device(devices, hostdev, child(child(hostdev, "source"), "address"), error);
}

static void read_network(GPtrArray *networks, xmlNode *interface)
{
    xmlNode *source = child(interface, "source");
    char *network = source ? xml_attribute(source, "network") : NULL;

    if (network)
        g_ptr_array_add(networks, network);
}

static gboolean read_interface(DomainXml *xml, GPtrArray *devices, GPtrArray *networks,
                               xmlNode *interface, GError **error)
{
    if (xml_attribute_is(interface, "type", "network"))
        read_network(networks, interface);
    if (!xml_attribute_is(interface, "type", "hostdev"))
        return TRUE;
    xmlNode *address = child(child(interface, "source"), "address");
    g_autofree char *type = address ? xml_attribute(address, "type") : NULL;
    if (type && !g_str_equal(type, "pci"))
        return TRUE;
    xml->n_hostdevs++;
    xml->n_interfaces++;
    xml->n_legacy += is_legacy(interface);
    return add_device(devices, interface, address, error);
}

static gboolean read_disk(DomainXml *xml, GPtrArray *devices, xmlNode *disk, GError **error)
{
    if (!xml_attribute_is(disk, "type", "nvme"))
        return TRUE;
    xml->n_nvme++;
    return add_device(devices, disk, child(child(disk, "source"), "address"), error);
}

static gboolean read_devices(DomainXml *xml, GError **error)
{
    g_autoptr(GPtrArray) devices = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) networks = g_ptr_array_new_with_free_func(g_free);

    for (xmlNode *all = child(xml->root, "devices"); all;
         all = xml_first(all->next, "devices", NULL)) {
        for (xmlNode *node = all->children; node; node = node->next) {
            gboolean ok = TRUE;
            if (xml_is(node, "hostdev", NULL))
                ok = read_hostdev(xml, devices, node, error);
            else if (xml_is(node, "interface", NULL))
                ok = read_interface(xml, devices, networks, node, error);
            else if (xml_is(node, "disk", NULL))
                ok = read_disk(xml, devices, node, error);
            else if (xml_is(node, "iommu", NULL))
                xml->viommu = true;
            if (!ok)
                return FALSE;
        }
    }
    g_ptr_array_add(devices, NULL);
    xml->devices = (char **)g_ptr_array_free(g_steal_pointer(&devices), FALSE);
    g_ptr_array_add(networks, NULL);
    xml->networks = (char **)g_ptr_array_free(g_steal_pointer(&networks), FALSE);
    return TRUE;
}

/* ---- the domain ---- */

static gboolean read_iommufd(DomainXml *xml, GError **error)
{
    xmlNode *iommufd = child(xml->root, "iommufd");

    if (!iommufd)
        return TRUE;
    if (xml_first(iommufd->next, "iommufd", NULL)) {
        return xml_invalid(error, "The domain has more than one <iommufd> element.");
    }
    xml->iommufd = xml_attribute_is(iommufd, "enabled", "yes");
    xml->fdgroup = xml_attribute(iommufd, "fdgroup");
    return TRUE;
}

/* Takes doc, also on failure. */
static DomainXml *domain_xml_new(xmlDoc *doc, GError **error)
{
    g_autoptr(DomainXml) xml = g_new0(DomainXml, 1);

    xml->doc = doc;
    xml->root = xmlDocGetRootElement(doc);
    if (!xml->root || !xml_is(xml->root, "domain", NULL)) {
        xml_invalid(error, "The XML is not a libvirt domain: its root is not <domain>.");
        return NULL;
    }
    if (!read_iommufd(xml, error) || !read_devices(xml, error))
        return NULL;
    return g_steal_pointer(&xml);
}

DomainXml *domain_xml_parse(const char *text, size_t length, GError **error)
{
    xmlDoc *doc = xml_parse(text, length, error);
    return doc ? domain_xml_new(doc, error) : NULL;
}

void domain_xml_free(DomainXml *xml)
{
    if (!xml)
        return;
    xmlFreeDoc(xml->doc);
    g_free(xml->fdgroup);
    g_strfreev(xml->devices);
    g_strfreev(xml->networks);
    g_free(xml);
}

bool domain_xml_uses_iommud(const DomainXml *xml)
{
    return xml->iommufd && g_strcmp0(xml->fdgroup, DOMAIN_FDGROUP) == 0;
}

bool domain_xml_needs_admission(const DomainXml *xml)
{
    return domain_xml_uses_iommud(xml) || xml->devices[0];
}

/* ---- identity ---- */

static gboolean one_text(const DomainXml *xml, const char *name, char **ret_text, GError **error)
{
    xmlNode *node = child(xml->root, name);

    if (!node || xml_first(node->next, name, NULL)) {
        return xml_invalid(error, "The domain has %s <%s>.", node ? "more than one" : "no", name);
    }
    *ret_text = xml_text(node);
    return TRUE;
}

/* As libvirt reads UUIDs: 32 hexadecimal digits, with dashes and blanks anywhere between them. */
static char *uuid_parse(const char *text, GError **error)
{
    GString *uuid = g_string_sized_new(36);

    for (const char *c = text; *c && uuid->len <= 36; c++) {
        if (*c == '-' || g_ascii_isspace(*c))
            continue;
        if (uuid->len == 8 || uuid->len == 13 || uuid->len == 18 || uuid->len == 23)
            g_string_append_c(uuid, '-');
        if (!g_ascii_isxdigit(*c))
            g_string_truncate(uuid, 0);
        if (!g_ascii_isxdigit(*c))
            break;
        g_string_append_c(uuid, g_ascii_tolower(*c));
    }
    if (uuid->len != 36) {
        g_autofree char *clean = text_sanitize(text, TEXT_QUOTED_MAX, false);
        xml_invalid(error, "The domain's UUID '%s' is no UUID.", clean);
        g_string_free(uuid, TRUE);
        return NULL;
    }
    return g_string_free(uuid, FALSE);
}

static gboolean name_check(const char *name, GError **error)
{
    g_autofree char *clean = text_sanitize(name, TEXT_QUOTED_MAX, false);

    if (!*name || strlen(name) > NAME_MAX_BYTES) {
        return xml_invalid(error, "The domain's name '%s' has %zu bytes; 1 to %d are possible.",
                           clean, strlen(name), NAME_MAX_BYTES);
    }
    for (const char *c = name; *c; c = g_utf8_next_char(c)) {
        if (g_unichar_iscntrl(g_utf8_get_char(c)) || *c == '/') {
            return xml_invalid(error, "The domain's name '%s' has a slash or a control character.",
                               clean);
        }
    }
    return TRUE;
}

gboolean domain_xml_identity(const DomainXml *xml, char **ret_uuid, char **ret_name, GError **error)
{
    g_autofree char *name = NULL, *text = NULL;

    if (!one_text(xml, "name", &name, error) || !name_check(name, error) ||
        !one_text(xml, "uuid", &text, error))
        return FALSE;
    g_autofree char *uuid = uuid_parse(text, error);
    if (!uuid)
        return FALSE;
    *ret_uuid = g_steal_pointer(&uuid);
    *ret_name = g_steal_pointer(&name);
    return TRUE;
}
