/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Hot-plugging runs no hook, and a start can miss iommud: the agent brings its books up to date. */
#include "plugin/libvirt/agent/domain-job.h"
#include "plugin/libvirt/service/service-calls.h"
#include "plugin/libvirt/service/leader.h"
#include "plugin/libvirt/agent/log.h"

#include <string.h>
#include <unistd.h>

static void complain(const char *name, const char *what, const sd_bus_error *error)
{
    g_autofree char *why = client_error_text(error, 0);
    log_warning("The machine %s %s: %s", name, what, why);
}

/* The leader of a machine that iommud has only admitted: its start could not tell. */
static void start_leader(sd_bus *bus, const DomainRequest *request)
{
    g_autoptr(GError) why = NULL;
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
    int leader = leader_open(request->name, request->uuid, &why);

    if (leader < 0) {
        log_warning("%s", why->message);
        return;
    }
    if (iommud_start(bus, request->uuid, leader, &error) < 0)
        complain(request->name, "runs without being watched", &error);
    close(leader);
}

static void admit_leader(sd_bus *bus, const DomainRequest *request, int leader)
{
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL, ignored = SD_BUS_ERROR_NULL;

    if (iommud_admit(bus, request, &error) < 0) {
        if (iommud_refusal_counts(request, &error))
            complain(request->name, "runs without being admitted", &error);
    } else if (iommud_start(bus, request->uuid, leader, &error) < 0) {
        complain(request->name, "runs without being watched", &error);
        (void)iommud_release(bus, request->uuid, "its leader was refused", &ignored);
    } else {
        log_info("The machine %s was running already and is admitted now.", request->name);
    }
}

/* A machine that runs although iommud does not know it: started before iommud was there, or given
 * its first device while it ran. */
static void adopt(sd_bus *bus, DomainRequest *request, const DomainWork *work)
{
    g_autoptr(GError) why = NULL;
    /* First: iommud may not know it because it has just ended. */
    int leader = leader_open(request->name, request->uuid, &why);

    if (leader < 0) {
        log_warning("%s", why->message);
        return;
    }
    if (*work->pinned) {
        g_free(request->tenant);
        request->tenant = g_strdup(work->pinned);
    }
    admit_leader(bus, request, leader);
    close(leader);
}

static void change_devices(sd_bus *bus, const IommudMachine *machine, const char *name,
                           const char *method, char **these, char **not_those)
{
    for (char **device = these; *device; device++) {
        g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
        if (g_strv_contains((const char *const *)not_those, *device))
            continue;
        if (iommud_change_device(bus, machine, method, *device, &error) < 0)
            complain(name, method, &error);
        else
            log_info("%s of %s to the machine %s.", method, *device, name);
    }
}

static void update(sd_bus *bus, const IommudMachine *machine, const DomainRequest *request)
{
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;

    if (*request->tenant && !g_str_equal(request->tenant, machine->tenant))
        log_warning("The metadata of the running machine %s names the tenant %s now; it stays %s's "
                    "until it stops.",
                    request->name, request->tenant, machine->tenant);
    if (g_str_equal(machine->state, "admitted"))
        start_leader(bus, request);
    change_devices(bus, machine, request->name, "RemoveDevice", machine->devices, request->devices);
    /* More memory and more address spaces come with devices: promised before they are used. */
    if (machine->reserved != request->bytes &&
        iommud_set_reservation(bus, machine, request, &error) < 0)
        complain(request->name, "has memory that is not reserved", &error);
    change_devices(bus, machine, request->name, "AddDevice", request->devices, machine->devices);
}

/* Whether the domain is up. While it starts, its hook does all that is needed. */
static bool is_up(virDomain *dom)
{
    int state, reason;

    return virDomainIsActive(dom) == 1 && virDomainGetState(dom, &state, &reason, 0) == 0 &&
           !(state == VIR_DOMAIN_PAUSED && reason == VIR_DOMAIN_PAUSED_STARTING_UP);
}

static DomainXml *live_xml(virDomain *dom)
{
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
    g_autoptr(GError) why = NULL;
    g_autofree char *text = NULL;

    if (work_xml(dom, 0, &text, &error) < 0) {
        complain(virDomainGetName(dom), "can't be followed", &error);
        return NULL;
    }
    DomainXml *xml = domain_xml_parse(text, strlen(text), &why);
    if (!xml)
        log_warning("The machine %s can't be followed: %s", virDomainGetName(dom), why->message);
    return xml;
}

/* machine: NULL when iommud does not know it. */
static void follow(sd_bus *bus, const DomainXml *xml, const IommudMachine *machine,
                   const DomainWork *work)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(DomainRequest) request = domain_request_new(xml, &why);

    if (!request)
        log_warning("The machine %s can't be followed: %s", work->name, why->message);
    else if (machine)
        update(bus, machine, request);
    else
        adopt(bus, request, work);
}

void domain_follow(const WorkContext *context, virDomain *dom, DomainWork *work)
{
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
    g_autoptr(IommudMachine) machine = NULL;
    g_autoptr(DomainXml) xml = is_up(dom) ? live_xml(dom) : NULL;
    sd_bus *bus;

    if (!xml)
        return;
    bool needed = domain_xml_needs_admission(xml);
    int r = work_bus(context, &bus, &error);
    if (r >= 0)
        r = iommud_get_machine(bus, work->uuid, &machine, &error);
    bool unknown = sd_bus_error_has_name(&error, CLIENT_ERROR_PREFIX "NoSuchMachine");
    if (r < 0 && !unknown) {
        if (needed)
            complain(work->name, "can't be followed", &error);
        return;
    }
    if (machine)
        work->running = g_strdup(machine->tenant);
    if (machine ? !g_str_equal(machine->state, "reaping") : needed)
        follow(bus, xml, machine, work);
}

/* ---- lost starts ---- */

static void release_lost(const WorkContext *context, sd_bus *bus, const char *uuid)
{
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
    g_autoptr(virDomain) dom = virDomainLookupByUUIDString(context->libvirt, uuid);

    /* A machine that libvirt does not know may be another client's; iommud has a time limit for
     * those. This waits while a start holds the domain's lock, and then says that it is active. */
    if (!dom || virDomainIsActive(dom) != 0)
        return;
    if (iommud_release(bus, uuid, "its domain does not run", &error) < 0)
        complain(virDomainGetName(dom), "was admitted and never started", &error);
    else
        log_info("The machine %s was admitted and never started: its reservation is given back.",
                 virDomainGetName(dom));
    /* Against a start that came in between, and whose admission was the one given back. */
    if (virDomainIsActive(dom) == 1) {
        DomainWork work = {
            .uuid = g_strdup(uuid),
            .pinned = g_strdup(""),
            .name = g_strdup(virDomainGetName(dom)),
        };
        domain_follow(context, dom, &work);
        domain_work_clear(&work);
    }
}

GHashTable *domain_sweep(const WorkContext *context, GHashTable *seen)
{
    GHashTable *now = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
    g_autoptr(GPtrArray) uuids = NULL;
    sd_bus *bus;

    /* When iommud does not run, it has nothing to give back. */
    if (work_bus(context, &bus, &error) < 0 || iommud_list_admitted(bus, &uuids, &error) < 0)
        return now;
    for (guint i = 0; i < uuids->len; i++) {
        g_hash_table_add(now, g_strdup(uuids->pdata[i]));
        if (seen && g_hash_table_contains(seen, uuids->pdata[i]))
            release_lost(context, bus, uuids->pdata[i]);
    }
    return now;
}
