/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/bus/objects.h"

#include "dbus/bus/device-interface.h"
#include "dbus/bus/machine-interface.h"
#include "dbus/bus/manager-interface.h"
#include "dbus/bus/simulation-interface.h"
#include "dbus/bus/tenant-interface.h"

int bus_register(Service *service)
{
    int (*const interfaces[])(Service *) = {
        bus_manager_register, bus_tenant_register,     bus_machine_register,
        bus_device_register,  bus_simulation_register,
    };
    int r = sd_bus_add_object_manager(service->manager->bus, NULL, BUS_PATH);
    for (size_t i = 0; r >= 0 && i < G_N_ELEMENTS(interfaces); i++)
        r = interfaces[i](service);
    return r;
}
