/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which devices a machine may have: the rules behind registry_admit(), registry_add_device() and
 * registry_device_assignable(). Nothing here changes anything.
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

#include "policy/registry.h"

/* Who asks. */
typedef struct {
    Registry *registry;
    const Tenant *tenant;   /* NULL: any, its rules are not asked */
    const Machine *machine; /* that is there and gets more, NULL for a new one */
    bool iommufd;           /* as in Machine */
    const HostDevice *host_devices;
    size_t n_host_devices;
} Admission;

/* Canonical addresses (owned char *), sorted. devices may be NULL. INVALID_ARGUMENT: not an
 * address, or one named twice. */
GPtrArray *admission_parse_devices(const char *const *devices, GError **error);

/* Whether no machine holds the device. DEVICE_BUSY. */
gboolean admission_check_holder(Registry *registry, const char *address, GError **error);

/* Whether all of addresses (as above) may be had, together. */
gboolean admission_check(const Admission *admission, GPtrArray *addresses, GError **error);
