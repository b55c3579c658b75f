/* SPDX-License-Identifier: GPL-2.0-only OR LGPL-2.1-or-later */
/*
 * The ioctls that the guard knows: one line each, out of which the BPF programs make the guard's
 * rules (guard.bpf.h), and user space the names (kernel/ledger/strings.c). Numbers and structures
 * are those of kernel/uapi/.
 *
 *   IOCTL(name, .member = value ...)   members of struct ioctl_rule
 *
 * A structure that is named with END() and AT() begins with its own size, so that no id is at 0.
 */
#pragma once

#include <linux/types.h>

#include "kernel/uapi/iommufd.h"
#include "kernel/uapi/vfio.h"

enum ioctl_flags {
    IOCTL_MAKES = 1 << 0,       /* it makes an object */
    IOCTL_NOT_SHARED = 1 << 1,  /* it is done to the whole IOMMUFD: not where machines share it */
    IOCTL_RECHECKED = 1 << 2,   /* it comes often: where the re-check can refuse, that is enough */
    IOCTL_MAPS_FILE = 1 << 3,   /* the memory that it maps is a file's */
    IOCTL_NAMES_FAULT = 1 << 4, /* it may name a fault queue as well */
};

/* What an ioctl of a file of VFIO's is checked for. */
enum ioctl_device {
    IOCTL_DEVICE_NONE = 0,
    IOCTL_DEVICE_BIND,
    IOCTL_DEVICE_ATTACH,
    IOCTL_DEVICE_DETACH,
    IOCTL_DEVICE_RESET,
    IOCTL_GROUP_CONTAINER, /* it joins a group to a container, which may be an IOMMUFD */
    IOCTL_GROUP_DEVICE,
};

/* What the guard has to know of an ioctl. Positions are in bytes, from the argument's begin. */
struct ioctl_rule {
    __u8 bytes;  /* of the argument, that are read; 0: nothing is */
    __u8 ids[2]; /* where it names objects; 0: it does not */
    __u8 start;  /* where it says what it maps: an address, or an offset in a file; */
    __u8 length; /* and where how much; 0: it maps nothing */
    __u8 flags;  /* enum ioctl_flags */
    __u8 device; /* enum ioctl_device */
    __u8 of_iommufd; /* an IOMMUFD has it; without it only files of VFIO's do */
};

#define IOCTL_AT(type, member) __builtin_offsetof(struct type, member)
/* Up to that member. */
#define IOCTL_END(type, member) (IOCTL_AT(type, member) + sizeof(((struct type *)0)->member))
#define IOCTL_ID(type, member) .bytes = IOCTL_END(type, member), .ids = {IOCTL_AT(type, member)}
#define IOCTL_IDS(type, first, second)                                                             \
    .bytes = IOCTL_END(type, second), .ids = {IOCTL_AT(type, first), IOCTL_AT(type, second)}
#define IOCTL_MAP(type, start_, length_)                                                           \
    .bytes = IOCTL_END(type, length_), .start = IOCTL_AT(type, start_),                            \
    .length = IOCTL_AT(type, length_)

