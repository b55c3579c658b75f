/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/iommuctl/doctor/doctor.h"

#include "dbus/client/properties.h"
#include "dbus/iommuctl/doctor/check-guard.h"
#include "dbus/iommuctl/doctor/check-host.h"
#include "policy/size.h"

#include <stdlib.h>
#include <sys/utsname.h>

/* A dead machine's memory is unpinned within two seconds: only what is still there then is left
 * for good. */
#define ORPHANS_PATIENCE (2 * CLIENT_USEC_PER_SEC)

/* ---- the bus ---- */

/* Whether name has an owner. Asks the bus alone, so that nothing is started by being asked for. */
static bool on_the_bus(sd_bus *bus, const char *name)
{
    g_autoptr(sd_bus_message) reply = NULL;
    int owned = 0;

    if (client_call_name(bus, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                         "org.freedesktop.DBus", "NameHasOwner", CLIENT_TIMEOUT, NULL, &reply, "s",
                         name) < 0)
        return false;
    return sd_bus_message_read(reply, "b", &owned) > 0 && owned;
}

/* The properties of the service, or NULL when it is away. */
static Properties *check_service(Report *report, Iommuctl *ctl)
{
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
    Properties *manager = NULL;
    int r;

    if (!ctl->bus) {
        g_autofree char *text = client_error_text(NULL, ctl->bus_error);

        report_add(report, "bus", CHECK_FAILED, g_steal_pointer(&text), "systemctl start dbus");
        return NULL;
    }
    report_add(report, "bus", CHECK_OK, g_strdup("The message bus answers."), NULL);
    if (!on_the_bus(ctl->bus, BUS_NAME)) {
        report_add(report, "service", CHECK_FAILED,
                   g_strdup("iommud is not running: what follows is read from this host's files."),
                   "systemctl enable --now iommud");
        return NULL;
    }
    r = properties_get(ctl->bus, BUS_NAME, BUS_PATH, BUS_INTERFACE_MANAGER, CLIENT_TIMEOUT, &error,
                       &manager);
    if (r < 0) {
        report_add(report, "service", CHECK_FAILED, client_error_text(&error, r),
                   "journalctl -u iommud");
        return NULL;
    }
    report_add(report, "service", CHECK_OK,
               g_strdup_printf(
                   "iommud %s runs%s.", properties_string(manager, "Version"),
                   properties_has(manager, "Features", "simulated") ? " on a simulated host" : ""),
               NULL);
    return manager;
}

/* ---- the kernel ---- */

static void check_kernel(Report *report, const HostFiles *host, const Properties *manager)
{
    bool simulated = manager && properties_has(manager, "Features", "simulated");

    if (!manager) {
        check_groups(report, host, host_has_groups(host));
        check_iommufd(report, host, host_has_iommufd(host));
        check_vfio_cdev(report, host, host_has_vfio_cdev(host));
        check_map_file(report, host, host_has_map_file(host));
    } else {
        check_groups(report, host, properties_has(manager, "Features", "iommu"));
        check_iommufd(report, host, properties_has(manager, "Features", "iommufd"));
        check_vfio_cdev(report, host, properties_has(manager, "Features", "vfio-cdev"));
        check_map_file(report, host, properties_has(manager, "Features", "map-file"));
    }
    if (!simulated)
        check_modules(report, host);
}

static void check_bpf(Report *report, const HostFiles *host, const Properties *manager)
{
    const GuardView view = {
        .guard = properties_string(manager, "GuardState"),
        .guard_reason = properties_string(manager, "GuardReason"),
        .ledger = properties_string(manager, "LedgerState"),
        .ledger_reason = properties_string(manager, "LedgerReason"),
        .rechecks = properties_has(manager, "Features", "guard-recheck"),
        .require_guard = properties_number(manager, "RequireGuard") != 0,
        .simulated = properties_has(manager, "Features", "simulated"),
    };

    check_guard(report, host, &view);
    check_ledger(report, host, &view);
    if (properties_has(manager, "Features", "ledger"))
        check_drift(report, properties_number(manager, "DriftBytes"),
                    properties_number(manager, "UntrackedEvents"));
    if (properties_has(manager, "Features", "guard"))
        check_ioctls(report, properties_number(manager, "UnknownIoctls"));
}

/* ---- figures ---- */

static void check_budget(Report *report, const HostFiles *host, const Properties *manager)
{
    uint64_t budget = properties_number(manager, "HostBudgetBytes");
    uint64_t memory = host_memory(host);
    g_autofree char *budget_text = size_format(budget);
    g_autofree char *memory_text = size_format(memory);
    const char *remedy = "Set Budget= below 100% in the [Host] group of iommud.conf, then "
                         "'iommuctl reload'.";

    if (properties_has(manager, "Features", "simulated"))
        report_add(report, "budget", CHECK_OK,
                   g_strdup_printf("The host budget is %s.", budget_text), NULL);
    else if (budget == SIZE_INFINITY)
        report_add(
            report, "budget", CHECK_WARNING,
            g_strdup_printf("The host has no budget: tenants may pin all of its %s.", memory_text),
            remedy);
    else if (budget > memory)
        report_add(report, "budget", CHECK_WARNING,
                   g_strdup_printf("The host budget of %s is more than the host's memory of %s.",
                                   budget_text, memory_text),
                   remedy);
    else
        report_add(report, "budget", CHECK_OK,
                   g_strdup_printf("The host budget is %s of %s.", budget_text, memory_text), NULL);
}

