/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* org.iommud1.Simulation: QEMU's part, for tests and for authors of clients without an IOMMU. */
#include "dbus/base/errors.h"
#include "dbus/bus/options.h"
#include "dbus/bus/bus.h"
#include "dbus/core/tenant.h"
#include "kernel/simulated/host.h"

static void set_error(GError **error, int r, uint32_t pid)
{
    if (r == -ESRCH)
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT, "There is no process %u.",
                    pid);
    else if (r == -EBUSY)
        g_set_error_literal(error, IOMMUD_ERROR, IOMMUD_ERROR_DEVICE_BUSY,
                            "One of the devices is in use already.");
    else if (r == -ENODEV)
        g_set_error_literal(error, IOMMUD_ERROR, IOMMUD_ERROR_NO_SUCH_DEVICE,
                            "One of the devices is not there, or not bound to vfio-pci.");
    else if (r == -EINVAL)
        g_set_error_literal(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                            "One of the devices has no PCI address.");
    else
        error_set_kernel(error, r, "The simulated kernel refused what process %u did", pid);
}

static int play(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    Manager *manager = userdata;
    uint32_t pid;
    const char *id;
    g_auto(GStrv) devices = NULL;
    uint64_t bytes;
    g_autoptr(GError) error = NULL;
    int r = sd_bus_message_read(message, "us", &pid, &id);
    if (r >= 0)
        r = bus_read_strings(message, &devices);
    if (r >= 0)
        r = sd_bus_message_read(message, "t", &bytes);
    if (r < 0)
        return r;
    TenantLife *life = manager_get_tenant(manager, id, &error);
    if (!life)
        return bus_error_set(ret_error, error);
    if (!tenant_life_shares(life))
        return bus_error_invalid(ret_error, "Tenant %s has no shared IOMMUFD to play on.",
                                 life->id);
    if (!tenant_life_open(life, NULL, &error))
        return bus_error_set(ret_error, error);
    r = pid <= INT32_MAX
            ? simulated_host_play(manager->host, (pid_t)pid, life->tenant->iommufd,
                                  (const char *const *)devices, g_strv_length(devices), bytes)
            : -ESRCH;
    if (r < 0) {
        set_error(&error, r, pid);
        return bus_error_set(ret_error, error);
    }
    return sd_bus_reply_method_return(message, "");
}

static const sd_bus_vtable vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD_WITH_ARGS("Play", SD_BUS_ARGS("u", pid, "s", tenant, "as", devices, "t", bytes),
                            SD_BUS_NO_RESULT, play, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_VTABLE_END,
};

int bus_simulation_register(Manager *manager)
{
    if (!manager->simulated)
        return 0;
    return sd_bus_add_object_vtable(manager->bus, NULL, BUS_PATH, BUS_INTERFACE_SIMULATION, vtable,
                                    manager);
}
