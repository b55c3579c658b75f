/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Whose domain it is, and how to say so in the XML. Errors as in domain-xml.h. */
#pragma once

#include "plugin/libvirt/domain/domain-xml.h"

/* <iommud:tenant xmlns:iommud="urn:iommud:domain:1" id="acme"/> under <metadata>. */
#define DOMAIN_TENANT_NS "urn:iommud:domain:1"

/* Its tenant, freed with g_free(); NULL when the domain names none. INVALID: it names two. */
gboolean domain_xml_tenant(const DomainXml *xml, char **ret_tenant, GError **error);

/* The domain's XML with <iommufd> and the tenant put in, freed with g_free(); unchanged where they
 * are there already. INVALID: it has an <iommufd> that is disabled or has another fdgroup, or
 * names another tenant. */
char *domain_xml_enable(const char *text, const char *tenant, GError **error);
/* The domain's XML without what domain_xml_enable() puts in, freed with g_free(); "" when nothing
 * of that is there. What Nova writes stays. INVALID. */
char *domain_xml_disable(const char *text, GError **error);
