/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/libvirt/agent/domain-job.h"

#include "kernel/base/cleanup.h"
#include "plugin/libvirt/agent/domain-sync.h"
#include "plugin/libvirt/domain/domain-tenant.h"
#include "plugin/libvirt/service/service-calls.h"

#include <string.h>

#define INVALID_ARGUMENT BUS_ERROR_PREFIX "InvalidArgument"
#define NO_SUCH_TENANT BUS_ERROR_PREFIX "NoSuchTenant"
#define NOT_ASSOCIATED BUS_ERROR_PREFIX "NotAssociated"
#define NOT_SUPPORTED BUS_ERROR_PREFIX "NotSupported"

static int invalid(sd_bus_error *error, const GError *why)
{
    return sd_bus_error_setf(error, INVALID_ARGUMENT, "%s", why->message);
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

static int need_fdgroup(const WorkContext *context, sd_bus_error *error)
{
    if (context->has_fdgroup)
        return 0;
    return sd_bus_error_setf(error, NOT_SUPPORTED,
                             "This libvirt has no <iommufd fdgroup>: upgrade it to 12.2 or newer; "
                             "until then its machines are only admitted and counted.");
}

static int redefine(const WorkContext *context, virDomain *dom, const char *tenant,
                    sd_bus_error *error)
{
    g_autoptr(GError) why = NULL;
    g_autofree char *text = NULL;
    int r = libvirt_domain_xml(dom, VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE, &text, error);

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
    autoclose int fd = -EBADF;
    uint64_t id;
    sd_bus *bus;
    int r = need_fdgroup(context, error);

    if (r >= 0)
        r = find_domain(context, domain, &dom, error);
    if (r >= 0)
        r = work_context_bus(context, &bus, error);
    /* Opened only to know that it can be: the definition names no tenant that is not there. */
    if (r >= 0)
        r = iommud_open_tenant(bus, tenant, &fd, &id, error);
    if (r >= 0)
        r = redefine(context, dom, tenant, error);
    if (r >= 0)
        *ret_uuid = uuid_of(dom);
    return r;
}

/* ---- associating ---- */

static int find_tenant(sd_bus *bus, const DomainXml *xml, const char *name, char **ret_tenant,
                       sd_bus_error *error)
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
static int read_definition(virDomain *dom, DomainJob *job, DomainXml **ret_xml)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) why = NULL;
    int r = libvirt_domain_xml(dom, VIR_DOMAIN_XML_INACTIVE, &text, &job->error);

    if (r < 0)
        return r;
    g_autoptr(DomainXml) xml = domain_xml_parse(text, strlen(text), &why);
    if (!xml)
        return invalid(&job->error, why);
    job->result.uses_iommud = domain_xml_uses_iommud(xml);
    if (!job->result.uses_iommud)
        return sd_bus_error_setf(&job->error, INVALID_ARGUMENT,
                                 "The domain %s has no <iommufd enabled='yes' fdgroup='%s'/>: run "
                                 "'iommuctl libvirt enable %s --tenant TENANT'.",
                                 job->result.name, DOMAIN_FDGROUP, job->result.name);
    *ret_xml = g_steal_pointer(&xml);
    return 0;
}

/* A start of a transient domain makes another object of that UUID, which has nothing. */
static int need_persistent(virDomain *dom, DomainJob *job)
{
    int persistent = virDomainIsPersistent(dom);

    if (persistent < 0)
        return libvirt_error(&job->error, "The domain %s can't be looked up", job->result.name);
    if (persistent == 0)
        return sd_bus_error_setf(
            &job->error, NOT_ASSOCIATED,
            "The domain %s is transient, and libvirt keeps an IOMMUFD only for "
            "one that is defined: run 'virsh define' first.",
            job->result.name);
    return 0;
}

/* Finds out which IOMMUFD libvirt should have. */
static int choose(const WorkContext *context, virDomain *dom, DomainJob *job)
{
    g_autoptr(DomainXml) xml = NULL;
    autoclose int fd = -EBADF;
    int autostart = 0;
    sd_bus *bus;
    int r = need_fdgroup(context, &job->error);

    job->result.autostart =
        virDomainIsActive(dom) == 0 && virDomainGetAutostart(dom, &autostart) == 0 && autostart;
    if (r >= 0)
        r = read_definition(dom, job, &xml);
    if (r >= 0)
        r = need_persistent(dom, job);
    if (r >= 0)
        r = work_context_bus(context, &bus, &job->error);
    if (r >= 0)
        r = find_tenant(bus, xml, job->result.name, &job->result.desired_tenant, &job->error);
    if (r >= 0)
        r = iommud_open_tenant(bus, job->result.desired_tenant, &fd, &job->result.iommufd,
                               &job->error);
    if (r < 0)
        return r;
    job->result.associated = job->result.iommufd == job->iommufd && !job->forced;
    if (!job->result.associated)
        job->fd = TAKE_FD(fd);
    return 0;
}

void domain_job_give(const WorkContext *context, DomainJob *job)
{
    g_autoptr(virDomain) dom = virDomainLookupByUUIDString(context->libvirt, job->uuid);

    /* libvirt makes a copy of its own. */
    job->result.associated = dom && virDomainFDAssociate(dom, DOMAIN_FDGROUP, 1, &job->fd, 0) == 0;
    if (!job->result.associated)
        (void)libvirt_error(&job->error, "The domain %s can't be given its IOMMUFD",
                            job->result.name);
    job->fd = close_fd(job->fd);
}

/* Whether what libvirt has is one machine's alone. When nobody can tell, iommud is away, and all
 * are associated anew when it is back. */
static bool is_for_one_start(const WorkContext *context, DomainJob *job)
{
    g_auto(sd_bus_error) ignored = SD_BUS_ERROR_NULL;
    bool shared = true;
    sd_bus *bus;

    if (*job->tenant && work_context_bus(context, &bus, &ignored) >= 0)
        (void)iommud_tenant_shares(bus, job->tenant, &shared, &ignored);
    return !shared;
}

void domain_job_run(const WorkContext *context, DomainJob *job)
{
    g_autoptr(virDomain) dom = virDomainLookupByUUIDString(context->libvirt, job->uuid);

    job->result.found = dom != NULL;
    if (!dom) {
        (void)libvirt_error(&job->error, "The domain %s can't be looked up", job->uuid);
        return;
    }
    job->result.name = g_strdup(virDomainGetName(dom));
    if (job->flags & JOB_RENEW && is_for_one_start(context, job))
        job->flags |= JOB_ASSOCIATE;
    if (job->flags & JOB_ASSOCIATE)
        (void)choose(context, dom, job);
    if (job->flags & JOB_SYNC)
        domain_sync(context, dom, job->pinned_tenant, job->live, &job->result.pinned_tenant,
                    &job->result.live);
}

void domain_job_clear(DomainJob *job)
{
    close_fd(job->fd);
    g_free(job->uuid);
    g_free(job->pinned_tenant);
    g_free(job->tenant);
    g_free(job->result.name);
    g_free(job->result.desired_tenant);
    g_free(job->result.pinned_tenant);
    domain_live_free(job->live);
    domain_live_free(job->result.live);
    sd_bus_error_free(&job->error);
}

/* ---- all domains ---- */

static void add_state(GArray *states, virDomain *dom)
{
    DomainState state = {0};

    if (virDomainGetUUIDString(dom, state.uuid) < 0)
        return;
    state.active = virDomainIsActive(dom) == 1;
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
