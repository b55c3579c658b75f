/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policy/admission.h"

#include <string.h>

static int address_compare(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

GPtrArray *admission_parse_devices(const char *const *devices, GError **error)
{
    g_autoptr(GPtrArray) addresses = g_ptr_array_new_with_free_func(g_free);
    for (; devices && *devices; devices++) {
        char *address = device_address_parse(*devices, error);
        if (!address)
            return NULL;
        g_ptr_array_add(addresses, address);
    }
    g_ptr_array_sort(addresses, address_compare);
    for (guint i = 1; i < addresses->len; i++) {
        if (g_str_equal(addresses->pdata[i - 1], addresses->pdata[i])) {
            g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                        "Device %s is named twice: name each device once.",
                        (const char *)addresses->pdata[i]);
            return NULL;
        }
    }
    return g_steal_pointer(&addresses);
}

/* ---- one device ---- */

static gboolean check_permitted(const Tenant *tenant, const HostDevice *device, GError **error)
{
    if (device->bridge) {
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_DEVICE_DENIED,
                    "Device %s is a PCI bridge, and a bridge is never assigned: name the devices "
                    "behind it instead.",
                    device->address);
        return FALSE;
    }
    if (tenant && !tenant_allows_device(tenant, device->address, device->vendor, device->product)) {
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_DEVICE_DENIED,
                    "Device %s (%04x:%04x) is not one that tenant %s may have: add a pattern that "
                    "matches it to Devices= of the tenant, or choose another device.",
                    device->address, device->vendor, device->product, tenant->config->id);
        return FALSE;
    }
    return TRUE;
}

gboolean admission_check_holder(Registry *registry, const char *address, GError **error)
{
    const Machine *holder = registry_device_holder(registry, address);
    if (!holder)
        return TRUE;
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_DEVICE_BUSY,
                "Device %s is held by machine %s (%s) of tenant %s: stop that machine, or remove "
                "the device from it.",
                address, holder->name, holder->uuid, holder->tenant->config->id);
    return FALSE;
}

static gboolean check_free(Registry *registry, const HostDevice *device, GError **error)
{
    if (device->group < 0) {
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_NOT_SUPPORTED,
                    "Device %s has no IOMMU group: switch on the IOMMU in the firmware and on the "
                    "kernel's command line (Intel: intel_iommu=on).",
                    device->address);
        return FALSE;
    }
    return admission_check_holder(registry, device->address, error);
}

/* ---- its group ---- */

static gboolean check_held_member(const Admission *admission, const HostDevice *device,
                                  const HostDevice *member, const Machine *holder, GError **error)
{
    if (holder == admission->machine)
        return TRUE;
    const TenantConfig *owner = holder->tenant->config;
    if (holder->tenant != admission->tenant) {
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_GROUP_SHARED,
                    "Device %s is in IOMMU group %d with %s, which machine %s (%s) of tenant %s "
                    "holds, and a group is never split between tenants: stop that machine, or "
                    "choose another device.",
                    device->address, device->group, member->address, holder->name, holder->uuid,
                    owner->id);
        return FALSE;
    }
    if (owner->isolation == ISOLATION_TENANT && holder->iommufd && admission->iommufd)
        return TRUE;
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_GROUP_SHARED,
                "Device %s is in IOMMU group %d with %s, which machine %s (%s) of tenant %s holds, "
                "and machines share a group only on a shared IOMMUFD: give both devices to one "
                "machine, or use Isolation=tenant and IOMMUFD for both machines.",
                device->address, device->group, member->address, holder->name, holder->uuid,
                owner->id);
    return FALSE;
}

/* Drivers that do no DMA of their own, so that the kernel lets the rest of the group be assigned
 * (vfio_dev_viable() and pci-stub's driver_managed_dma). */
static bool driver_is_harmless(const char *driver)
{
    return !*driver || g_str_has_prefix(driver, "vfio") || g_str_equal(driver, "pci-stub");
}

