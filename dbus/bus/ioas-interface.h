/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The methods of org.iommud1.Tenant that stand for ioctls of /dev/iommu, for clients that can't
 * issue any: handlers for tenant-interface.c's vtable, whose userdata is the Service.
 *
 * They work on IOASes that AllocateIoas made, and on no others: no client can name an object of a
 * machine. What is mapped is charged to the tenant.
 */
#pragma once

#include "dbus/base/sd-cleanup.h"

int bus_allocate_ioas(sd_bus_message *message, void *userdata, sd_bus_error *ret_error);
int bus_iova_ranges(sd_bus_message *message, void *userdata, sd_bus_error *ret_error);
int bus_allow_iovas(sd_bus_message *message, void *userdata, sd_bus_error *ret_error);
int bus_map_file(sd_bus_message *message, void *userdata, sd_bus_error *ret_error);
int bus_unmap(sd_bus_message *message, void *userdata, sd_bus_error *ret_error);
int bus_copy(sd_bus_message *message, void *userdata, sd_bus_error *ret_error);
int bus_destroy(sd_bus_message *message, void *userdata, sd_bus_error *ret_error);
