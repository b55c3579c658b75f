/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policy/admission.h"

#include <string.h>

/* Who holds the device, apart from the machine that is to be replaced. */
static const MachinePolicy *holder_of(const AdmissionContext *context, const char *address)
{
    const MachinePolicy *holder = g_hash_table_lookup(context->holders, address);
    return holder != context->replaced ? holder : NULL;
}

/* ---- one device ---- */

static gboolean check_permitted(const TenantPolicy *tenant, const HostDevice *device,
                                GError **error)
{
    if (device->bridge) {
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_DEVICE_DENIED,
                    "Device %s is a PCI bridge, and a bridge is never assigned: name the devices "
                    "behind it instead.",
                    device->address);
        return FALSE;
    }
    if (tenant &&
        !tenant_policy_allows_device(tenant, device->address, device->vendor, device->product)) {
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_DEVICE_DENIED,
                    "Device %s (%04x:%04x) is not one that tenant %s may have: add a pattern that "
                    "matches it to Devices= of the tenant, or choose another device.",
                    device->address, device->vendor, device->product, tenant->config->id);
        return FALSE;
    }
    return TRUE;
}

gboolean admission_check_holder(const AdmissionContext *context, const char *address,
                                GError **error)
{
    const MachinePolicy *holder = holder_of(context, address);
    if (!holder)
        return TRUE;
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_DEVICE_BUSY,
                "Device %s is held by machine %s (%s) of tenant %s: stop that machine, or remove "
                "the device from it.",
                address, holder->name, holder->uuid, holder->tenant->config->id);
    return FALSE;
}

static gboolean check_free(const AdmissionContext *context, const HostDevice *device,
                           GError **error)
{
    if (device->group < 0) {
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_NOT_SUPPORTED,
                    "Device %s has no IOMMU group: switch on the IOMMU in the firmware and on the "
                    "kernel's command line (Intel: intel_iommu=on).",
                    device->address);
        return FALSE;
    }
    return admission_check_holder(context, device->address, error);
}

/* ---- its group ---- */

static gboolean check_held_member(const AdmissionContext *context, const HostDevice *device,
                                  const HostDevice *member, const MachinePolicy *holder,
                                  GError **error)
{
    const TenantConfig *owner = holder->tenant->config;
    bool siblings = holder->tenant == context->tenant;
    if (holder == context->machine ||
        (siblings && owner->isolation == ISOLATION_TENANT && holder->iommufd && context->iommufd))
        return TRUE;
    const char *advice =
        siblings ? "machines share a group only on a shared IOMMUFD: give both devices to one "
                   "machine, or use Isolation=tenant and IOMMUFD for both machines"
                 : "a group is never split between tenants: stop that machine, or choose another "
                   "device";
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_GROUP_SHARED,
                "Device %s is in IOMMU group %d with %s, which machine %s (%s) of tenant %s holds, "
                "and %s.",
                device->address, device->group, member->address, holder->name, holder->uuid,
                owner->id, advice);
    return FALSE;
}

/* Drivers that do no DMA of their own, so that the kernel lets the rest of the group be assigned
 * (vfio_dev_viable() and pci-stub's driver_managed_dma). */
static bool driver_is_harmless(const char *driver)
{
    return !*driver || g_str_has_prefix(driver, "vfio") || g_str_equal(driver, "pci-stub");
}

/* member: of device's group, no bridge, not requested. */
static gboolean check_member(const AdmissionContext *context, const HostDevice *device,
                             const HostDevice *member, GError **error)
{
    const MachinePolicy *holder = holder_of(context, member->address);
    if (holder)
        return check_held_member(context, device, member, holder, error);
    if (driver_is_harmless(member->driver))
        return TRUE;
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_GROUP_SHARED,
                "Device %s is in IOMMU group %d with %s, which the host's driver %s uses: assign "
                "%s to the same machine too, or unbind it from %s.",
                device->address, device->group, member->address, member->driver, member->address,
                member->driver);
    return FALSE;
}

/* addresses: sorted. */
static bool requested(const char *const *addresses, size_t n, const char *address,
                      size_t *ret_index)
{
    size_t low = 0;
    size_t high = n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(address, addresses[middle]);
        if (order == 0) {
            *ret_index = middle;
            return true;
        }
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return false;
}

/* groups: number -> a requested HostDevice in it. */
static gboolean check_groups(const AdmissionContext *context, const char *const *addresses,
                             size_t n, GHashTable *groups, GError **error)
{
    for (size_t i = 0; i < context->n_host_devices; i++) {
        const HostDevice *member = &context->host_devices[i];
        if (member->bridge)
            continue;
        const HostDevice *device = g_hash_table_lookup(groups, GINT_TO_POINTER(member->group));
        size_t index;
        if (device && !requested(addresses, n, member->address, &index) &&
            !check_member(context, device, member, error))
            return FALSE;
    }
    return TRUE;
}

/* What the host has for each of addresses, in their order. */
static const HostDevice **find_devices(const AdmissionContext *context,
                                       const char *const *addresses, size_t n, GError **error)
{
    g_autofree const HostDevice **devices = g_new0(const HostDevice *, n);
    for (size_t i = 0; i < context->n_host_devices; i++) {
        size_t index;
        if (requested(addresses, n, context->host_devices[i].address, &index))
            devices[index] = &context->host_devices[i];
    }
    for (size_t i = 0; i < n; i++) {
        if (!devices[i]) {
            g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_NO_SUCH_DEVICE,
                        "This host has no PCI device %s: see 'iommuctl devices' for what it has.",
                        addresses[i]);
            return NULL;
        }
    }
    return g_steal_pointer(&devices);
}

gboolean admission_check(const AdmissionContext *context, const char *const *addresses,
                         GError **error)
{
    size_t n = addresses ? g_strv_length((char **)addresses) : 0;
    if (n == 0)
        return TRUE;
    g_autofree const HostDevice **devices = find_devices(context, addresses, n, error);
    if (!devices)
        return FALSE;
    for (size_t i = 0; i < n; i++) {
        if (!check_permitted(context->tenant, devices[i], error))
            return FALSE;
    }
    g_autoptr(GHashTable) groups = g_hash_table_new(g_direct_hash, g_direct_equal);
    for (size_t i = 0; i < n; i++) {
        if (!check_free(context, devices[i], error))
            return FALSE;
        g_hash_table_insert(groups, GINT_TO_POINTER(devices[i]->group), (gpointer)devices[i]);
    }
    return check_groups(context, addresses, n, groups, error);
}

gboolean admission_check_alone(const AdmissionContext *context, const HostDevice *device,
                               GError **error)
{
    if (!check_permitted(context->tenant, device, error) || !check_free(context, device, error))
        return FALSE;
    for (size_t i = 0; i < context->n_host_devices; i++) {
        const HostDevice *member = &context->host_devices[i];
        if (member->group == device->group && !member->bridge &&
            !g_str_equal(member->address, device->address) &&
            !check_member(context, device, member, error))
            return FALSE;
    }
    return TRUE;
}
