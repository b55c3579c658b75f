/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a simulated host is made of: memory, features, PCI devices and their drivers, as the file
 * described in kernel/simulated/host.h names them. Drivers are changed in memory only: a new
 * object of the same file has the file's again, but for devices that a process has bound.
 * Functions are called under sim_lock.
 */
#pragma once

#include "kernel/host/host.h"

#include <glib.h>

#define SIM_VFIO_DRIVER "vfio-pci"

/* Beside the HostFeatures. */
#define SIM_FEATURE_LEDGER (1u << 30)
#define SIM_FEATURE_GUARD (1u << 31)
#define SIM_HOST_FEATURES (~(SIM_FEATURE_LEDGER | SIM_FEATURE_GUARD))

typedef struct {
    HostDevice device; /* first, so that pci_device_compare() sorts these */
    char native[32];   /* the driver in the file, which the kernel chooses when nobody does */
} SimDevice;

typedef struct {
    uint64_t memory;     /* bytes */
    unsigned features;   /* HostFeatures, and the two above */
    GArray *devices;     /* SimDevice, by address */
    GHashTable *drivers; /* names of those that are loaded: the file's, and vfio-pci */
} SimHardware;

/* As simulated_host_new(). */
int sim_hardware_read(const char *path, SimHardware **ret_hardware, char **ret_error);
/* Accepts NULL. */
void sim_hardware_free(SimHardware *hardware);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SimHardware, sim_hardware_free)

/* -EINVAL: not a PCI address; -ENODEV. */
int sim_hardware_find(SimHardware *hardware, const char *address, SimDevice **ret_device);
/* Whether a living process has the device bound to an IOMMUFD. */
bool sim_device_bound(SimDevice *device);
/* Brings the device's driver up to date; find() does it. */
void sim_device_settle(SimHardware *hardware, SimDevice *device);

/* As HostOps.device_bind() and HostOps.device_restore(). */
int sim_hardware_bind(SimHardware *hardware, const char *address, const char *driver);
int sim_hardware_restore(SimHardware *hardware, const char *address, const char *driver);
