/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/iommuctl/doctor/host-files.h"

#include <glib.h>
#include <stdio.h>
#include <string.h>

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

char *host_kernel_remedy(const HostFiles *host)
{
    return g_strdup_printf("Kernel %s is built without it: boot one that has CONFIG_IOMMUFD and "
                           "CONFIG_VFIO_DEVICE_CDEV, or build the modules for this one: dkms "
                           "install iommud-vfio/1 (kernel/modules in iommud's source).",
                           host->kernel);
}

char *host_module_remedy(const HostFiles *host, const char *module)
{
    if (!host_can_load(host, module))
        return host_kernel_remedy(host);
    return g_strdup_printf("modprobe %s", module);
}

bool host_can_load(const HostFiles *host, const char *module)
{
    return module_listed(host, "modules.dep", module);
}

char *host_path(const HostFiles *host, const char *path)
{
    return g_strconcat(host->root, path, NULL);
}
