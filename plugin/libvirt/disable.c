/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/libvirt/disable.h"

#include "dbus/iommuctl/base/failure.h"
#include "dbus/iommuctl/options.h"
#include "plugin/libvirt/domain/domain-tenant.h"

#include <errno.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <stdio.h>
#include <stdlib.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(virConnect, virConnectClose)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virDomain, virDomainFree)

/* Without a handler libvirt writes each error to stderr itself. */
static void on_error(void *data, virErrorPtr error)
{
}

static int libvirt_failed(Iommuctl *ctl, const char *what, const char *domain)
{
    return fail(ctl, "%s%s: %s", what, domain, virGetLastErrorMessage());
}

/* 1: it is out now, 0: it was not under iommud, or a negative errno. */
static int disable(Iommuctl *ctl, virConnect *libvirt, virDomain *dom)
{
    const char *name = virDomainGetName(dom);
    g_autoptr(GError) error = NULL;
    char *text = virDomainGetXMLDesc(dom, VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE);
    if (!text)
        return libvirt_failed(ctl, "The XML can't be read of the domain ", name);
    g_autofree char *changed = domain_xml_disable(text, &error);
    free(text);
    if (!changed)
        return fail(ctl, "%s: %s", name, error->message);
    if (!*changed)
        return 0;
    if (virDomainIsPersistent(dom) == 0)
        return fail(ctl,
                    "The domain %s is transient, and has no definition to change: it is under "
                    "iommud until it stops.",
                    name);
    g_autoptr(virDomain) defined = virDomainDefineXML(libvirt, changed);
    if (!defined)
        return libvirt_failed(ctl, "libvirt does not take what was changed of the domain ", name);
    if (!ctl->options->quiet)
        puts(name);
    return 1;
}

static int disable_one(Iommuctl *ctl, virConnect *libvirt, const char *domain)
{
    g_autoptr(virDomain) dom = virDomainLookupByUUIDString(libvirt, domain);
    if (!dom)
        dom = virDomainLookupByName(libvirt, domain);
    if (!dom)
        return libvirt_failed(ctl, "The domain can't be looked up: ", domain);
    int r = disable(ctl, libvirt, dom);
    if (r == 0)
        return fail(ctl,
                    "The domain %s is not under iommud: its definition has neither <iommufd> with "
                    "the fdgroup 'iommud' nor <iommud:tenant>.",
                    virDomainGetName(dom));
    return r;
}

/* One that can't be changed keeps no other one in. */
static int disable_all(Iommuctl *ctl, virConnect *libvirt)
{
    virDomain **doms = NULL;
    int n = virConnectListAllDomains(libvirt, &doms, VIR_CONNECT_LIST_DOMAINS_PERSISTENT);
    int result = 0;
    if (n < 0)
        return libvirt_failed(ctl, "The domains can't be listed", "");
    for (int i = 0; i < n; i++) {
        int r = disable(ctl, libvirt, doms[i]);
        if (r < 0)
            print_failure(ctl, r);
        if (r < 0)
            result = r;
        virDomainFree(doms[i]);
    }
    free(doms);
    return result < 0 ? fail(ctl, "Not every domain could be taken out of iommud.") : 0;
}

int disable_domains(Iommuctl *ctl, const char *domain)
{
    const char *uri = g_getenv(LIBVIRT_URI_VARIABLE);
    virSetErrorFunc(NULL, on_error);
    g_autoptr(virConnect) libvirt = virConnectOpen(uri ? uri : "qemu:///system");
    if (!libvirt)
        return libvirt_failed(ctl, "libvirt can't be reached", "");
    return domain ? disable_one(ctl, libvirt, domain) : disable_all(ctl, libvirt);
}
