/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/host/pci.h"

#include "kernel/base/file.h"
#include "kernel/base/pci-address.h"
#include "kernel/host/linux-root.h"

#include <dirent.h>
#include <errno.h>
#include <glib.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PCI_HEADER_TYPE 0x0e        /* in configuration space */
#define PCI_HEADER_TYPE_MASK 0x7f   /* bit 7: multifunction */
#define PCI_CLASS_BRIDGE_PCI 0x0604 /* class and subclass of a PCI-to-PCI bridge */
#define PCI_CLASS_BRIDGE_CARDBUS 0x0607

G_DEFINE_AUTOPTR_CLEANUP_FUNC(DIR, closedir)

int pci_device_compare(const void *a, const void *b)
{
    const char *one = ((const HostDevice *)a)->address;
    const char *other = ((const HostDevice *)b)->address;
    size_t one_length = strlen(one), other_length = strlen(other);
    if (one_length != other_length)
        return one_length < other_length ? -1 : 1;
    return strcmp(one, other);
}

/* A bridge by its header, or by its class where configuration space can't be read. */
static bool pci_is_bridge(const char *folder, uint32_t class_code)
{
    char path[PATH_MAX], config[PCI_HEADER_TYPE + 2];
    snprintf(path, sizeof(path), "%s/config", folder);
    if (file_read(path, config, sizeof(config)) == PCI_HEADER_TYPE + 1)
        return (config[PCI_HEADER_TYPE] & PCI_HEADER_TYPE_MASK) != 0;
    return class_code >> 8 == PCI_CLASS_BRIDGE_PCI || class_code >> 8 == PCI_CLASS_BRIDGE_CARDBUS;
}

/* The name of the device's VFIO character device. The folder is there also in kernels built
 * without these; only its file "dev" says that there is one. */
static void pci_read_cdev(const char *folder, HostDevice *device)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/vfio-dev", folder);
    g_autoptr(DIR) dir = opendir(path);
    const struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        struct stat st;
        if (entry->d_name[0] == '.')
            continue;
        g_strlcpy(device->cdev, entry->d_name, sizeof(device->cdev));
        snprintf(path, sizeof(path), "%s/vfio-dev/%s/dev", folder, device->cdev);
        if (stat(path, &st) == 0)
            return;
        device->cdev[0] = '\0';
    }
}

static int pci_read_number(const char *folder, const char *name, uint64_t max, uint64_t *ret)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    int r = file_read_number(path, 0, ret);
    if (r == 0 && *ret > max)
        return -EINVAL;
    /* It was unplugged while we looked. */
    return r == -ENOENT ? -ENODEV : r;
}

int pci_device_read(const char *root, const char *address, HostDevice *ret_device)
{
    if (!pci_address_is_canonical(address))
        return -EINVAL;
    HostDevice device = {.group = -1};
    strcpy(device.address, address);

    char folder[PATH_MAX - 64], path[PATH_MAX], group[32];
    snprintf(folder, sizeof(folder), "%s/sys/bus/pci/devices/%s", root, address);
    uint64_t vendor, product, class_code;
    int r = pci_read_number(folder, "vendor", UINT16_MAX, &vendor);
    if (r == 0)
        r = pci_read_number(folder, "device", UINT16_MAX, &product);
    if (r == 0)
        r = pci_read_number(folder, "class", 0xffffff, &class_code);
    if (r < 0)
        return r;
    device.vendor = (uint16_t)vendor;
    device.product = (uint16_t)product;
    device.class_code = (uint32_t)class_code;
    device.bridge = pci_is_bridge(folder, device.class_code);

    snprintf(path, sizeof(path), "%s/iommu_group", folder);
    if (file_read_link_name(path, group, sizeof(group)) == 0)
        device.group = atoi(group);
    snprintf(path, sizeof(path), "%s/driver", folder);
    r = file_read_link_name(path, device.driver, sizeof(device.driver));
    if (r < 0 && r != -ENOENT)
        return r;
    snprintf(path, sizeof(path), "%s/driver_override", folder);
    if (file_read_line(path, device.override, sizeof(device.override)) < 0 ||
        strcmp(device.override, "(null)") == 0)
        device.override[0] = '\0';
    pci_read_cdev(folder, &device);

    *ret_device = device;
    return 0;
}

int pci_devices(Host *host, HostDevice **ret_devices, size_t *ret_n)
{
    const char *root = linux_root(host);
    char path[PATH_MAX];
    g_autoptr(GArray) devices = g_array_new(FALSE, FALSE, sizeof(HostDevice));
    snprintf(path, sizeof(path), "%s/sys/bus/pci/devices", root);
    g_autoptr(DIR) dir = opendir(path);
    /* A machine without PCI has no such folder, and no device. */
    if (!dir && errno != ENOENT)
        return -errno;

    const struct dirent *entry;
    while (dir && (errno = 0, entry = readdir(dir))) {
        HostDevice device;
        int r = pci_device_read(root, entry->d_name, &device);
        if (r == -EINVAL || r == -ENODEV)
            continue;
        if (r < 0)
            return r;
        g_array_append_val(devices, device);
    }
    if (dir && errno != 0)
        return -errno;
    g_array_sort(devices, pci_device_compare);
    *ret_n = devices->len;
    *ret_devices = (HostDevice *)g_array_free(g_steal_pointer(&devices), FALSE);
    return 0;
}
