/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/core/host-devices.h"

#include "dbus/base/errors.h"
#include "policy/device.h"

#include <string.h>

struct HostDevices {
    sd_event *event;
    Host *host;
    HostDevice *list;
    size_t n;
    uint64_t turn;
};

HostDevices *host_devices_new(sd_event *event, Host *host)
{
    HostDevices *devices = g_new0(HostDevices, 1);
    devices->event = sd_event_ref(event);
    devices->host = host;
    return devices;
}

void host_devices_free(HostDevices *devices)
{
    if (!devices)
        return;
    sd_event_unref(devices->event);
    g_free(devices->list);
    g_free(devices);
}

void host_devices_forget(HostDevices *devices)
{
    g_clear_pointer(&devices->list, g_free);
    devices->n = 0;
}

gboolean host_devices_list(HostDevices *devices, const HostDevice **ret_list, size_t *ret_n,
                           GError **error)
{
    uint64_t turn = 0;
    (void)sd_event_get_iteration(devices->event, &turn);
    if (devices->turn != turn)
        host_devices_forget(devices);
    if (!devices->list) {
        int r = devices->host->ops->devices(devices->host, &devices->list, &devices->n);
        if (r < 0) {
            error_set_kernel(error, r, "The PCI devices in /sys/bus/pci could not be listed");
            return FALSE;
        }
        devices->turn = turn;
    }
    *ret_list = devices->list;
    *ret_n = devices->n;
    return TRUE;
}

/* How many of the list come before the first whose address begins with as much of text, or would
 * come after it. */
static size_t lower_bound(const HostDevices *devices, const char *text, size_t length)
{
    size_t low = 0;
    size_t high = devices->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strncmp(devices->list[middle].address, text, length) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const HostDevice *host_devices_find(HostDevices *devices, const char *address, GError **error)
{
    const HostDevice *list;
    size_t n;
    g_autofree char *canonical = device_address_parse(address, error);
    if (!canonical || !host_devices_list(devices, &list, &n, error))
        return NULL;
    size_t i = lower_bound(devices, canonical, strlen(canonical) + 1);
    if (i < n && g_str_equal(list[i].address, canonical))
        return &list[i];
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_NO_SUCH_DEVICE,
                "This host has no PCI device %s: 'iommuctl devices' lists them.", canonical);
    return NULL;
}

gboolean host_devices_bus(HostDevices *devices, const char *address, const HostDevice **ret_list,
                          size_t *ret_n, GError **error)
{
    const HostDevice *list;
    size_t n;
    if (!host_devices_list(devices, &list, &n, error))
        return FALSE;
    size_t length = (size_t)(strrchr(address, ':') - address) + 1;
    size_t first = lower_bound(devices, address, length);
    size_t end = first;
    while (end < n && strncmp(list[end].address, address, length) == 0)
        end++;
    *ret_list = list + first;
    *ret_n = end - first;
    return TRUE;
}
