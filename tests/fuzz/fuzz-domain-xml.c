/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Domain XML from an enemy. What was read must keep what domain-xml.h promises, and a domain that
 * was enabled must be enabled. */
#include "plugin/libvirt/domain/domain-request.h"
#include "plugin/libvirt/domain/domain-tenant.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_refusal(const GError *error)
{
    g_assert_error(error, XML_ERROR, XML_ERROR_INVALID);
    g_assert_true(g_str_has_prefix(error->message, "The "));
    g_assert_true(g_str_has_suffix(error->message, "."));
    g_assert_true(g_utf8_validate(error->message, -1, NULL));
    for (const char *c = error->message; *c; c = g_utf8_next_char(c))
        g_assert_false(g_unichar_iscntrl(g_utf8_get_char(c)));
    g_assert_cmpuint(strlen(error->message), <, 1024);
}

static void check_request(const DomainXml *xml)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(DomainRequest) request = domain_request_new(xml, &error);

    if (!request) {
        check_refusal(error);
        return;
    }
    g_assert_cmpuint(strlen(request->uuid), ==, 36);
    g_assert_cmpuint(strlen(request->name), <=, 255);
    g_assert_null(strchr(request->name, '/'));
    g_assert_cmpuint(request->bytes, >, 0);
    g_assert_cmpuint(request->bytes, <=, UINT64_C(1) << 60);
    for (char **device = request->devices; *device; device++) {
        g_assert_cmpuint(strlen(*device), >=, strlen("0000:00:00.0"));
        for (char **other = device + 1; *other; other++)
            g_assert_cmpstr(*device, !=, *other);
    }
    if (request->iommufd)
        g_assert_true(domain_xml_needs_admission(xml));
}

static void check_enable(const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *once = domain_xml_enable(text, "acme", &error);

    if (!once) {
        check_refusal(error);
        return;
    }
    g_autoptr(DomainXml) xml = domain_xml_parse(once, strlen(once), &error);
    g_assert_no_error(error);
    g_autofree char *tenant = NULL;
    g_assert_true(domain_xml_uses_iommud(xml));
    g_assert_true(domain_xml_tenant(xml, &tenant, &error));
    g_assert_cmpstr(tenant, ==, "acme");
    /* Empty text is written in two ways: only what was written once stays as it is. */
    g_autofree char *twice = domain_xml_enable(once, "acme", &error);
    g_assert_nonnull(twice);
    g_autofree char *thrice = domain_xml_enable(twice, "acme", &error);
    g_assert_cmpstr(twice, ==, thrice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = g_strndup((const char *)data, size);
    g_autoptr(DomainXml) xml = domain_xml_parse((const char *)data, size, &error);

    if (!xml) {
        check_refusal(error);
        return 0;
    }
    check_request(xml);
    check_enable(text);
    return 0;
}
