/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the service and the libvirt agent are called on the bus: for themselves, and for all who
 * call them. */
#pragma once

#define BUS_NAME "org.iommud1"
#define BUS_PATH "/org/iommud1"
#define BUS_PATH_TENANT BUS_PATH "/tenant"
#define BUS_PATH_MACHINE BUS_PATH "/machine"
#define BUS_PATH_DEVICE BUS_PATH "/device"
#define BUS_INTERFACE_MANAGER "org.iommud1.Manager"
#define BUS_INTERFACE_TENANT "org.iommud1.Tenant"
#define BUS_INTERFACE_MACHINE "org.iommud1.Machine"
#define BUS_INTERFACE_DEVICE "org.iommud1.Device"
#define BUS_INTERFACE_SIMULATION "org.iommud1.Simulation"
#define BUS_ERROR_PREFIX "org.iommud1.Error."

#define BUS_LIBVIRT_NAME "org.iommud1.Libvirt"
#define BUS_LIBVIRT_PATH "/org/iommud1/libvirt"
#define BUS_INTERFACE_LIBVIRT "org.iommud1.Libvirt"

/* The environment's choice of a bus, where a program is given none. */
#define BUS_ADDRESS_VARIABLE "IOMMUD_BUS_ADDRESS"
