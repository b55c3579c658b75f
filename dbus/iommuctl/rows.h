/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the service lists, one structure per row: tenants, machines, devices, objects, domains.
 *
 * Each function asks the service and returns 0 with a new array (freed with g_ptr_array_unref()),
 * or a negative errno with the service's answer in error.
 */
#pragma once

#include "dbus/client/client.h"

#include <stdbool.h>

typedef struct {
    char *id;
    uint64_t limit; /* UINT64_MAX: none */
    uint64_t reserved;
    uint64_t pinned;
    uint64_t orphaned;
} TenantRow;

typedef struct {
    char *uuid;
    char *name;
    char *tenant;
    char *state;
    uint64_t reserved;
    uint64_t pinned;
    uint64_t orphaned;
    uint32_t leader; /* 0: not known yet */
} MachineRow;

typedef struct {
    char *address;
    int32_t group; /* -1: none */
    char *driver;
    char *tenant;
    char *machine; /* UUID or "" */
    bool assignable;
    char *reason;
    char *description;
} DeviceRow;

typedef struct {
    uint32_t id;
    char *type;
    char *machine; /* UUID or "" */
    uint32_t pid;
    uint64_t pinned;
} ObjectRow;

int rows_tenants(sd_bus *bus, sd_bus_error *error, GPtrArray **ret_rows);
int rows_machines(sd_bus *bus, sd_bus_error *error, GPtrArray **ret_rows);
int rows_devices(sd_bus *bus, sd_bus_error *error, GPtrArray **ret_rows);
/* What is in the IOMMUFD of the tenant at an object path. */
int rows_objects(sd_bus *bus, const char *tenant_path, sd_bus_error *error, GPtrArray **ret_rows);

/* The machine with this UUID, in any case, or else with this name. -ENXIO: none; -ENOTUNIQ: more
 * than one has the name. Not owned. */
int rows_find_machine(GPtrArray *machines, const char *text, const MachineRow **ret_machine);
