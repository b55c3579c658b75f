/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Conformance of devices: what is listed, how drivers change, and what remains of a machine that
 * is killed. */
#include "tests/unit/conformance.h"

#include "kernel/base/cleanup.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

#define MIB UINT64_C(0x100000)
/* What the machine maps, and how much else may come and go meanwhile on a real host. */
#define MACHINE_MEMORY (16 * MIB)
#define NOISE MIB
/* The window of interrupts, reserved on every x86 host while a device is attached. */
static const HostIovaRange interrupts = {0xfee00000, 0xfee0ffff};

void check_devices(Host *host)
{
    g_autofree HostDevice *devices = NULL;
    size_t n = 0;
    bool sorted = true;

    check_result(host->ops->devices(host, &devices, &n), 0, "list the devices");
    check(n > 0, "there are %zu", n);
    for (size_t i = 1; i < n; i++)
        sorted &= strcmp(devices[i - 1].address, devices[i].address) < 0;
    check(sorted, "they are sorted by address");
    check_result(host->ops->device_bind(host, "01:00.0", "vfio-pci"), -EINVAL,
                 "bind half an address");
    check_result(host->ops->device_bind(host, "../0000:00:00.0", "vfio-pci"), -EINVAL,
                 "bind a path");
    check_result(host->ops->device_bind(host, "ffff:ff:1f.7", "vfio-pci"), -ENODEV,
                 "bind no such device");
    for (size_t i = 0; i < n; i++) {
        if (!devices[i].bridge)
            continue;
        check_result(host->ops->device_bind(host, devices[i].address, "vfio-pci"), -EINVAL,
                     "bind a bridge");
        return;
    }
    skip("binding of a bridge", "there is none");
}

static bool has_driver(Host *host, const char *address, const char *driver, const char *override)
{
    HostDevice device;
    return find_device(host, address, &device) && strcmp(device.driver, driver) == 0 &&
           strcmp(device.override, override) == 0 &&
           (strcmp(driver, "vfio-pci") == 0) == (device.cdev[0] != '\0');
}

/* Any other device's driver, which the kernel must not be made to try. */
static void check_strange_driver(Host *host, const char *address, const char *driver)
{
    g_autofree HostDevice *devices = NULL;
    size_t n = 0, i = 0;
    host->ops->devices(host, &devices, &n);
    while (i < n && (devices[i].driver[0] == '\0' || strcmp(devices[i].driver, driver) == 0 ||
                     strstr(devices[i].driver, "vfio")))
        i++;
    if (i == n) {
        skip("bind to another device's driver", "there is none");
        return;
    }
    check_result(host->ops->device_bind(host, address, devices[i].driver), -ENODEV,
                 "bind to another device's driver");
    check(has_driver(host, address, driver, ""), "it has its own again");
}

static void check_drivers(Host *host, const char *address, const char *driver)
{
    check_strange_driver(host, address, driver);
    check_result(host->ops->device_bind(host, address, "vfio-pci"), 0, "bind to vfio-pci");
    check(has_driver(host, address, "vfio-pci", "vfio-pci"), "it is, and has a VFIO device");
    check_result(host->ops->device_bind(host, address, "vfio-pci"), 0, "bind to vfio-pci again");
    check_result(host->ops->device_bind(host, address, "no-such-driver"), -ENOENT,
                 "bind to a driver that is not there");
    check_result(host->ops->device_bind(host, address, ""), -EINVAL, "bind to a nameless driver");
    check(has_driver(host, address, "vfio-pci", "vfio-pci"), "a refusal leaves it as it was");
    check_result(host->ops->device_restore(host, address, driver), 0, "restore its driver");
    check(has_driver(host, address, driver, ""), "it is back");
    host->ops->device_bind(host, address, "vfio-pci");
    check_result(host->ops->device_restore(host, address, ""), 0, "let the kernel find a driver");
    check(has_driver(host, address, driver, ""), "it found the same");
    if (driver[0] == '\0') {
        skip("bind to its own driver", "it has none");
        return;
    }
    host->ops->device_bind(host, address, "vfio-pci");
    check_result(host->ops->device_bind(host, address, driver), 0, "bind to its own driver");
    check(has_driver(host, address, driver, ""), "it is, and needs no override");
}

/* A process that has the device bound and attached, and its memory mapped; NULL when that failed.
 */
static Actor *start_machine(Host *host, const char *address, int iommufd)
{
    Actor *actor = actor_new(host, iommufd);
    int r = actor_play(actor, address, MACHINE_MEMORY);
    check_result(r, 0, "start a machine");
    if (r == 0)
        return actor;
    actor_kill(actor);
    return NULL;
}

typedef struct {
    size_t n;
    /* How many of them are these, and the last one's id. */
    unsigned devices, hwpts, ioases;
    uint32_t device, hwpt, ioas;
} Found;

