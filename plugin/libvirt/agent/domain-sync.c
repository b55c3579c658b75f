/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/libvirt/agent/domain-sync.h"

#include "dbus/base/journal.h"
#include "kernel/base/cleanup.h"
#include "plugin/libvirt/service/leader.h"
#include "plugin/libvirt/service/service-calls.h"

#include <string.h>

static void complain(const char *name, const char *what, const sd_bus_error *error)
{
    g_autofree char *why = client_error_text(error, 0);
    journal_write(LOG_WARNING, NULL, NULL, "The machine %s %s: %s", name, what, why);
}

static void complain_of(const GError *error)
{
    journal_write(LOG_WARNING, NULL, NULL, "%s", error->message);
}

/* The leader of a machine that iommud has only admitted: the hook of its start could not name it.
 */
static void start_admitted(sd_bus *bus, const DomainRequest *request)
{
    g_autoptr(GError) why = NULL;
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
    autoclose int leader = leader_open(request->name, request->uuid, &why);

    if (leader < 0)
        complain_of(why);
    else if (iommud_start(bus, request->uuid, leader, &error) < 0)
        complain(request->name, "runs without being watched", &error);
}

static void admit(sd_bus *bus, const DomainRequest *request, int leader)
{
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL, ignored = SD_BUS_ERROR_NULL;

    if (iommud_admit(bus, request, 0, &error) < 0) {
        /* That iommud can't be asked now is no news either: this is done again when it is back. */
        if (iommud_refusal_counts(request, &error))
            complain(request->name, "runs without being admitted", &error);
    } else if (iommud_start(bus, request->uuid, leader, &error) < 0) {
        complain(request->name, "runs without being watched", &error);
        (void)iommud_release(bus, request->uuid, "its leader was refused", &ignored);
    } else {
        journal_write(LOG_INFO, NULL, NULL,
                      "The machine %s was running already and is admitted now.", request->name);
    }
}

/* A machine that runs although iommud does not know it: started before iommud was there, or given
 * its first device while it ran. */
static void admit_running(sd_bus *bus, DomainRequest *request, const char *pinned_tenant)
{
    g_autoptr(GError) why = NULL;
    /* First: iommud may not know it because it has just ended. */
    autoclose int leader = leader_open(request->name, request->uuid, &why);

    if (leader < 0) {
        complain_of(why);
        return;
    }
    if (*pinned_tenant) {
        g_free(request->tenant);
        request->tenant = g_strdup(pinned_tenant);
    }
    admit(bus, request, leader);
}

static bool contains(char **devices, const char *device)
{
    return g_strv_contains((const char *const *)devices, device);
}

/* Calls AddDevice or RemoveDevice for each of these that is not among those, and is among these
 * others (NULL: wherever it is). */
static void change_devices(sd_bus *bus, const IommudMachine *machine, const char *name,
                           const char *method, char **these, char **not_those, char **others)
{
    for (char **device = these; *device; device++) {
        g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
        if (contains(not_those, *device) || (others && !contains(others, *device)))
            continue;
        if (iommud_change_device(bus, machine, method, *device, &error) < 0) {
            g_autofree char *what = g_strdup_printf("is refused %s of %s", method, *device);
            complain(name, what, &error);
        } else {
            journal_write(LOG_INFO, NULL, NULL, "The machine %s: %s of %s.", name, method, *device);
        }
    }
}

/* More is promised at once. Less only if what the domain has became less, and nobody has set the
 * reservation since: it may be for what is plugged in next. */
static bool reserves_otherwise(const IommudMachine *machine, const DomainRequest *request,
                               const DomainLive *known)
{
    if (request->bytes >= machine->reserved)
        return request->bytes > machine->reserved;
    return known && request->bytes < known->bytes && machine->reserved == known->reserved;
}

static void update(sd_bus *bus, IommudMachine *machine, const DomainRequest *request,
                   const DomainLive *known)
{
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;

    if (*request->tenant && !g_str_equal(request->tenant, machine->tenant))
        journal_write(LOG_WARNING, NULL, NULL,
                      "The metadata of the running machine %s names the tenant %s now; it stays "
                      "%s's until it stops.",
                      request->name, request->tenant, machine->tenant);
    if (g_str_equal(machine->state, "admitted"))
        start_admitted(bus, request);
    if (known)
        change_devices(bus, machine, request->name, "RemoveDevice", machine->devices,
                       request->devices, known->devices);
    if (reserves_otherwise(machine, request, known)) {
        if (iommud_set_reservation(bus, machine, request, &error) < 0)
            complain(request->name, "has memory that is not reserved", &error);
        else
            machine->reserved = request->bytes;
    }
    change_devices(bus, machine, request->name, "AddDevice", request->devices, machine->devices,
                   NULL);
}

