/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * /dev/iommu: one function per ioctl that iommud sends, and the enumeration of objects that the
 * kernel does not offer. They are the running kernel's members of HostOps, and described there
 * (kernel/host/host.h).
 */
#pragma once

#include "kernel/host/host.h"

#define IOMMUFD_PATH "/dev/iommu"

/* iommufd_objects() stops after this many unused ids behind the last used one, and after this
 * many objects. */
#define IOMMUFD_OBJECTS_GAP 4096
#define IOMMUFD_OBJECTS_MAX 65536

int iommufd_open(Host *host, HostAccounting mode, int *ret_fd);
int iommufd_check(Host *host, int fd);
/* Whether the running kernel has IOMMU_IOAS_MAP_FILE: 1, 0, or a negative errno. */
int iommufd_has_map_file(int fd);

int iommufd_ioas_alloc(Host *host, int fd, uint32_t *ret_id);
int iommufd_ioas_iova_ranges(Host *host, int fd, uint32_t ioas, HostIovaRange **ret_ranges,
                             size_t *ret_n);
int iommufd_ioas_allow_iovas(Host *host, int fd, uint32_t ioas, const HostIovaRange *ranges,
                             size_t n);
int iommufd_ioas_map_file(Host *host, int fd, uint32_t ioas, int memfd, uint64_t offset,
                          uint64_t length, unsigned access, uint64_t *iova);
int iommufd_ioas_copy(Host *host, int fd, uint32_t dst, uint32_t src, uint64_t src_iova,
                      uint64_t length, unsigned access, uint64_t *iova);
int iommufd_ioas_unmap(Host *host, int fd, uint32_t ioas, uint64_t iova, uint64_t length,
                       uint64_t *ret_unmapped);
int iommufd_object_destroy(Host *host, int fd, uint32_t id);

/*
 * The kernel gives an object the lowest free id from 1 on (xa_alloc()), and forgets nothing but
 * tells nothing. Each id is asked about with ioctls that change nothing:
 *
 *   IOMMU_OPTION HUGE_PAGES GET         0        an IOAS
 *   IOMMU_GET_HW_INFO                   0        a DEVICE
 *   IOMMU_HWPT_GET_DIRTY_BITMAP         EINVAL   a paging HWPT (the request is malformed)
 *   IOMMU_HWPT_INVALIDATE, no entries   not ENOENT: something else is there
 *
 * The last one looks up any type since Linux 6.13 and nested HWPTs only before, so that a fault
 * queue or an mdev's access is invisible on 6.12. Ids that are reserved for an object under
 * construction, or for ever for the vDEVICE of a device that went away, look unused everywhere.
 *
 * Used ids are dense but for what was destroyed below them. The search ends IOMMUFD_OBJECTS_GAP
 * unused ids behind the last used one: an object is missed only if that many of the ids just below
 * it were all used when it was made and are all free now. It costs one ioctl per unused id where
 * the last probe is general and four where not, 1 to 3 ms; an empty IOMMUFD answers at once to a
 * process with CAP_SYS_RESOURCE. Of more than IOMMUFD_OBJECTS_MAX objects the lowest are found;
 * once they are destroyed the next call finds the rest.
 *
 * Not a snapshot: others may allocate and destroy meanwhile. And while a probe looks at an object
 * (well under a microsecond) the owner's own IOMMU_DESTROY of it fails with EBUSY.
 */
int iommufd_objects(Host *host, int fd, HostObject **ret_objects, size_t *ret_n);