static Found find_objects(const Watched *watched)
{
    Found found = {.n = 0};
    g_autofree LedgerObject *objects = list_objects(watched, &found.n);
    for (size_t i = 0; i < found.n; i++) {
        uint32_t id = objects[i].id;
        if (objects[i].type == LEDGER_OBJECT_TYPE_DEVICE) {
            found.devices++;
            found.device = id;
        } else if (objects[i].type == LEDGER_OBJECT_TYPE_HWPT_PAGING) {
            found.hwpts++;
            found.hwpt = id;
        } else if (objects[i].type == LEDGER_OBJECT_TYPE_IOAS) {
            found.ioases++;
            found.ioas = id;
        }
    }
    return found;
}

static bool found_are(const Found *found, unsigned devices, unsigned hwpts, unsigned ioases)
{
    return found->devices == devices && found->hwpts == hwpts && found->ioases == ioases &&
           found->n == devices + hwpts + ioases;
}

static uint64_t memory_pinned(Host *host)
{
    uint64_t bytes = 0;
    host->ops->memory_pinned(host, &bytes);
    return bytes;
}

static void check_living(const Watched *watched, const char *address, pid_t pid)
{
    Host *host = watched->host;
    int fd = watched->fd;
    Found found = find_objects(watched);
    uint64_t pinned = 0;

    check(found_are(&found, 1, 1, 1), "a device, a page table and an IOAS are found");
    check_result(host->ops->object_destroy(host, fd, found.device), -EBUSY,
                 "destroy the device of a living machine");
    check_result(host->ops->object_destroy(host, fd, found.hwpt), -EBUSY, "destroy its page table");
    check_result(host->ops->object_destroy(host, fd, found.ioas), -EBUSY, "destroy its IOAS");
    check_result(host->ops->ioas_allow_iovas(host, fd, found.ioas, &interrupts, 1), -EADDRINUSE,
                 "allow the window of interrupts");
    check_result(host->ops->device_bind(host, address, "vfio-pci"), 0,
                 "bind its device to the driver it has");
    check_result(host->ops->device_restore(host, address, ""), -EBUSY, "take its device away");
    check_result(host->ops->process_holds(host, pid, fd), 0, "it holds the IOMMUFD");
    check_result(host->ops->process_holds(host, pid, -1), 0, "it holds an IOMMUFD");
    check_result(host->ops->process_pinned(host, pid, &pinned), 0, "what it has pinned");
    check(pinned == MACHINE_MEMORY, "that is its memory: %" G_GUINT64_FORMAT " KiB", pinned / 1024);
}

static void check_leftovers(const Watched *watched, uint64_t before)
{
    Host *host = watched->host;
    int fd = watched->fd;
    Found found = find_objects(watched);
    for (int i = 0; i < 20 && found.devices > 0; i++) {
        g_usleep(100 * 1000);
        found = find_objects(watched);
    }
    uint32_t ioas = found.ioas, hwpt = found.hwpt;
    uint64_t gone = 0;

    check(found_are(&found, 0, 1, 1), "the device is gone, page table and IOAS are left");
    check(memory_pinned(host) + NOISE >= before + MACHINE_MEMORY, "its memory is still pinned");
    check_result(host->ops->object_destroy(host, fd, ioas), -EBUSY,
                 "destroy its IOAS before the page table");
    check_result(host->ops->ioas_unmap(host, fd, ioas, 0, UINT64_MAX, &gone), 0,
                 "unmap all of its IOAS");
    check(gone == MACHINE_MEMORY, "that is its memory");
    check(memory_pinned(host) <= before + NOISE, "nothing is pinned any more");
    check_result(host->ops->object_destroy(host, fd, hwpt), 0, "destroy its page table");
    check_result(host->ops->object_destroy(host, fd, ioas), 0, "destroy its IOAS");
    found = find_objects(watched);
    check(found_are(&found, 0, 0, 0), "nothing is left");
}

static void check_machine(Host *host, Ledger *ledger, const char *address)
{
    autoclose int fd = open_iommufd(host);
    Watched watched = watch_iommufd(host, ledger, fd);
    uint64_t before = memory_pinned(host), pinned = 0;

    check_result(host->ops->device_bind(host, address, "vfio-pci"), 0, "bind for a machine");
    Actor *actor = start_machine(host, address, fd);
    if (!actor)
        return;
    pid_t pid = actor->pid;
    check_living(&watched, address, pid);
    actor_kill(actor);
    check_result(host->ops->process_pinned(host, pid, &pinned), -ESRCH, "what a dead one pinned");
    check_leftovers(&watched, before);

    actor = start_machine(host, address, fd);
    if (!actor)
        return;
    actor_kill(actor);
    destroy_all(&watched);
    check(memory_pinned(host) <= before + NOISE,
          "a second machine: destroying its page table and IOAS unpins as well");
}

void check_device(Host *host, Ledger *ledger, const char *address)
{
    HostDevice before;
    bool found = find_device(host, address, &before);
    check(found, "the device to bind is there");
    if (!found)
        return;
    check(before.group >= 0, "it has an IOMMU group: %d", before.group);
    check_drivers(host, address, before.driver);
    if (ledger->status.counting)
        check_machine(host, ledger, address);
    else
        skip("what a machine has and leaves", ledger->status.reason);
    check_result(host->ops->device_restore(host, address, before.driver), 0, "restore its driver");
    check(has_driver(host, address, before.driver, ""), "it is back");
}
