/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Metadata holds strings that tenants choose (names of servers, flavors, images), so an owner is
 * read by namespace and path only, never by searching, and exactly one must be there.
 */
#include "plugin/libvirt/domain/domain-tenant.h"

#include "kernel/base/text.h"

#include <string.h>

/* Nova changed the number in 2021 (838370a490); what it says about owners is the same. */
static const char *const nova_namespaces[] = {"http://openstack.org/xmlns/libvirt/nova/1.1",
                                              "http://openstack.org/xmlns/libvirt/nova/1.0"};

/* The only child of this name, NULL when there is none. INVALID: there are more. */
static gboolean only_child(xmlNode *parent, const char *name, const char *ns, xmlNode **ret_node,
                           GError **error)
{
    xmlNode *node = xml_first(parent->children, name, ns);

    if (node && xml_first(node->next, name, ns)) {
        return xml_invalid(
            error, "The domain's <%s> has more than one <%s>, so that its tenant is ambiguous.",
            (const char *)parent->name, name);
    }
    *ret_node = node;
    return TRUE;
}

/* The Nova instance that the metadata describes, or NULL. */
static gboolean nova_instance(xmlNode *metadata, xmlNode **ret_instance, const char **ret_ns,
                              GError **error)
{
    *ret_instance = NULL;
    for (size_t i = 0; i < G_N_ELEMENTS(nova_namespaces); i++) {
        xmlNode *node = NULL;
        if (!only_child(metadata, "instance", nova_namespaces[i], &node, error))
            return FALSE;
        if (node && *ret_instance) {
            return xml_invalid(
                error, "The domain's <metadata> has Nova instances of two versions, so that its "
                       "tenant is ambiguous.");
        }
        if (node) {
            *ret_instance = node;
            *ret_ns = nova_namespaces[i];
        }
    }
    return TRUE;
}

/* nova:instance/nova:owner/nova:project/@uuid. NULL: not a Nova instance. */
static gboolean nova_project(xmlNode *metadata, char **ret_tenant, GError **error)
{
    xmlNode *instance = NULL, *owner = NULL, *project = NULL;
    const char *ns = NULL;

    if (!nova_instance(metadata, &instance, &ns, error))
        return FALSE;
    if (!instance)
        return TRUE;
    if (!only_child(instance, "owner", ns, &owner, error) ||
        (owner && !only_child(owner, "project", ns, &project, error)))
        return FALSE;
    g_autofree char *uuid = project ? xml_attribute(project, "uuid") : NULL;
    /* Nova writes an empty owner when it could not look up the project's name. The server belongs
     * to somebody all the same: the default tenant would run it on the wrong IOMMUFD and charge
     * the wrong limit. */
    if (!uuid || !*uuid) {
        return xml_invalid(
            error, "The domain is a Nova instance whose metadata names no project: hard reboot "
                   "the server so that Nova writes it again, or name its tenant with <iommud:"
                   "tenant>.");
    }
    *ret_tenant = g_steal_pointer(&uuid);
    return TRUE;
}

static gboolean iommud_tenant(xmlNode *metadata, char **ret_tenant, GError **error)
{
    xmlNode *node = NULL;

    if (!only_child(metadata, "tenant", DOMAIN_TENANT_NS, &node, error))
        return FALSE;
    if (!node)
        return TRUE;
    g_autofree char *id = xml_attribute(node, "id");
    if (!id || !*id) {
        return xml_invalid(error, "The domain's <iommud:tenant> has no id: name the tenant in it.");
    }
    *ret_tenant = g_steal_pointer(&id);
    return TRUE;
}

gboolean domain_xml_tenant(const DomainXml *xml, char **ret_tenant, GError **error)
{
    xmlNode *metadata = NULL;
    g_autofree char *tenant = NULL;

    if (!only_child(xml->root, "metadata", NULL, &metadata, error))
        return FALSE;
    if (metadata && !iommud_tenant(metadata, &tenant, error))
        return FALSE;
    if (metadata && !tenant && !nova_project(metadata, &tenant, error))
        return FALSE;
    *ret_tenant = g_steal_pointer(&tenant);
    return TRUE;
}

