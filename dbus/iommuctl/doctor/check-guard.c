/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/iommuctl/doctor/check-guard.h"

#include "policy/size.h"

#include <inttypes.h>
#include <string.h>

#define ISOLATE "Create tenants whose machines do not trust each other with --isolation=machine."
#define REQUIRE                                                                                    \
    "Remove RequireGuard=no from the [Kernel] group of iommud.conf, or create tenants whose "      \
    "machines do not trust each other with --isolation=machine."

/* before, a state, and its reason, which is a sentence or "". */
static char *with_state(const char *before, const char *state, const char *reason)
{
    return g_strconcat(before, state, *reason ? ": " : ".", reason, NULL);
}

/* The modules are looked into when the programs are loaded, at the service's start. NULL: they are
 * there. Freed with g_free(). */
static char *modules_remedy(const HostFiles *host)
{
    g_autofree char *remedy = NULL;

    if (!host_has_module(host, "iommufd"))
        remedy = host_module_remedy(host, "iommufd");
    else if (!host_has_module(host, "vfio"))
        remedy = host_module_remedy(host, "vfio-pci");
    if (!remedy || !g_str_has_prefix(remedy, "modprobe"))
        return g_steal_pointer(&remedy);
    return g_strdup("modprobe -a iommufd vfio-pci, then systemctl restart iommud");
}

/* How to get BPF among the active security modules. NULL: it is one. Freed with g_free(). */
static char *lsm_remedy(const HostFiles *host)
{
    g_autofree char *text = host_read(host, "/sys/kernel/security/lsm");
    g_auto(GStrv) modules = g_strsplit(g_strstrip(text), ",", -1);

    if (!*modules || g_strv_contains((const char *const *)modules, "bpf"))
        return NULL;
    return g_strdup_printf("Add lsm=%s,bpf to GRUB_CMDLINE_LINUX in /etc/default/grub, run "
                           "update-grub, and reboot.",
                           text);
}

/* Where machines share all the same. */
static bool is_unguarded(const GuardView *view)
{
    return !view->require_guard && strcmp(view->ledger, "active") == 0;
}

/* NULL: the guard's own reason says it all. Freed with g_free(). */
static char *guard_remedy(const HostFiles *host, const GuardView *view)
{
    char *remedy = NULL;

    if (!view->simulated && strcmp(view->ledger, "active") == 0)
        remedy = lsm_remedy(host);
    else if (!view->simulated)
        remedy = modules_remedy(host);
    return remedy || !is_unguarded(view) ? remedy : g_strdup(REQUIRE);
}

void check_guard(Report *report, const HostFiles *host, const GuardView *view)
{
    g_autofree char *remedy = NULL;

    if (strcmp(view->guard, "enforcing") == 0)
        remedy = lsm_remedy(host);
    if (remedy) {
        report_add(report, "guard", CHECK_WARNING,
                   g_strdup("The guard is enforcing, but bpf is not among the kernel's security "
                            "modules: a process with many threads can evade the checks of who "
                            "receives an IOMMUFD, opens /dev/iommu or resets a bus."),
                   remedy);
        return;
    }
    if (strcmp(view->guard, "enforcing") == 0 && view->rechecks) {
        report_add(report, "guard", CHECK_OK,
                   g_strdup("The guard keeps machines that share an IOMMUFD apart, and tenants "
                            "within their limits."),
                   NULL);
        return;
    }
    if (strcmp(view->guard, "enforcing") == 0) {
        report_add(report, "guard", CHECK_WARNING,
                   g_strdup("The guard is enforcing, but with this kernel's iommufd a process "
                            "that changes an argument after it was checked is killed only when "
                            "that call has taken effect."),
                   host_has_own_iommufd(host)
                       ? ISOLATE
                       : "dkms install iommud-vfio/1 (kernel/modules in iommud's source), without "
                         "guard_hooks=0, and reboot.");
        return;
    }
    if (strcmp(view->guard, "off") == 0)
        remedy = g_strdup("Remove Guard=off from the [Kernel] group of iommud.conf, then systemctl "
                          "restart iommud.");
    else
        remedy = guard_remedy(host, view);
    report_add(report, "guard", CHECK_WARNING,
               with_state(is_unguarded(view)
                              ? "Nothing keeps machines that share an IOMMUFD from each other's "
                                "memory (RequireGuard=no), and limits hold for promises only: the "
                                "guard is "
                              : "Machines share no IOMMUFD, and limits hold for promises only: the "
                                "guard is ",
                          view->guard, view->guard_reason),
               remedy);
}

void check_ledger(Report *report, const HostFiles *host, const GuardView *view)
{
    g_autofree char *remedy = view->simulated ? NULL : modules_remedy(host);

    if (strcmp(view->ledger, "active") == 0)
        report_add(report, "ledger", CHECK_OK,
                   g_strdup("The ledger knows the owner of every object and of every pinned page."),
                   NULL);
    else
        report_add(report, "ledger", CHECK_WARNING,
                   with_state("The kernel does not count objects and pinned pages by owner, so "
                              "that nothing is shared, and figures come from /proc: the ledger is ",
                              view->ledger, view->ledger_reason),
                   remedy);
}

void check_drift(Report *report, uint64_t drift, uint64_t untracked)
{
    g_autofree char *size = size_format(drift);

    if (drift > 0)
        report_add(report, "drift", CHECK_WARNING,
                   g_strdup_printf("The ledger was off by %s in all since iommud started, and was "
                                   "repaired.",
                                   size),
                   "It is compared with the kernel every minute. If this grows, see journalctl -u "
                   "iommud.");
    else if (untracked > 0)
        report_add(report, "drift", CHECK_OK,
                   g_strdup_printf("The ledger agrees with the kernel, and has made up for %" PRIu64
                                   " events that it could not take down when they happened.",
                                   untracked),
                   NULL);
    else
        report_add(report, "drift", CHECK_OK, g_strdup("The ledger agrees with the kernel."), NULL);
}

void check_ioctls(Report *report, uint64_t unknown)
{
    if (unknown == 0)
        report_add(report, "ioctls", CHECK_OK, g_strdup("The guard knows what machines use."),
                   NULL);
    else
        report_add(report, "ioctls", CHECK_WARNING,
                   g_strdup_printf("Machines used %" PRIu64 " ioctls that the guard does not know.",
                                   unknown),
                   "Update iommud; or have them refused: Guard=strict in the [Kernel] group of "
                   "iommud.conf.");
}
