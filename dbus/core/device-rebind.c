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
    sd_bus_message *call;
    char *address;
    char *driver;
    bool restore;
    bool recorded; /* this call wrote down the driver it had */
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
    manager_forget_devices(manager);
    bool done = rebind->result >= 0;
    if (rebind->restore ? done : rebind->recorded && !done)
        state_remove_device(manager, rebind->address);
    if (done) {
        journal_write(LOG_INFO, MESSAGE_DEVICE_BOUND, &(JournalAbout){.device = rebind->address},
                      "Bound device %s to %s.", rebind->address,
                      *rebind->driver ? rebind->driver : "the driver that the kernel chose");
        (void)sd_bus_reply_method_return(rebind->call, "");
    } else {
        g_autoptr(GError) error = NULL;
        set_error(rebind, &error);
        bus_error_reply(rebind->call, error);
    }
    sd_bus_message_unref(rebind->call);
    g_free(rebind->address);
    g_free(rebind->driver);
    g_free(rebind);
}

static int rebind_queue(Manager *manager, const char *address, const char *driver, bool restore,
                        bool recorded, sd_bus_message *call)
{
    Rebind *rebind = g_new0(Rebind, 1);
    rebind->manager = manager;
    rebind->host = manager->host;
    rebind->call = sd_bus_message_ref(call);
    rebind->address = g_strdup(address);
    rebind->driver = g_strdup(driver);
    rebind->restore = restore;
    rebind->recorded = recorded;
    g_hash_table_add(manager->binding, g_strdup(address));
    worker_queue(manager->binder, rebind_run, rebind_done, rebind);
    return 1;
}

/* For whom a device may be bound although a machine holds it: who admitted the machine prepares it,
 * and the admission has looked at the whole group. */
static bool is_prepared(Manager *manager, const char *address, const char *driver)
{
    const Machine *holder = registry_device_holder(manager->registry, address);
    return holder && holder->state == MACHINE_ADMITTED && g_str_has_prefix(driver, "vfio");
}

static gboolean check_free(Manager *manager, const char *address, const char *driver,
                           GError **error)
{
    const Machine *holder = registry_device_holder(manager->registry, address);
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
    if (!manager_devices(manager, &devices, &n, error))
        return FALSE;
    if (registry_device_assignable(manager->registry, device, devices, n, &reason))
        return TRUE;
    g_set_error_literal(error, IOMMUD_ERROR, IOMMUD_ERROR_GROUP_SHARED, reason);
    return FALSE;
}

int rebind_to(Manager *manager, const char *address, const char *driver, sd_bus_message *call,
              sd_bus_error *ret_error)
{
    g_autoptr(GError) error = NULL;
    const HostDevice *device = manager_get_device(manager, address, &error);
    if (!device || !check_driver(driver, &error) || !check_free(manager, address, driver, &error) ||
        !check_assignable(manager, device, driver, &error))
        return bus_error_set(ret_error, error);
    /* The first Bind() counts: from one vfio driver to the next the host's own is remembered. */
    g_autofree char *recorded = state_load_device(manager, address);
    if (!recorded && !state_save_device(manager, address, device->driver, &error))
        return bus_error_set(ret_error, error);
    return rebind_queue(manager, address, driver, false, !recorded, call);
}

int rebind_restore(Manager *manager, const char *address, sd_bus_message *call,
                   sd_bus_error *ret_error)
{
    g_autoptr(GError) error = NULL;
    if (!manager_get_device(manager, address, &error) || !check_free(manager, address, "", &error))
        return bus_error_set(ret_error, error);
    g_autofree char *driver = state_load_device(manager, address);
    return rebind_queue(manager, address, driver ? driver : "", true, false, call);
}
