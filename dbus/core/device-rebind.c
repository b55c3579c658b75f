/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/core/device-rebind.h"

#include "dbus/base/errors.h"
#include "dbus/base/journal.h"
#include "dbus/state/records.h"
#include "dbus/base/worker.h"

#include <string.h>

#define DRIVER_MAX 64

typedef struct {
    Manager *manager;
    Host *host;
    char *address;
    char *driver;
    bool restore;
    bool recorded; /* this call wrote down the driver it had */
    DeviceRebindDone done;
    void *data;
    int result;
} Rebind;

static void rebind_run(void *data)
{
    Rebind *rebind = data;
    const HostOps *ops = rebind->host->ops;
    rebind->result = rebind->restore
                         ? ops->device_restore(rebind->host, rebind->address, rebind->driver)
                         : ops->device_bind(rebind->host, rebind->address, rebind->driver);
}

static void set_error(const Rebind *rebind, GError **error)
{
    if (rebind->result == -ENOENT)
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_NOT_SUPPORTED,
                    "No driver %s is loaded that device %s could be bound to: load its module "
                    "first.",
                    rebind->driver, rebind->address);
    else if (rebind->result == -EBUSY)
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_DEVICE_BUSY,
                    "Device %s can't be bound to another driver: a process uses it.",
                    rebind->address);
    else if (rebind->result == -ENODEV)
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_NO_SUCH_DEVICE,
                    "Device %s is gone, or driver %s does not want it.", rebind->address,
                    rebind->driver);
    else
        error_set_kernel(error, rebind->result, "Device %s could not be bound to %s",
                         rebind->address, *rebind->driver ? rebind->driver : "a driver");
}

static void rebind_done(void *data)
{
    Rebind *rebind = data;
    Manager *manager = rebind->manager;
    g_hash_table_remove(manager->binding, rebind->address);
    host_devices_forget(manager->devices);
    bool bound = rebind->result >= 0;
    if (rebind->restore ? bound : rebind->recorded && !bound)
        device_record_remove(manager->runtime_dir, rebind->address);
    g_autoptr(GError) error = NULL;
    if (bound)
        journal_write(LOG_INFO, MESSAGE_DEVICE_BOUND, &(JournalFields){.device = rebind->address},
                      "Bound device %s to %s.", rebind->address,
                      *rebind->driver ? rebind->driver : "the driver that the kernel chose");
    else
        set_error(rebind, &error);
    rebind->done(error, rebind->data);
    g_free(rebind->address);
    g_free(rebind->driver);
    g_free(rebind);
}

/* Takes what it is given. */
static void rebind_queue(Rebind rebind)
{
    g_hash_table_add(rebind.manager->binding, g_strdup(rebind.address));
    worker_queue(rebind.manager->binder, rebind_run, rebind_done,
                 g_memdup2(&rebind, sizeof(rebind)));
}

/* For whom a device may be bound although a machine holds it: who admitted the machine prepares it,
 * and the admission has looked at the whole group. */
static bool is_prepared(Manager *manager, const char *address, const char *driver)
{
    const MachinePolicy *holder = registry_device_holder(manager->registry, address);
    return holder && holder->state == MACHINE_ADMITTED && g_str_has_prefix(driver, "vfio");
}

static gboolean check_free(Manager *manager, const char *address, const char *driver,
                           GError **error)
{
    const MachinePolicy *holder = registry_device_holder(manager->registry, address);
    if (holder && !is_prepared(manager, address, driver))
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_DEVICE_BUSY,
                    "Device %s belongs to machine %s (%s): stop it first.", address, holder->name,
                    holder->uuid);
    else if (g_hash_table_contains(manager->binding, address))
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_DEVICE_BUSY,
                    "Device %s is being bound to another driver right now: try again.", address);
    else
        return TRUE;
    return FALSE;
}

/* The name becomes a part of a path in sysfs, and of messages. */
static gboolean check_driver(const char *driver, GError **error)
{
    size_t length = strlen(driver);
    bool ok = length > 0 && length <= DRIVER_MAX && driver[0] != '.';
    for (size_t i = 0; ok && i < length; i++)
        ok = g_ascii_isalnum(driver[i]) || strchr("_-.", driver[i]);
    if (ok)
        return TRUE;
    g_autofree char *quoted = error_quote(driver);
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                "%s can't be the name of a driver: try vfio-pci.", quoted);
    return FALSE;
}

/* A device that no machine could get is not taken away from the host's driver. */
static gboolean check_assignable(Manager *manager, const HostDevice *device, const char *driver,
                                 GError **error)
{
    const HostDevice *devices;
    size_t n;
    g_autofree char *reason = NULL;
    if (!g_str_has_prefix(driver, "vfio") || is_prepared(manager, device->address, driver))
        return TRUE;
    if (!host_devices_list(manager->devices, &devices, &n, error))
        return FALSE;
    if (registry_device_assignable(manager->registry, device, devices, n, &reason))
        return TRUE;
    g_set_error_literal(error, IOMMUD_ERROR, IOMMUD_ERROR_GROUP_SHARED, reason);
    return FALSE;
}

gboolean device_bind(Manager *manager, const char *address, const char *driver,
                     DeviceRebindDone done, void *data, GError **error)
{
    const HostDevice *device = host_devices_find(manager->devices, address, error);
    if (!device || !check_driver(driver, error) || !check_free(manager, address, driver, error) ||
        !check_assignable(manager, device, driver, error))
        return FALSE;
    /* The first Bind() counts: from one vfio driver to the next the host's own is remembered. */
    g_autofree char *recorded = device_record_load(manager->runtime_dir, address);
    if (!recorded && !device_record_save(manager->runtime_dir, address, device->driver, error))
        return FALSE;
    rebind_queue((Rebind){
        .manager = manager,
        .host = manager->host,
        .address = g_strdup(address),
        .driver = g_strdup(driver),
        .recorded = !recorded,
        .done = done,
        .data = data,
    });
    return TRUE;
}

gboolean device_restore(Manager *manager, const char *address, DeviceRebindDone done, void *data,
                        GError **error)
{
    if (!host_devices_find(manager->devices, address, error) ||
        !check_free(manager, address, "", error))
        return FALSE;
    char *driver = device_record_load(manager->runtime_dir, address);
    rebind_queue((Rebind){
        .manager = manager,
        .host = manager->host,
        .address = g_strdup(address),
        .driver = driver ? driver : g_strdup(""),
        .restore = true,
        .done = done,
        .data = data,
    });
    return TRUE;
}
