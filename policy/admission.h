/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which devices a machine may have: the rules behind registry_check_admission(),
 * registry_add_device() and registry_device_assignable(). Nothing here changes anything.
 *
 * The IOMMU group is the smallest unit that is safe to hand out. A device is refused with
 * GROUP_SHARED while a member of its group that is not a bridge
 *   - is held by a machine of another tenant; or
 *   - is held by another machine of the same tenant, unless both use the tenant's one shared
 *     IOMMUFD: the kernel lets a group have one owner, an IOMMUFD or a legacy VFIO container; or
 *   - is held by nobody, not requested along with the device, and bound to a driver of the host:
 *     any but vfio*, pci-stub and none.
 * The requested devices themselves may be bound to any driver: libvirt rebinds them.
 */
#pragma once

#include "policy/machine.h"

/* Who asks, and what is there. */
typedef struct {
    GHashTable *holders;          /* address -> MachinePolicy */
    const TenantPolicy *tenant;   /* NULL: any, its rules are not asked */
    const MachinePolicy *machine; /* that is there and gets more, NULL for a new one */
    const MachinePolicy
        *replaced; /* whose place the new one takes: what it holds is free. Or NULL */
    bool iommufd;  /* as in MachinePolicy */
    const HostDevice *host_devices;
    size_t n_host_devices;
} AdmissionContext;

/* Whether no machine holds the device. DEVICE_BUSY. */
gboolean admission_check_holder(const AdmissionContext *context, const char *address,
                                GError **error);

/* Whether all of addresses (as of device_addresses_parse()) may be had, together. */
gboolean admission_check(const AdmissionContext *context, const char *const *addresses,
                         GError **error);
/* Whether this one may be had, with no other. */
gboolean admission_check_alone(const AdmissionContext *context, const HostDevice *device,
                               GError **error);