/* Whether the domain is up. While it starts, its hook does all that is needed. */
static bool is_up(virDomain *dom)
{
    int state, reason;

    return virDomainIsActive(dom) == 1 && virDomainGetState(dom, &state, &reason, 0) == 0 &&
           !(state == VIR_DOMAIN_PAUSED && reason == VIR_DOMAIN_PAUSED_STARTING_UP);
}

static void complain_unread(virDomain *dom, const char *why)
{
    journal_write(LOG_WARNING, NULL, NULL,
                  "What the running domain %s has can't be read, so that iommud is not told: %s",
                  virDomainGetName(dom), why);
}

static DomainXml *live_xml(virDomain *dom)
{
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
    g_autoptr(GError) why = NULL;
    g_autofree char *text = NULL;

    if (libvirt_domain_xml(dom, 0, &text, &error) < 0) {
        complain_unread(dom, error.message);
        return NULL;
    }
    DomainXml *xml = domain_xml_parse(text, strlen(text), &why);
    if (!xml)
        complain_unread(dom, why->message);
    return xml;
}

void domain_sync(const WorkContext *context, virDomain *dom, const char *pinned_tenant,
                 const DomainLive *known, char **ret_pinned_tenant, DomainLive **ret_live)
{
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
    g_autoptr(GError) why = NULL;
    g_autoptr(IommudMachine) machine = NULL;
    g_autoptr(DomainXml) xml = is_up(dom) ? live_xml(dom) : NULL;
    char uuid[VIR_UUID_STRING_BUFLEN];
    sd_bus *bus;

    if (!xml || virDomainGetUUIDString(dom, uuid) < 0)
        return;
    bool needed = domain_xml_needs_admission(xml);
    int r = work_context_bus(context, &bus, &error);
    if (r >= 0)
        r = iommud_get_machine(bus, uuid, &machine, &error);
    if (r < 0 && !sd_bus_error_has_name(&error, BUS_ERROR_PREFIX "NoSuchMachine")) {
        if (needed)
            complain(virDomainGetName(dom), "can't be looked up in iommud", &error);
        return;
    }
    if (machine)
        *ret_pinned_tenant = g_strdup(machine->tenant);
    if (machine ? g_str_equal(machine->state, "reaping") : !needed)
        return;
    g_autoptr(DomainRequest) request = domain_request_new(xml, &why);
    if (!request)
        complain_unread(dom, why->message);
    else if (machine)
        update(bus, machine, request, known);
    else
        admit_running(bus, request, pinned_tenant);
    if (request)
        *ret_live = domain_live_new(request->devices, request->bytes,
                                    machine ? machine->reserved : request->bytes);
}

/* ---- what is admitted only ---- */

static void start_running(const WorkContext *context, virDomain *dom)
{
    g_autoptr(DomainLive) live = NULL;
    g_autofree char *tenant = NULL;

    domain_sync(context, dom, "", NULL, &tenant, &live);
}

static void settle(const WorkContext *context, sd_bus *bus, const char *uuid, bool seen)
{
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
    g_autoptr(virDomain) dom = virDomainLookupByUUIDString(context->libvirt, uuid);
    /* This waits while a start holds the domain's lock, and then says that it is active. */
    int active = dom ? virDomainIsActive(dom) : -1;

    if (active == 1)
        start_running(context, dom);
    /* A machine that libvirt does not know may be another client's; iommud has a time limit for
     * those. */
    if (active != 0 || !seen)
        return;
    if (iommud_release(bus, uuid, "its domain does not run", &error) < 0)
        complain(virDomainGetName(dom), "was admitted and never started", &error);
    else
        journal_write(LOG_INFO, NULL, NULL,
                      "The machine %s was admitted and never started: its reservation is given "
                      "back.",
                      virDomainGetName(dom));
    /* Against a start that came in between, and whose admission was the one given back. */
    if (virDomainIsActive(dom) == 1)
        start_running(context, dom);
}

GHashTable *domain_settle_admitted(const WorkContext *context, GHashTable *seen)
{
    GHashTable *now = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
    g_autoptr(GPtrArray) uuids = NULL;
    sd_bus *bus;

    /* When iommud does not run, it has nothing to give back. */
    if (work_context_bus(context, &bus, &error) < 0 ||
        iommud_list_admitted(bus, &uuids, &error) < 0)
        return now;
    for (guint i = 0; i < uuids->len; i++) {
        g_hash_table_add(now, g_strdup(uuids->pdata[i]));
        settle(context, bus, uuids->pdata[i], seen && g_hash_table_contains(seen, uuids->pdata[i]));
    }
    return now;
}
