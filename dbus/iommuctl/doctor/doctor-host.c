/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What this host's files tell. Nothing here speaks to a bus. */
#include "dbus/iommuctl/doctor/doctor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static char *host_path(const HostFiles *host, const char *path)
{
    return g_strconcat(host->root, path, NULL);
}

static bool host_exists(const HostFiles *host, const char *path)
{
    g_autofree char *full = host_path(host, path);

    return g_file_test(full, G_FILE_TEST_EXISTS);
}

char *host_read(const HostFiles *host, const char *path)
{
    g_autofree char *full = host_path(host, path);
    char *text = NULL;

    return g_file_get_contents(full, &text, NULL, NULL) ? text : g_strdup("");
}

/* ---- what there is ---- */

static unsigned count_groups(const HostFiles *host)
{
    g_autofree char *path = host_path(host, "/sys/kernel/iommu_groups");
    g_autoptr(GDir) groups = g_dir_open(path, 0, NULL);
    unsigned n = 0;

    while (groups && g_dir_read_name(groups))
        n++;
    return n;
}

bool host_has_groups(const HostFiles *host)
{
    return count_groups(host) > 0;
}

bool host_has_iommufd(const HostFiles *host)
{
    return host_exists(host, "/dev/iommu");
}

bool host_has_vfio_cdev(const HostFiles *host)
{
    /* The region of character devices is there from the module's start; /dev/vfio/devices only
     * while some device is bound. */
    g_autofree char *devices = host_read(host, "/proc/devices");

    return strstr(devices, " vfio-dev\n") != NULL;
}

bool host_has_map_file(const HostFiles *host)
{
    unsigned major = 0;
    unsigned minor = 0;

    if (sscanf(host->kernel, "%u.%u", &major, &minor) != 2)
        return false;
    return major > 6 || (major == 6 && minor >= 13);
}

bool host_has_libvirt(const HostFiles *host)
{
    return host_exists(host, "/usr/sbin/libvirtd") || host_exists(host, "/usr/sbin/virtqemud");
}

uint64_t host_memory(const HostFiles *host)
{
    g_autofree char *meminfo = host_read(host, "/proc/meminfo");
    const char *line = strstr(meminfo, "MemTotal:");

    return line ? g_ascii_strtoull(line + strlen("MemTotal:"), NULL, 10) * 1024 : 0;
}

/* ---- modules ---- */

static bool module_listed(const HostFiles *host, const char *list, const char *module)
{
    g_autofree char *path = g_strdup_printf("/lib/modules/%s/%s", host->kernel, list);
    g_autofree char *text = host_read(host, path);
    g_autofree char *name = g_strdup_printf("%s.ko", module);
    const char *found = text;

    /* Whole names: a line begins with a path, and goes on with those of others. */
    while ((found = strstr(found, name))) {
        if (found == text || strchr("/\n", found[-1]))
            return true;
        found++;
    }
    return false;
}

bool host_has_module(const HostFiles *host, const char *module)
{
    g_autofree char *path = g_strconcat("/sys/module/", module, NULL);

    g_strdelimit(path, "-", '_');
    return host_exists(host, path) || module_listed(host, "modules.builtin", module);
}

bool host_has_own_iommufd(const HostFiles *host)
{
    return module_listed(host, "modules.builtin", "iommufd") ||
           module_listed(host, "modules.dep", "kernel/drivers/iommu/iommufd/iommufd");
}

/* How to get a kernel with what the module should offer. Freed with g_free(). */
static char *kernel_remedy(const HostFiles *host)
{
    return g_strdup_printf("Kernel %s is built without it: boot one that has CONFIG_IOMMUFD and "
                           "CONFIG_VFIO_DEVICE_CDEV, or build the modules for this one: dkms "
                           "install iommud-vfio/1 (kernel/modules in iommud's source).",
                           host->kernel);
}

char *host_module_remedy(const HostFiles *host, const char *module)
{
    if (!module_listed(host, "modules.dep", module))
        return kernel_remedy(host);
    return g_strdup_printf("modprobe %s", module);
}

void check_modules(Report *report, const HostFiles *host)
{
    static const char *const modules[] = {"iommufd", "vfio", "vfio-pci"};
    g_autoptr(GString) missing = g_string_new(NULL);
    g_autofree char *remedy = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(modules); i++) {
        if (host_has_module(host, modules[i]))
            continue;
        g_string_append_printf(missing, "%s%s", missing->len ? " " : "", modules[i]);
        if (!module_listed(host, "modules.dep", modules[i]) && !remedy)
            remedy = kernel_remedy(host);
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
    remedy =
        host_has_module(host, "vfio") ? kernel_remedy(host) : host_module_remedy(host, "vfio-pci");
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
