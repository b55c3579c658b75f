/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The ioctls of VFIO's character devices (/dev/vfio/devices/vfioN, Linux 6.6) that bind a device
 * to an IOMMUFD, and those of its older interface (containers and groups) that an IOMMUFD answers
 * to or that lead into one. Names are the kernel's; see kernel/uapi/iommufd.h for why they are
 * declared here. argsz tells the kernel how much of a structure the caller has: the token of
 * VFIO_DEVICE_BIND_IOMMUFD (6.17) and the PASID of the other two (6.15) are left out.
 */
#pragma once

#include <linux/ioctl.h>
#include <linux/types.h>

#define VFIO_TYPE (';')
#define VFIO_BASE 100

#define VFIO_GET_API_VERSION _IO(VFIO_TYPE, VFIO_BASE + 0)
#define VFIO_CHECK_EXTENSION _IO(VFIO_TYPE, VFIO_BASE + 1)
#define VFIO_SET_IOMMU _IO(VFIO_TYPE, VFIO_BASE + 2)
#define VFIO_GROUP_SET_CONTAINER _IO(VFIO_TYPE, VFIO_BASE + 4)
#define VFIO_GROUP_GET_DEVICE_FD _IO(VFIO_TYPE, VFIO_BASE + 6)
#define VFIO_IOMMU_GET_INFO _IO(VFIO_TYPE, VFIO_BASE + 12)
#define VFIO_IOMMU_UNMAP_DMA _IO(VFIO_TYPE, VFIO_BASE + 14)
/* One number: of a container the first, of a device the second. */
#define VFIO_IOMMU_MAP_DMA _IO(VFIO_TYPE, VFIO_BASE + 13)
#define VFIO_DEVICE_PCI_HOT_RESET _IO(VFIO_TYPE, VFIO_BASE + 13)

#define VFIO_DEVICE_BIND_IOMMUFD _IO(VFIO_TYPE, VFIO_BASE + 18)
#define VFIO_DEVICE_ATTACH_IOMMUFD_PT _IO(VFIO_TYPE, VFIO_BASE + 19)
#define VFIO_DEVICE_DETACH_IOMMUFD_PT _IO(VFIO_TYPE, VFIO_BASE + 20)

/* The device stays bound until its descriptor is closed. */
struct vfio_device_bind_iommufd {
    __u32 argsz;
    __u32 flags;
    __s32 iommufd;
    __u32 out_devid;
};

/* pt_id: an IOAS or HWPT on entry, the HWPT (or an emulated device's IOAS) on return. */
struct vfio_device_attach_iommufd_pt {
    __u32 argsz;
    __u32 flags;
    __u32 pt_id;
};

struct vfio_iommu_type1_dma_map {
    __u32 argsz;
    __u32 flags;
    __u64 vaddr;
    __u64 iova;
    __u64 size;
};
