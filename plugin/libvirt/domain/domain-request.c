/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/libvirt/domain/domain-request.h"

#include "plugin/libvirt/domain/domain-memory.h"
#include "plugin/libvirt/domain/domain-tenant.h"

DomainRequest *domain_request_new(const DomainXml *xml, GError **error)
{
    g_autoptr(DomainRequest) request = g_new0(DomainRequest, 1);

    if (!domain_xml_identity(xml, &request->uuid, &request->name, error) ||
        !domain_xml_tenant(xml, &request->tenant, error) ||
        !domain_xml_reservation(xml, &request->bytes, &request->unique_bytes, error))
        return NULL;
    if (!request->tenant)
        request->tenant = g_strdup("");
    request->devices = g_strdupv(xml->devices);
    request->iommufd = domain_xml_uses_iommud(xml);
    request->follows_limit = domain_xml_follows_limit(xml);
    return g_steal_pointer(&request);
}

void domain_request_free(DomainRequest *request)
{
    if (!request)
        return;
    g_free(request->uuid);
    g_free(request->name);
    g_free(request->tenant);
    g_strfreev(request->devices);
    g_free(request);
}
