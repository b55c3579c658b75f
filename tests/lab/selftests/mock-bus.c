// SPDX-License-Identifier: GPL-2.0-only
/*
 * What CONFIG_IOMMUFD_TEST puts into the kernel image, for a kernel that was built without it: the
 * mock IOMMU of iommufd's selftest is registered for a bus of its own. Compiled into the iommufd
 * module of the lab's selftests.
 *
 * All but one of the functions that it takes are exported. That one, which lets a device join an
 * IOMMU when it is added to a bus, is found by the kernel's own means of finding any function.
 */
#include <linux/device.h>
#include <linux/iommu.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/property.h>

#include "../iommu-priv.h"

int iommu_mock_device_add(struct device *dev, struct iommu_device *iommu);

static struct iommu_device *mock;

static void *find(const char *name)
{
    struct kprobe probe = {.symbol_name = name};
    void *found;

    if (register_kprobe(&probe))
        return NULL;
    found = probe.addr;
    unregister_kprobe(&probe);
    return found;
}

int iommu_device_register_bus(struct iommu_device *iommu, const struct iommu_ops *ops,
                              const struct bus_type *bus, struct notifier_block *nb)
{
    int rc;

    nb->notifier_call = find("iommu_bus_notifier");
    if (!nb->notifier_call)
        return -ENOENT;
    /* Its own devices name it by this node. No other device is ever offered to it. */
    iommu->fwnode = fwnode_create_software_node(NULL, NULL);
    if (IS_ERR(iommu->fwnode))
        return PTR_ERR(iommu->fwnode);
    rc = iommu_device_register(iommu, ops, NULL);
    if (rc) {
        fwnode_remove_software_node(iommu->fwnode);
        return rc;
    }
    rc = bus_register_notifier(bus, nb);
    if (rc) {
        iommu_device_unregister(iommu);
        fwnode_remove_software_node(iommu->fwnode);
        return rc;
    }
    mock = iommu;
    return 0;
}

void iommu_device_unregister_bus(struct iommu_device *iommu, const struct bus_type *bus,
                                 struct notifier_block *nb)
{
    bus_unregister_notifier(bus, nb);
    iommu_device_unregister(iommu);
    fwnode_remove_software_node(iommu->fwnode);
}

int iommu_mock_device_add(struct device *dev, struct iommu_device *iommu)
{
    int rc = iommu_fwspec_init(dev, iommu->fwnode);

    return rc ? rc : device_add(dev);
}

/* Linux 6.12 adds the device itself, as if the host had no other IOMMU. */
int mock_device_add(struct device *dev);
int mock_device_add(struct device *dev)
{
    return iommu_mock_device_add(dev, mock);
}

/*
 * Devices are admitted by PCI address, and a mock device has none. It gets the name of one that no
 * host has, so that it can be admitted like any other.
 */
__printf(2, 3) int mock_set_name(struct device *dev, const char *format, ...);
int mock_set_name(struct device *dev, const char *format, ...)
{
    va_list args;
    unsigned int id;

    va_start(args, format);
    id = va_arg(args, unsigned int);
    va_end(args);
    return dev_set_name(dev, "ffff:00:%02x.0", id);
}