/* clang-format off */
#define IOMMUFD_IOCTLS(IOCTL)                                                                      \
    /* VFIO's old interface, of which an IOMMUFD serves a part, with one address space. */         \
    IOCTL(VFIO_GET_API_VERSION)                                                                    \
    IOCTL(VFIO_CHECK_EXTENSION)                                                                    \
    IOCTL(VFIO_SET_IOMMU, .flags = IOCTL_NOT_SHARED)                                               \
    IOCTL(VFIO_IOMMU_GET_INFO, .flags = IOCTL_NOT_SHARED)                                          \
    /* Of an IOMMUFD VFIO_IOMMU_MAP_DMA, which has the same number. */                             \
    IOCTL(VFIO_DEVICE_PCI_HOT_RESET, IOCTL_MAP(vfio_iommu_type1_dma_map, vaddr, size),             \
          .flags = IOCTL_NOT_SHARED, .device = IOCTL_DEVICE_RESET)                                 \
    IOCTL(VFIO_IOMMU_UNMAP_DMA, .flags = IOCTL_NOT_SHARED)                                         \
    /* Its own. */                                                                                 \
    IOCTL(IOMMU_DESTROY, IOCTL_ID(iommu_destroy, id))                                              \
    IOCTL(IOMMU_IOAS_ALLOC, .flags = IOCTL_MAKES)                                                  \
    IOCTL(IOMMU_IOAS_ALLOW_IOVAS, IOCTL_ID(iommu_ioas_allow_iovas, ioas_id))                       \
    IOCTL(IOMMU_IOAS_COPY, IOCTL_IDS(iommu_ioas_copy, dst_ioas_id, src_ioas_id),                   \
          .flags = IOCTL_RECHECKED)                                                                \
    IOCTL(IOMMU_IOAS_IOVA_RANGES, IOCTL_ID(iommu_ioas_iova_ranges, ioas_id))                       \
    IOCTL(IOMMU_IOAS_MAP, IOCTL_MAP(iommu_ioas_map, user_va, length),                              \
          .ids = {IOCTL_AT(iommu_ioas_map, ioas_id)}, .flags = IOCTL_RECHECKED)                    \
    IOCTL(IOMMU_IOAS_UNMAP, IOCTL_ID(iommu_ioas_unmap, ioas_id), .flags = IOCTL_RECHECKED)         \
    IOCTL(IOMMU_OPTION, IOCTL_ID(iommu_option, object_id))                                         \
    IOCTL(IOMMU_VFIO_IOAS, .bytes = IOCTL_END(iommu_vfio_ioas, op))                                \
    IOCTL(IOMMU_HWPT_ALLOC, IOCTL_IDS(iommu_hwpt_alloc, dev_id, pt_id),                            \
          .flags = IOCTL_MAKES | IOCTL_NAMES_FAULT)                                                \
    IOCTL(IOMMU_GET_HW_INFO, IOCTL_ID(iommu_hw_info, dev_id))                                      \
    IOCTL(IOMMU_HWPT_SET_DIRTY_TRACKING, IOCTL_ID(iommu_hwpt_set_dirty_tracking, hwpt_id))         \
    IOCTL(IOMMU_HWPT_GET_DIRTY_BITMAP, IOCTL_ID(iommu_hwpt_get_dirty_bitmap, hwpt_id))             \
    IOCTL(IOMMU_HWPT_INVALIDATE, IOCTL_ID(iommu_hwpt_invalidate, hwpt_id))                         \
    IOCTL(IOMMU_FAULT_QUEUE_ALLOC, .flags = IOCTL_MAKES)                                           \
    IOCTL(IOMMU_IOAS_MAP_FILE, IOCTL_MAP(iommu_ioas_map_file, start, length),                      \
          .ids = {IOCTL_AT(iommu_ioas_map_file, ioas_id)},                                         \
          .flags = IOCTL_RECHECKED | IOCTL_MAPS_FILE)                                              \
    IOCTL(IOMMU_VIOMMU_ALLOC, IOCTL_IDS(iommu_viommu_alloc, dev_id, hwpt_id),                      \
          .flags = IOCTL_MAKES)                                                                    \
    IOCTL(IOMMU_VDEVICE_ALLOC, IOCTL_IDS(iommu_vdevice_alloc, viommu_id, dev_id),                  \
          .flags = IOCTL_MAKES)                                                                    \
    IOCTL(IOMMU_IOAS_CHANGE_PROCESS, .flags = IOCTL_NOT_SHARED)                                    \
    IOCTL(IOMMU_VEVENTQ_ALLOC, IOCTL_ID(iommu_veventq_alloc, viommu_id), .flags = IOCTL_MAKES)     \
    IOCTL(IOMMU_HW_QUEUE_ALLOC, IOCTL_ID(iommu_hw_queue_alloc, viommu_id), .flags = IOCTL_MAKES)

/* Of the files of VFIO's devices and groups. */
#define VFIO_FILE_IOCTLS(IOCTL)                                                                    \
    IOCTL(VFIO_GROUP_SET_CONTAINER, .bytes = sizeof(__u32), .device = IOCTL_GROUP_CONTAINER)       \
    IOCTL(VFIO_GROUP_GET_DEVICE_FD, .device = IOCTL_GROUP_DEVICE)                                  \
    IOCTL(VFIO_DEVICE_BIND_IOMMUFD, .bytes = IOCTL_END(vfio_device_bind_iommufd, iommufd),         \
          .flags = IOCTL_MAKES, .device = IOCTL_DEVICE_BIND)                                       \
    IOCTL(VFIO_DEVICE_ATTACH_IOMMUFD_PT, IOCTL_ID(vfio_device_attach_iommufd_pt, pt_id),           \
          .device = IOCTL_DEVICE_ATTACH)                                                           \
    IOCTL(VFIO_DEVICE_DETACH_IOMMUFD_PT, .device = IOCTL_DEVICE_DETACH)
/* clang-format on */
