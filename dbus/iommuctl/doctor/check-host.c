/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/iommuctl/doctor/check-host.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

void check_modules(Report *report, const HostFiles *host)
{
    static const char *const modules[] = {"iommufd", "vfio", "vfio-pci"};
    g_autoptr(GString) missing = g_string_new(NULL);
    g_autofree char *remedy = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(modules); i++) {
        if (host_has_module(host, modules[i]))
            continue;
        g_string_append_printf(missing, "%s%s", missing->len ? " " : "", modules[i]);
        if (!host_can_load(host, modules[i]) && !remedy)
            remedy = host_kernel_remedy(host);
    }
    if (missing->len == 0) {
        report_add(report, "modules", CHECK_OK,
                   g_strdup("The modules iommufd, vfio and vfio-pci are loaded."), NULL);
        return;
    }
    if (!remedy)
        remedy = g_strdup_printf("modprobe -a %s", missing->str);
    report_add(report, "modules", CHECK_WARNING, g_strdup_printf("Not loaded: %s.", missing->str),
               remedy);
}

/* ---- features ---- */

static const char *groups_remedy(const HostFiles *host)
{
    g_autofree char *command_line = host_read(host, "/proc/cmdline");
    g_autofree char *cpu = host_read(host, "/proc/cpuinfo");

    if (strstr(cpu, "GenuineIntel") && !strstr(command_line, "intel_iommu=on"))
        return "Add intel_iommu=on to GRUB_CMDLINE_LINUX in /etc/default/grub, run update-grub, "
               "and reboot.";
    return "Switch the IOMMU on in the firmware's setup (Intel: VT-d, AMD: AMD-Vi or IOMMU), and "
           "reboot.";
}

void check_groups(Report *report, const HostFiles *host, bool present)
{
    if (present)
        report_add(report, "iommu", CHECK_OK, g_strdup("Devices are in IOMMU groups."), NULL);
    else
        report_add(report, "iommu", CHECK_FAILED,
                   g_strdup("There is no IOMMU group: no device can be passed through."),
                   groups_remedy(host));
}

void check_iommufd(Report *report, const HostFiles *host, bool present)
{
    g_autofree char *remedy = NULL;

    if (present) {
        report_add(report, "iommufd", CHECK_OK, g_strdup("/dev/iommu is there."), NULL);
        return;
    }
    remedy = host_module_remedy(host, "iommufd");
    if (host_has_iommufd(host))
        report_add(report, "iommufd", CHECK_FAILED,
                   g_strdup("/dev/iommu exists, but iommud could not open it when it looked."),
                   "systemctl restart iommud");
    else
        report_add(report, "iommufd", CHECK_FAILED,
                   g_strdup("There is no /dev/iommu: machines get legacy VFIO only, accounted but "
                            "without an IOMMUFD."),
                   remedy);
}

void check_vfio_cdev(Report *report, const HostFiles *host, bool present)
{
    g_autofree char *remedy = NULL;

    if (present) {
        report_add(report, "vfio-cdev", CHECK_OK, g_strdup("VFIO has character devices."), NULL);
        return;
    }
    /* A VFIO that is loaded would have them if it could. */
    remedy = host_has_module(host, "vfio") ? host_kernel_remedy(host)
                                           : host_module_remedy(host, "vfio-pci");
    report_add(report, "vfio-cdev", CHECK_FAILED,
               g_strdup("VFIO has no character devices: no device can be bound to an IOMMUFD."),
               remedy);
}

void check_map_file(Report *report, const HostFiles *host, bool present)
{
    if (present)
        report_add(report, "map-file", CHECK_OK, g_strdup("Memory files can be mapped."), NULL);
    else
        report_add(report, "map-file", CHECK_WARNING,
                   g_strdup("Memory files can't be mapped (MapFile): the kernel is older than "
                            "6.13."),
                   "Boot Linux 6.13 or newer if a D-Bus client needs MapFile; machines do not.");
}

/* ---- hook ---- */

void check_hook(Report *report, const HostFiles *host, const char *path, const char *program)
{
    g_autofree char *full = host_path(host, path);
    g_autofree char *folder = g_path_get_dirname(path);
    g_autofree char *remedy = NULL;
    struct stat st;

    if (stat(full, &st) < 0 && errno == EACCES) {
        report_add(report, "hook", CHECK_WARNING,
                   g_strdup_printf("%s can't be looked at without more rights.", path),
                   "Run 'iommuctl doctor' as root.");
        return;
    }
    if (!g_file_test(full, G_FILE_TEST_IS_REGULAR)) {
        /* A running libvirt looks for hooks only once, at its start. */
        remedy = g_strdup_printf("mkdir -p %s && ln -sf %s %s, then restart libvirt "
                                 "(systemctl restart libvirtd or virtqemud)",
                                 folder, program, path);
        report_add(report, "hook", CHECK_FAILED,
                   g_strdup_printf("libvirt has no hook %s: machines start without being asked "
                                   "for.",
                                   path),
                   remedy);
        return;
    }
    if (!(st.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH))) {
        remedy = g_strdup_printf("chmod 755 %s", path);
        report_add(
            report, "hook", CHECK_FAILED,
            g_strdup_printf("The hook %s is not executable: libvirt starts no machine.", path),
            remedy);
        return;
    }
    report_add(report, "hook", CHECK_OK, g_strdup("libvirt's hook is installed."), NULL);
}
