/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the numbers of events and objects are called. */
#include "kernel/ledger/ledger.h"

#include <glib.h>

/* Numbers of <linux/iommufd.h> and <linux/vfio.h>: the low byte of what is of type ';'. */
static const char *const ioctls[] = {
    [0x64] = "VFIO_GET_API_VERSION",
    [0x65] = "VFIO_CHECK_EXTENSION",
    [0x66] = "VFIO_SET_IOMMU",
    [0x68] = "VFIO_GROUP_SET_CONTAINER",
    [0x6a] = "VFIO_GROUP_GET_DEVICE_FD",
    [0x70] = "VFIO_IOMMU_GET_INFO",
    [0x71] = "VFIO_DEVICE_PCI_HOT_RESET",
    [0x72] = "VFIO_IOMMU_UNMAP_DMA",
    [0x76] = "VFIO_DEVICE_BIND_IOMMUFD",
    [0x77] = "VFIO_DEVICE_ATTACH_IOMMUFD_PT",
    [0x78] = "VFIO_DEVICE_DETACH_IOMMUFD_PT",
    [0x80] = "IOMMU_DESTROY",
    [0x81] = "IOMMU_IOAS_ALLOC",
    [0x82] = "IOMMU_IOAS_ALLOW_IOVAS",
    [0x83] = "IOMMU_IOAS_COPY",
    [0x84] = "IOMMU_IOAS_IOVA_RANGES",
    [0x85] = "IOMMU_IOAS_MAP",
    [0x86] = "IOMMU_IOAS_UNMAP",
    [0x87] = "IOMMU_OPTION",
    [0x88] = "IOMMU_VFIO_IOAS",
    [0x89] = "IOMMU_HWPT_ALLOC",
    [0x8a] = "IOMMU_GET_HW_INFO",
    [0x8b] = "IOMMU_HWPT_SET_DIRTY_TRACKING",
    [0x8c] = "IOMMU_HWPT_GET_DIRTY_BITMAP",
    [0x8d] = "IOMMU_HWPT_INVALIDATE",
    [0x8e] = "IOMMU_FAULT_QUEUE_ALLOC",
    [0x8f] = "IOMMU_IOAS_MAP_FILE",
    [0x90] = "IOMMU_VIOMMU_ALLOC",
    [0x91] = "IOMMU_VDEVICE_ALLOC",
    [0x92] = "IOMMU_IOAS_CHANGE_PROCESS",
    [0x93] = "IOMMU_VEVENTQ_ALLOC",
    [0x94] = "IOMMU_HW_QUEUE_ALLOC",
};

static const char *const types[] = {
    [LEDGER_OBJECT_TYPE_OTHER] = "other",       [LEDGER_OBJECT_TYPE_DEVICE] = "device",
    [LEDGER_OBJECT_TYPE_HWPT_PAGING] = "hwpt",  [LEDGER_OBJECT_TYPE_HWPT_NESTED] = "hwpt-nested",
    [LEDGER_OBJECT_TYPE_IOAS] = "ioas",         [LEDGER_OBJECT_TYPE_ACCESS] = "access",
    [LEDGER_OBJECT_TYPE_FAULT] = "fault",       [LEDGER_OBJECT_TYPE_VIOMMU] = "viommu",
    [LEDGER_OBJECT_TYPE_VDEVICE] = "vdevice",   [LEDGER_OBJECT_TYPE_VEVENTQ] = "veventq",
    [LEDGER_OBJECT_TYPE_HW_QUEUE] = "hw-queue",
};

const char *ledger_ioctl_name(uint32_t command)
{
    uint32_t number = command & 0xff;

    return number < G_N_ELEMENTS(ioctls) && ioctls[number] ? ioctls[number] : "an unknown ioctl";
}

const char *ledger_object_type_name(LedgerObjectType type)
{
    return (unsigned)type < G_N_ELEMENTS(types) ? types[type] : types[LEDGER_OBJECT_TYPE_OTHER];
}