/* member: of device's group, no bridge, not requested. */
static gboolean check_member(const Admission *admission, const HostDevice *device,
                             const HostDevice *member, GError **error)
{
    const Machine *holder = registry_device_holder(admission->registry, member->address);
    if (holder)
        return check_held_member(admission, device, member, holder, error);
    if (driver_is_harmless(member->driver))
        return TRUE;
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_GROUP_SHARED,
                "Device %s is in IOMMU group %d with %s, which the host's driver %s uses: assign "
                "%s to the same machine too, or unbind it from %s.",
                device->address, device->group, member->address, member->driver, member->address,
                member->driver);
    return FALSE;
}

static bool requested(GPtrArray *addresses, const char *address, guint *ret_index)
{
    guint low = 0;
    guint high = addresses->len;
    while (low < high) {
        guint middle = low + (high - low) / 2;
        int order = strcmp(address, addresses->pdata[middle]);
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
static gboolean check_groups(const Admission *admission, GPtrArray *addresses, GHashTable *groups,
                             GError **error)
{
    for (size_t i = 0; i < admission->n_host_devices; i++) {
        const HostDevice *member = &admission->host_devices[i];
        if (member->bridge)
            continue;
        const HostDevice *device = g_hash_table_lookup(groups, GINT_TO_POINTER(member->group));
        guint index;
        if (device && !requested(addresses, member->address, &index) &&
            !check_member(admission, device, member, error))
            return FALSE;
    }
    return TRUE;
}

/* What the host has for each of addresses, in their order. */
static const HostDevice **find_devices(const Admission *admission, GPtrArray *addresses,
                                       GError **error)
{
    g_autofree const HostDevice **devices = g_new0(const HostDevice *, addresses->len);
    for (size_t i = 0; i < admission->n_host_devices; i++) {
        guint index;
        if (requested(addresses, admission->host_devices[i].address, &index))
            devices[index] = &admission->host_devices[i];
    }
    for (guint i = 0; i < addresses->len; i++) {
        if (!devices[i]) {
            g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_NO_SUCH_DEVICE,
                        "This host has no PCI device %s: see 'iommuctl devices' for what it has.",
                        (const char *)addresses->pdata[i]);
            return NULL;
        }
    }
    return g_steal_pointer(&devices);
}

gboolean admission_check(const Admission *admission, GPtrArray *addresses, GError **error)
{
    if (addresses->len == 0)
        return TRUE;
    g_autofree const HostDevice **devices = find_devices(admission, addresses, error);
    if (!devices)
        return FALSE;
    for (guint i = 0; i < addresses->len; i++) {
        if (!check_permitted(admission->tenant, devices[i], error))
            return FALSE;
    }
    g_autoptr(GHashTable) groups = g_hash_table_new(g_direct_hash, g_direct_equal);
    for (guint i = 0; i < addresses->len; i++) {
        if (!check_free(admission->registry, devices[i], error))
            return FALSE;
        g_hash_table_insert(groups, GINT_TO_POINTER(devices[i]->group), (gpointer)devices[i]);
    }
    return check_groups(admission, addresses, groups, error);
}

bool registry_device_assignable(Registry *registry, const HostDevice *device,
                                const HostDevice *host_devices, size_t n_host_devices,
                                char **ret_reason)
{
    const Admission admission = {
        .registry = registry,
        .host_devices = host_devices,
        .n_host_devices = n_host_devices,
    };
    g_autoptr(GError) refusal = NULL;
    bool ok = check_permitted(NULL, device, &refusal) && check_free(registry, device, &refusal);
    for (size_t i = 0; ok && i < n_host_devices; i++) {
        const HostDevice *member = &host_devices[i];
        if (member->group == device->group && !member->bridge &&
            !g_str_equal(member->address, device->address))
            ok = check_member(&admission, device, member, &refusal);
    }
    *ret_reason = ok ? NULL : g_strdup(refusal->message);
    return ok;
}
