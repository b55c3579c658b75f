/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/libvirt/agent/domain-job.h"

#include "plugin/libvirt/domain/domain-tenant.h"
#include "plugin/libvirt/service/service-calls.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <string.h>
#include <unistd.h>

#define INVALID_ARGUMENT CLIENT_ERROR_PREFIX "InvalidArgument"
#define NO_SUCH_TENANT CLIENT_ERROR_PREFIX "NoSuchTenant"
#define NOT_SUPPORTED CLIENT_ERROR_PREFIX "NotSupported"

int libvirt_error(sd_bus_error *error, const char *what, ...)
{
    va_list args;

    va_start(args, what);
    g_autofree char *text = g_strdup_vprintf(what, args);
    va_end(args);
    (void)sd_bus_error_setf(error, LIBVIRT_FAILED, "%s: %s.", text, virGetLastErrorMessage());
    return -EIO;
}

static int invalid(sd_bus_error *error, const GError *why)
{
    return sd_bus_error_setf(error, INVALID_ARGUMENT, "%s", why->message);
}

/* ---- iommud's bus ---- */

static void close_bus(void *data)
{
    sd_bus_flush_close_unref(data);
}

/* A connection belongs to the thread that made it; each thread has its own, kept while it works. */
int work_bus(const WorkContext *context, sd_bus **ret_bus, sd_bus_error *error)
{
    static GPrivate kept = G_PRIVATE_INIT(close_bus);
    sd_bus *bus = g_private_get(&kept);

    if (!bus || sd_bus_is_open(bus) <= 0) {
        g_private_replace(&kept, NULL);
        int r = client_open_bus(context->bus_address, &bus);
        if (r < 0)
            return sd_bus_error_set_errno(error, r);
        g_private_set(&kept, bus);
    }
    *ret_bus = bus;
    return 0;
}

/* ---- finding domains ---- */

static bool looks_like_uuid(const char *text)
{
    return strlen(text) == VIR_UUID_STRING_BUFLEN - 1 && text[8] == '-' && text[13] == '-';
}

static int find_domain(const WorkContext *context, const char *domain, virDomain **ret_dom,
                       sd_bus_error *error)
{
    virDomain *dom = NULL;

    if (looks_like_uuid(domain))
        dom = virDomainLookupByUUIDString(context->libvirt, domain);
    if (!dom)
        dom = virDomainLookupByName(context->libvirt, domain);
    if (!dom)
        return libvirt_error(error, "The domain %s can't be looked up", domain);
    *ret_dom = dom;
    return 0;
}

static char *uuid_of(virDomain *dom)
{
    char uuid[VIR_UUID_STRING_BUFLEN] = "";
    virDomainGetUUIDString(dom, uuid);
    return g_strdup(uuid);
}

int domain_resolve(const WorkContext *context, const char *domain, char **ret_uuid,
                   sd_bus_error *error)
{
    g_autoptr(virDomain) dom = NULL;
    int r = find_domain(context, domain, &dom, error);

    if (r >= 0)
        *ret_uuid = uuid_of(dom);
    return r;
}

int work_xml(virDomain *dom, unsigned flags, char **ret_text, sd_bus_error *error)
{
    char *text = virDomainGetXMLDesc(dom, flags);

    if (!text)
        return libvirt_error(error, "The definition of the domain %s can't be read",
                             virDomainGetName(dom));
    *ret_text = g_strdup(text);
    free(text);
    return 0;
}

static int need_fdgroup(const WorkContext *context, sd_bus_error *error)
{
    if (context->fdgroup)
        return 0;
    return sd_bus_error_setf(error, NOT_SUPPORTED,
                             "This libvirt has no <iommufd fdgroup>, which came with 12.2: "
                             "machines are admitted and counted only.");
}

static int redefine(const WorkContext *context, virDomain *dom, const char *tenant,
                    sd_bus_error *error)
{
    g_autoptr(GError) why = NULL;
    g_autofree char *text = NULL;
    int r = work_xml(dom, VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE, &text, error);

    if (r < 0)
        return r;
    g_autofree char *enabled = domain_xml_enable(text, tenant, &why);
    if (!enabled)
        return invalid(error, why);
    g_autoptr(virDomain) defined = virDomainDefineXML(context->libvirt, enabled);
    if (!defined)
        return libvirt_error(error, "The domain %s can't be defined anew", virDomainGetName(dom));
    return 0;
}

int domain_enable(const WorkContext *context, const char *domain, const char *tenant,
                  char **ret_uuid, sd_bus_error *error)
{
    g_autoptr(virDomain) dom = NULL;
    sd_bus *bus;
    int fd, r = need_fdgroup(context, error);

    if (r >= 0)
        r = find_domain(context, domain, &dom, error);
    if (r >= 0)
        r = work_bus(context, &bus, error);
    /* Opened only to know that it can be: the definition names no tenant that is not there. */
    if (r >= 0)
        r = iommud_open_tenant(bus, tenant, &fd, error);
    if (r < 0)
        return r;
    close(fd);
    r = redefine(context, dom, tenant, error);
    if (r >= 0)
        *ret_uuid = uuid_of(dom);
    return r;
}

