/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/libvirt/agent/work-context.h"

#include <errno.h>
#include <libvirt/virterror.h>

WorkContext *work_context_new(virConnectPtr libvirt, unsigned long version, const char *bus_address)
{
    WorkContext *context = g_new0(WorkContext, 1);

    virConnectRef(libvirt);
    context->libvirt = libvirt;
    context->has_fdgroup = version >= LIBVIRT_VERSION_FDGROUP;
    context->bus_address = bus_address;
    return context;
}

void work_context_free(WorkContext *context)
{
    virConnectClose(context->libvirt);
    g_free(context);
}

static void close_bus(void *data)
{
    sd_bus_flush_close_unref(data);
}

/* A connection belongs to the thread that made it; each thread has its own, kept while it works. */
int work_context_bus(const WorkContext *context, sd_bus **ret_bus, sd_bus_error *error)
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

char *libvirt_version_text(unsigned long version)
{
    return g_strdup_printf("%lu.%lu.%lu", version / 1000000, version / 1000 % 1000, version % 1000);
}

int libvirt_error(sd_bus_error *error, const char *what, ...)
{
    va_list args;

    va_start(args, what);
    g_autofree char *text = g_strdup_vprintf(what, args);
    va_end(args);
    (void)sd_bus_error_setf(error, LIBVIRT_FAILED, "%s: %s.", text, virGetLastErrorMessage());
    return -EIO;
}

int libvirt_domain_xml(virDomain *dom, unsigned flags, char **ret_text, sd_bus_error *error)
{
    char *text = virDomainGetXMLDesc(dom, flags);

    if (!text)
        return libvirt_error(error, "The definition of the domain %s can't be read",
                             virDomainGetName(dom));
    *ret_text = g_strdup(text);
    free(text);
    return 0;
}
