/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/host/iommufd.h"

#include "kernel/base/cleanup.h"
#include "kernel/host/memfd.h"
#include "kernel/uapi/iommufd.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* Ranges that one IOMMU_IOAS_IOVA_RANGES may answer; real IOASes have fewer than ten. */
#define IOVA_RANGES_MAX 65536
/* The character device major of the kernel's misc devices, of which /dev/iommu is one. */
#define MISC_MAJOR 10

static int iommufd_ioctl(int fd, unsigned long request, void *argument)
{
    int r;
    do {
        r = ioctl(fd, request, argument);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

static int iommufd_option(int fd, uint32_t option, uint32_t object, uint16_t op, uint64_t *value)
{
    struct iommu_option arg = {
        .size = sizeof(arg),
        .option_id = option,
        .op = op,
        .object_id = object,
        .val64 = *value,
    };
    int r = iommufd_ioctl(fd, IOMMU_OPTION, &arg);
    if (r == 0)
        *value = arg.val64;
    return r;
}

int iommufd_open(Host *host, HostAccounting mode, int *ret_fd)
{
    autoclose int fd = open(IOMMUFD_PATH, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    /* A new IOMMUFD accounts against the user; changing it is what needs CAP_SYS_RESOURCE. */
    if (mode != HOST_ACCOUNTING_USER) {
        uint64_t value = mode;
        int r = iommufd_option(fd, IOMMU_OPTION_RLIMIT_MODE, 0, IOMMU_OPTION_OP_SET, &value);
        if (r < 0)
            return r;
    }
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int iommufd_check(Host *host, int fd)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    /* Not every driver's ioctls are harmless: ask misc devices only. */
    if (!S_ISCHR(st.st_mode) || major(st.st_rdev) != MISC_MAJOR)
        return -ENOTTY;
    uint64_t mode = 0;
    int r = iommufd_option(fd, IOMMU_OPTION_RLIMIT_MODE, 0, IOMMU_OPTION_OP_GET, &mode);
    return r == -EPERM || r == -EACCES || r == 0 ? r : -ENOTTY;
}

int iommufd_has_map_file(int fd)
{
    /* Neither readable nor writeable: refused before anything is looked up. */
    struct iommu_ioas_map_file arg = {.size = sizeof(arg), .fd = -1};
    int r = iommufd_ioctl(fd, IOMMU_IOAS_MAP_FILE, &arg);
    if (r == -EINVAL)
        return 1;
    return r == -ENOTTY ? 0 : r;
}

int iommufd_ioas_alloc(Host *host, int fd, uint32_t *ret_id)
{
    struct iommu_ioas_alloc arg = {.size = sizeof(arg)};
    int r = iommufd_ioctl(fd, IOMMU_IOAS_ALLOC, &arg);
    if (r == 0)
        *ret_id = arg.out_ioas_id;
    return r;
}

int iommufd_ioas_iova_ranges(Host *host, int fd, uint32_t ioas, HostIovaRange **ret_ranges,
                             size_t *ret_n)
{
    G_STATIC_ASSERT(sizeof(HostIovaRange) == sizeof(struct iommu_iova_range));

    /* Another process may attach a device between two rounds and make more holes. */
    for (uint32_t room = 16; room <= IOVA_RANGES_MAX;) {
        g_autofree HostIovaRange *ranges = g_new(HostIovaRange, room);
        struct iommu_ioas_iova_ranges arg = {
            .size = sizeof(arg),
            .ioas_id = ioas,
            .num_iovas = room,
            .allowed_iovas = (uintptr_t)ranges,
        };
        int r = iommufd_ioctl(fd, IOMMU_IOAS_IOVA_RANGES, &arg);
        if (r == -EMSGSIZE && arg.num_iovas > room) {
            room = arg.num_iovas;
            continue;
        }
        if (r < 0)
            return r;
        *ret_ranges = g_steal_pointer(&ranges);
        *ret_n = arg.num_iovas;
        return 0;
    }
    return -EMSGSIZE;
}

int iommufd_ioas_allow_iovas(Host *host, int fd, uint32_t ioas, const HostIovaRange *ranges,
                             size_t n)
{
    if (n > IOVA_RANGES_MAX)
        return -EMSGSIZE;
    struct iommu_ioas_allow_iovas arg = {
        .size = sizeof(arg),
        .ioas_id = ioas,
        .num_iovas = (uint32_t)n,
        .allowed_iovas = (uintptr_t)ranges,
    };
    return iommufd_ioctl(fd, IOMMU_IOAS_ALLOW_IOVAS, &arg);
}

static uint32_t map_flags(unsigned access, uint64_t iova)
{
    uint32_t flags = 0;
    if (access & HOST_ACCESS_READ)
        flags |= IOMMU_IOAS_MAP_READABLE;
    if (access & HOST_ACCESS_WRITE)
        flags |= IOMMU_IOAS_MAP_WRITEABLE;
    if (iova != HOST_ANY_IOVA)
        flags |= IOMMU_IOAS_MAP_FIXED_IOVA;
    return flags;
}

/* An IOAS without a page table takes any byte address; the page table that comes later does not,
 * and then every attach fails. */
static bool iova_aligned(uint64_t iova)
{
    return iova == HOST_ANY_IOVA || iova % (uint64_t)sysconf(_SC_PAGESIZE) == 0;
}

int iommufd_ioas_map_file(Host *host, int fd, uint32_t ioas, int memfd, uint64_t offset,
                          uint64_t length, unsigned access, uint64_t *iova)
{
    int r = memfd_check(memfd, offset, length, access);
    if (r < 0)
        return r;
    if (!iova_aligned(*iova))
        return -EINVAL;
    struct iommu_ioas_map_file arg = {
        .size = sizeof(arg),
        .flags = map_flags(access, *iova),
        .ioas_id = ioas,
        .fd = memfd,
        .start = offset,
        .length = length,
        .iova = *iova == HOST_ANY_IOVA ? 0 : *iova,
    };
    r = iommufd_ioctl(fd, IOMMU_IOAS_MAP_FILE, &arg);
    if (r == -ENOTTY)
        return -EOPNOTSUPP;
    if (r == 0)
        *iova = arg.iova;
    return r;
}

int iommufd_ioas_copy(Host *host, int fd, uint32_t dst, uint32_t src, uint64_t src_iova,
                      uint64_t length, unsigned access, uint64_t *iova)
{
    if (!iova_aligned(*iova) || !iova_aligned(src_iova) || !iova_aligned(length))
        return -EINVAL;
    struct iommu_ioas_copy arg = {
        .size = sizeof(arg),
        .flags = map_flags(access, *iova),
        .dst_ioas_id = dst,
        .src_ioas_id = src,
        .length = length,
        .dst_iova = *iova == HOST_ANY_IOVA ? 0 : *iova,
        .src_iova = src_iova,
    };
    int r = iommufd_ioctl(fd, IOMMU_IOAS_COPY, &arg);
    if (r == 0)
        *iova = arg.dst_iova;
    return r;
}

int iommufd_ioas_unmap(Host *host, int fd, uint32_t ioas, uint64_t iova, uint64_t length,
                       uint64_t *ret_unmapped)
{
    struct iommu_ioas_unmap arg = {
        .size = sizeof(arg),
        .ioas_id = ioas,
        .iova = iova,
        .length = length,
    };
    int r = iommufd_ioctl(fd, IOMMU_IOAS_UNMAP, &arg);
    if (r == 0)
        *ret_unmapped = arg.length;
    return r;
}

int iommufd_object_destroy(Host *host, int fd, uint32_t id)
{
    struct iommu_destroy arg = {.size = sizeof(arg), .id = id};
    return iommufd_ioctl(fd, IOMMU_DESTROY, &arg);
}