/* ---- associating ---- */

static int find_tenant(const WorkContext *context, sd_bus *bus, const DomainXml *xml,
                       const char *name, char **ret_tenant, sd_bus_error *error)
{
    g_autoptr(GError) why = NULL;
    g_autofree char *tenant = NULL;

    if (!domain_xml_tenant(xml, &tenant, &why))
        return invalid(error, why);
    int r = tenant ? 0 : iommud_default_tenant(bus, &tenant, error);
    if (r < 0)
        return r;
    if (!*tenant)
        return sd_bus_error_setf(error, NO_SUCH_TENANT,
                                 "The domain %s names no tenant, and there is no default tenant: "
                                 "run 'iommuctl libvirt enable %s --tenant TENANT'.",
                                 name, name);
    *ret_tenant = g_steal_pointer(&tenant);
    return 0;
}

/* The next start is what it is for, so the definition counts, not the running machine. */
static int associate(const WorkContext *context, virDomain *dom, DomainWork *work)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) why = NULL;
    sd_bus *bus;
    int fd, r = need_fdgroup(context, &work->error);

    if (r >= 0)
        r = work_xml(dom, VIR_DOMAIN_XML_INACTIVE, &text, &work->error);
    if (r < 0)
        return r;
    g_autoptr(DomainXml) xml = domain_xml_parse(text, strlen(text), &why);
    if (!xml)
        return invalid(&work->error, why);
    work->ours = domain_xml_uses_iommud(xml);
    if (!work->ours)
        return sd_bus_error_setf(&work->error, INVALID_ARGUMENT,
                                 "The domain %s has no <iommufd enabled='yes' fdgroup='%s'/>: run "
                                 "'iommuctl libvirt enable %s --tenant TENANT'.",
                                 work->name, DOMAIN_FDGROUP, work->name);
    r = work_bus(context, &bus, &work->error);
    if (r >= 0)
        r = find_tenant(context, bus, xml, work->name, &work->wanted, &work->error);
    if (r >= 0)
        r = iommud_open_tenant(bus, work->wanted, &fd, &work->error);
    if (r < 0)
        return r;
    r = virDomainFDAssociate(dom, DOMAIN_FDGROUP, 1, &fd, 0);
    /* libvirt has its own copy. */
    close(fd);
    if (r < 0)
        return libvirt_error(&work->error, "The domain %s can't be given its IOMMUFD", work->name);
    work->associated = true;
    return 0;
}

void domain_work(const WorkContext *context, DomainWork *work)
{
    g_autoptr(virDomain) dom = virDomainLookupByUUIDString(context->libvirt, work->uuid);

    work->found = dom != NULL;
    if (!dom) {
        (void)libvirt_error(&work->error, "The domain %s can't be looked up", work->uuid);
        return;
    }
    work->name = g_strdup(virDomainGetName(dom));
    if (work->work & WORK_ASSOCIATE)
        (void)associate(context, dom, work);
    if (work->work & WORK_FOLLOW)
        domain_follow(context, dom, work);
}

void domain_work_clear(DomainWork *work)
{
    g_free(work->uuid);
    g_free(work->pinned);
    g_free(work->name);
    g_free(work->wanted);
    g_free(work->running);
    sd_bus_error_free(&work->error);
}

/* ---- all domains ---- */

static void add_state(GArray *states, virDomain *dom)
{
    DomainState state = {0};
    int autostart = 0;

    if (virDomainGetUUIDString(dom, state.uuid) < 0)
        return;
    state.active = virDomainIsActive(dom) == 1;
    state.autostart = !state.active && virDomainGetAutostart(dom, &autostart) == 0 && autostart;
    g_array_append_val(states, state);
}

int domain_list(const WorkContext *context, GArray **ret_states, sd_bus_error *error)
{
    virDomain **doms = NULL;
    int n = virConnectListAllDomains(context->libvirt, &doms, 0);

    if (n < 0)
        return libvirt_error(error, "The domains can't be listed");
    GArray *states = g_array_new(FALSE, FALSE, sizeof(DomainState));
    for (int i = 0; i < n; i++) {
        add_state(states, doms[i]);
        virDomainFree(doms[i]);
    }
    free(doms);
    *ret_states = states;
    return 0;
}

int domain_start(const WorkContext *context, const char *uuid, sd_bus_error *error)
{
    g_autoptr(virDomain) dom = virDomainLookupByUUIDString(context->libvirt, uuid);

    if (!dom || (virDomainIsActive(dom) != 1 && virDomainCreate(dom) < 0))
        return libvirt_error(error, "The domain %s can't be started",
                             dom ? virDomainGetName(dom) : uuid);
    return 0;
}
