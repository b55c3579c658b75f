/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * /dev/iommu: one function per ioctl that iommud sends. They are the running kernel's members of
 * HostOps, and described there (kernel/host/host.h).
 */
#pragma once

#include "kernel/host/host.h"

#define IOMMUFD_PATH "/dev/iommu"

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
