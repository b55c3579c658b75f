/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/host/pci-driver.h"

#include "kernel/base/file.h"
#include "kernel/host/linux-root.h"
#include "kernel/host/pci.h"
#include "kernel/base/process.h"

#include <dirent.h>
#include <errno.h>
#include <glib.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

/* Binding is done when the write returns; a driver that lets its probe run in the background
 * gets so long. */
#define VERIFY_TIMEOUT_MS 2000
#define VERIFY_STEP_MS 10

G_DEFINE_AUTOPTR_CLEANUP_FUNC(DIR, closedir)

static bool driver_name_valid(const char *name)
{
    size_t length = strlen(name);
    return length > 0 && length < sizeof(((HostDevice *)NULL)->driver) && name[0] != '.' &&
           !strpbrk(name, "/ \n");
}

/*
 * Whether the driver is made for any device that it is given by driver_override. With the override
 * the kernel hands a driver also devices that its table does not know, and an ordinary driver then
 * takes them for one of its own: e1000e brings the kernel down over an NVMe disk.
 */
static bool driver_takes_any(const char *driver)
{
    return strstr(driver, "vfio") || strcmp(driver, "pci-stub") == 0;
}

static int driver_loaded(const char *root, const char *driver)
{
    char path[PATH_MAX];
    struct stat st;
    if (!driver_name_valid(driver))
        return -EINVAL;
    snprintf(path, sizeof(path), "%s/sys/bus/pci/drivers/%s", root, driver);
    return stat(path, &st) < 0 ? -errno : 0;
}

static bool opened_by_any(const char *root, dev_t device)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/proc", root);
    g_autoptr(DIR) dir = opendir(path);
    const struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid > 0 && process_holds_device(root, pid, "vfio", device) == 0)
            return true;
    }
    return false;
}

/* Whether a process has the device's VFIO character device open, or that of its group. */
static bool device_in_use(const char *root, const HostDevice *device)
{
    char path[PATH_MAX];
    dev_t number;
    snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/%s/vfio-dev/%s/dev", root, device->address,
             device->cdev);
    if (device->cdev[0] != '\0' && file_read_device_number(path, &number) == 0 &&
        opened_by_any(root, number))
        return true;
    snprintf(path, sizeof(path), "%s/sys/class/vfio/%d/dev", root, device->group);
    return device->group >= 0 && g_str_has_prefix(device->driver, "vfio") &&
           file_read_device_number(path, &number) == 0 && opened_by_any(root, number);
}

static int write_override(const char *root, const char *address, const char *driver)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/%s/driver_override", root, address);
    /* A line without a word clears it; an empty write would never reach the kernel. */
    return file_write(path, driver[0] != '\0' ? driver : "\n");
}

static int write_driver(const char *root, const char *driver, const char *file, const char *address)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/sys/bus/pci/drivers/%s/%s", root, driver, file);
    return file_write(path, address);
}

/* Lets the kernel look for a driver. */
static int write_probe(const char *root, const char *address)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/sys/bus/pci/drivers_probe", root);
    return file_write(path, address);
}

/* Waits until the device's driver is the wanted one. -EIO: it is not. */
static int verify_driver(const char *root, const char *address, const char *driver)
{
    for (int waited = 0;; waited += VERIFY_STEP_MS) {
        HostDevice device;
        int r = pci_device_read(root, address, &device);
        if (r < 0)
            return r;
        if (strcmp(device.driver, driver) == 0)
            return 0;
        if (waited >= VERIFY_TIMEOUT_MS)
            return -EIO;
        struct timespec step = {.tv_nsec = VERIFY_STEP_MS * 1000000L};
        nanosleep(&step, NULL);
    }
}

/*
 * Takes the device from its driver and gives it to another: driver with an override of the same
 * name or none; driver "" lets the kernel choose, and none may be the outcome.
 *
 * A bind by the driver's own file and not through drivers_probe, because only the former answers
 * with what the driver's probe said.
 */
static int change_driver(const char *root, const HostDevice *device, const char *override,
                         const char *driver)
{
    int r = write_override(root, device->address, override);
    if (r < 0)
        return r;
    bool keep = device->driver[0] != '\0' && strcmp(device->driver, driver) == 0;
    if (keep)
        return 0;
    if (device->driver[0] != '\0') {
        r = write_driver(root, device->driver, "unbind", device->address);
        if (r == 0)
            r = verify_driver(root, device->address, "");
        if (r < 0)
            return r;
    }
    if (driver[0] == '\0')
        return write_probe(root, device->address);
    r = write_driver(root, driver, "bind", device->address);
    return r < 0 ? r : verify_driver(root, device->address, driver);
}

/* Brings back what before describes, as far as the kernel lets us: it is the failure that led
 * here that the caller hears of. */
static void roll_back(const char *root, const HostDevice *before)
{
    HostDevice now;
    if (pci_device_read(root, before->address, &now) < 0)
        return;
    bool moved = strcmp(now.driver, before->driver) != 0;
    if (moved && now.driver[0] != '\0')
        (void)write_driver(root, now.driver, "unbind", now.address);
    (void)write_override(root, before->address, before->override);
    if (moved && before->driver[0] != '\0')
        (void)write_driver(root, before->driver, "bind", before->address);
}

static int replace_driver(const char *root, const char *address, const char *override,
                          const char *driver)
{
    HostDevice before;
    int r = pci_device_read(root, address, &before);
    if (r < 0)
        return r;
    if (before.bridge)
        return -EINVAL;
    bool chosen = before.driver[0] != '\0' && before.override[0] == '\0';
    if (driver[0] == '\0' && chosen)
        return 0; /* the kernel has chosen already */
    bool same = before.driver[0] != '\0' && strcmp(before.driver, driver) == 0;
    if (!same && device_in_use(root, &before))
        return -EBUSY;
    r = change_driver(root, &before, override, driver);
    if (r < 0)
        roll_back(root, &before);
    return r;
}

int pci_driver_bind(Host *host, const char *address, const char *driver)
{
    const char *root = linux_root(host);
    int r = driver_loaded(root, driver);
    const char *override = driver_takes_any(driver) ? driver : "";
    return r < 0 ? r : replace_driver(root, address, override, driver);
}

int pci_driver_restore(Host *host, const char *address, const char *driver)
{
    const char *root = linux_root(host);
    int r = driver[0] != '\0' ? driver_loaded(root, driver) : 0;
    return r < 0 ? r : replace_driver(root, address, "", driver);
}