static uint64_t orphaned_now(sd_bus *bus)
{
    uint64_t bytes = 0;

    if (sd_bus_get_property_trivial(bus, BUS_NAME, BUS_PATH, BUS_INTERFACE_MANAGER, "OrphanedBytes",
                                    NULL, 't', &bytes) < 0)
        return 0;
    return bytes;
}

static void check_orphans(Report *report, Iommuctl *ctl, const Properties *manager)
{
    uint64_t orphaned = properties_number(manager, "OrphanedBytes");
    g_autofree char *text = NULL;

    if (orphaned > 0) {
        g_usleep(ORPHANS_PATIENCE);
        orphaned = orphaned_now(ctl->bus);
    }
    if (orphaned == 0) {
        report_add(report, "orphans", CHECK_OK, g_strdup("Nothing is pinned for dead processes."),
                   NULL);
        return;
    }
    text = size_format(orphaned);
    report_add(report, "orphans", CHECK_FAILED,
               g_strdup_printf("%s are pinned for dead processes.", text),
               "Find whose with 'iommuctl tenant list', then 'iommuctl reap TENANT'.");
}

/* ---- libvirt ---- */

static void check_libvirt_version(Report *report, const char *version)
{
    unsigned major = 0;
    unsigned minor = 0;

    if (sscanf(version, "%u.%u", &major, &minor) != 2)
        report_add(report, "libvirt", CHECK_WARNING,
                   g_strdup("libvirt's version is not known while the agent has no connection."),
                   NULL);
    else if (major > 12 || (major == 12 && minor >= 2))
        report_add(report, "libvirt", CHECK_OK, g_strdup_printf("libvirt is %s.", version), NULL);
    else
        report_add(
            report, "libvirt", CHECK_WARNING,
            g_strdup_printf("libvirt %s can't give a machine its tenant's IOMMUFD.", version),
            "Install libvirt 12.2 or newer.");
}

static void check_connection(Report *report, sd_bus *bus)
{
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
    g_autoptr(Properties) agent = NULL;
    int r = properties_get(bus, BUS_LIBVIRT_NAME, BUS_LIBVIRT_PATH, BUS_INTERFACE_LIBVIRT,
                           CLIENT_TIMEOUT, &error, &agent);

    if (r < 0) {
        report_add(report, "agent", CHECK_FAILED, client_error_text(&error, r),
                   "journalctl -u iommud-libvirt");
        return;
    }
    if (properties_number(agent, "Connected"))
        report_add(
            report, "agent", CHECK_OK,
            g_strdup_printf("The agent is connected to %s.", properties_string(agent, "Uri")),
            NULL);
    else
        report_add(report, "agent", CHECK_FAILED,
                   g_strdup_printf("No machine gets its tenant's IOMMUFD: the agent is %s.",
                                   properties_string(agent, "State")),
                   "systemctl start libvirtd (or virtqemud), then see journalctl -u "
                   "iommud-libvirt");
    check_libvirt_version(report, properties_string(agent, "LibvirtVersion"));
}

static void check_libvirt(Report *report, Iommuctl *ctl, const HostFiles *host, bool simulated)
{
    bool agent = ctl->bus && on_the_bus(ctl->bus, BUS_LIBVIRT_NAME);

    if (agent) {
        check_connection(report, ctl->bus);
    } else if (simulated) {
        report_add(report, "agent", CHECK_WARNING,
                   g_strdup("The libvirt agent is not on this bus; a simulated host can do without "
                            "it."),
                   NULL);
        return;
    } else if (!host_has_libvirt(host)) {
        report_add(report, "libvirt", CHECK_WARNING,
                   g_strdup("libvirt is not installed here: only D-Bus clients can use iommud."),
                   NULL);
        return;
    } else {
        report_add(report, "agent", CHECK_FAILED,
                   g_strdup("The libvirt agent is not running: no machine gets its tenant's "
                            "IOMMUFD."),
                   "systemctl enable --now iommud-libvirt");
    }
    if (!simulated)
        check_hook(report, host, LIBVIRT_HOOK, LIBVIRT_HOOK_PROGRAM);
}

int verb_doctor(Iommuctl *ctl, char **arguments)
{
    g_auto(Report) report;
    g_autoptr(Properties) manager = NULL;
    struct utsname names;
    HostFiles host = {.root = "", .kernel = ""};
    bool simulated;

    report_init(&report, &ctl->output);
    if (uname(&names) == 0)
        host.kernel = names.release;
    manager = check_service(&report, ctl);
    simulated = manager && properties_has(manager, "Features", "simulated");
    check_kernel(&report, &host, manager);
    if (manager) {
        check_bpf(&report, &host, manager);
        check_budget(&report, &host, manager);
        check_orphans(&report, ctl, manager);
    }
    check_libvirt(&report, ctl, &host, simulated);
    report_end(&report);
    return report.counts[CHECK_FAILED] > 0 ? EXIT_FAILURE : 0;
}