/* ---- enabling and disabling ---- */

static gboolean check_enable(const DomainXml *xml, const char *tenant, char **ret_old,
                             GError **error)
{
    if (xml_first(xml->root->children, "iommufd", NULL) && !xml->iommufd) {
        return xml_invalid(error, "The domain has <iommufd enabled='no'>: remove it first.");
    }
    if (xml->fdgroup && !g_str_equal(xml->fdgroup, DOMAIN_FDGROUP)) {
        g_autofree char *clean = text_sanitize(xml->fdgroup, TEXT_QUOTED_MAX, false);
        return xml_invalid(
            error,
            "The domain gets its IOMMUFD from the fdgroup '%s': remove its <iommufd> "
            "first.",
            clean);
    }
    g_autofree char *old = NULL;
    if (!domain_xml_tenant(xml, &old, error))
        return FALSE;
    if (old && !g_str_equal(old, tenant)) {
        g_autofree char *clean = text_sanitize(old, TEXT_QUOTED_MAX, false);
        return xml_invalid(
            error,
            "The domain belongs to the tenant '%s' and can't be given to '%s' as well: "
            "change its <metadata> first.",
            clean, tenant);
    }
    *ret_old = g_steal_pointer(&old);
    return TRUE;
}

static void set(xmlNode *node, const char *name, const char *value)
{
    xmlSetProp(node, (const xmlChar *)name, (const xmlChar *)value);
}

static xmlNode *find_or_add(xmlNode *parent, const char *name)
{
    xmlNode *node = xml_first(parent->children, name, NULL);
    return node ? node : xmlNewChild(parent, NULL, (const xmlChar *)name, NULL);
}

static void add_tenant(xmlNode *root, const char *tenant)
{
    xmlNode *metadata = find_or_add(root, "metadata");
    xmlNode *node = xmlNewChild(metadata, NULL, (const xmlChar *)"tenant", NULL);

    xmlSetNs(node, xmlNewNs(node, (const xmlChar *)DOMAIN_TENANT_NS, (const xmlChar *)"iommud"));
    set(node, "id", tenant);
}

static char *print(const DomainXml *xml)
{
    xmlBuffer *buffer = xmlBufferCreate();
    xmlNodeDump(buffer, xml->doc, xml->root, 0, 0);
    char *text = g_strdup((const char *)xmlBufferContent(buffer));
    xmlBufferFree(buffer);
    return text;
}

char *domain_xml_enable(const char *text, const char *tenant, GError **error)
{
    g_autoptr(DomainXml) xml = domain_xml_parse(text, strlen(text), error);
    g_autofree char *old = NULL;

    if (!xml || !check_enable(xml, tenant, &old, error))
        return NULL;
    if (!domain_xml_uses_iommud(xml)) {
        xmlNode *iommufd = find_or_add(xml->root, "iommufd");
        set(iommufd, "enabled", "yes");
        set(iommufd, "fdgroup", DOMAIN_FDGROUP);
    }
    if (!old)
        add_tenant(xml->root, tenant);
    return print(xml);
}

static void drop(xmlNode *node)
{
    xmlUnlinkNode(node);
    xmlFreeNode(node);
}

/* All of them: a domain with two tenants can't start. */
static bool drop_tenants(xmlNode *root)
{
    xmlNode *metadata = xml_first(root->children, "metadata", NULL), *node;
    bool dropped = false;

    while (metadata && (node = xml_first(metadata->children, "tenant", DOMAIN_TENANT_NS))) {
        drop(node);
        dropped = true;
    }
    if (dropped && xmlChildElementCount(metadata) == 0)
        drop(metadata);
    return dropped;
}

char *domain_xml_disable(const char *text, GError **error)
{
    g_autoptr(DomainXml) xml = domain_xml_parse(text, strlen(text), error);

    if (!xml)
        return NULL;
    bool dropped = drop_tenants(xml->root);
    if (g_strcmp0(xml->fdgroup, DOMAIN_FDGROUP) == 0) {
        drop(xml_first(xml->root->children, "iommufd", NULL));
        dropped = true;
    }
    return dropped ? print(xml) : g_strdup("");
}
