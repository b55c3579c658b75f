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

static int probe_ioas(int fd, uint32_t id)
{
    uint64_t value = 0;
    return iommufd_option(fd, IOMMU_OPTION_HUGE_PAGES, id, IOMMU_OPTION_OP_GET, &value);
}

static int probe_device(int fd, uint32_t id)
{
    struct iommu_hw_info arg = {.size = sizeof(arg), .dev_id = id};
    return iommufd_ioctl(fd, IOMMU_GET_HW_INFO, &arg);
}

static int probe_hwpt(int fd, uint32_t id)
{
    /* A page size of 0 is refused before any bit is read, and nothing would be cleared. */
    struct iommu_hwpt_get_dirty_bitmap arg = {
        .size = sizeof(arg),
        .hwpt_id = id,
        .flags = IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR,
    };
    return iommufd_ioctl(fd, IOMMU_HWPT_GET_DIRTY_BITMAP, &arg);
}

static int probe_any(int fd, uint32_t id)
{
    /* No entries, and of a type that no driver knows. */
    struct iommu_hwpt_invalidate arg = {
        .size = sizeof(arg),
        .hwpt_id = id,
        .data_type = UINT32_MAX,
    };
    return iommufd_ioctl(fd, IOMMU_HWPT_INVALIDATE, &arg);
}

/* What a probe's result says: 1 there is such an object, 0 there is not, or an error that is not
 * about the object. */
static int probe_answer(int r)
{
    switch (r) {
    case -ENOENT:
    case -ENOTTY: /* a kernel without this ioctl */
        return 0;
    case -EBADF:
    case -EPERM: /* a security module's refusal; iommufd has none for these */
    case -EACCES:
    case -EFAULT:
        return r;
    default:
        return 1;
    }
}

/* 1 and the type, 0 when none of the three types is there, or a negative errno. */
static int probe_type(int fd, uint32_t id, HostObjectType *ret_type)
{
    static const struct {
        int (*probe)(int fd, uint32_t id);
        HostObjectType type;
    } probes[] = {
        {probe_ioas, HOST_OBJECT_IOAS},
        {probe_device, HOST_OBJECT_DEVICE},
        {probe_hwpt, HOST_OBJECT_HWPT},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(probes); i++) {
        int r = probe_answer(probes[i].probe(fd, id));
        if (r < 0)
            return r;
        if (r > 0) {
            *ret_type = probes[i].type;
            return 1;
        }
    }
    return 0;
}

/* As probe_type(), for every type. general: probe_any() is known to see all types. */
static int probe_object(int fd, uint32_t id, bool general, HostObjectType *ret_type)
{
    int r = general ? probe_answer(probe_any(fd, id)) : 1;
    if (r <= 0)
        return r;
    /* The id may come into use between two probes: what is nothing that we know must be so twice
     * before it is called something else. */
    for (int round = 0; round < 2; round++) {
        r = probe_type(fd, id, ret_type);
        if (r != 0)
            return r;
        r = probe_answer(probe_any(fd, id));
        if (r <= 0)
            return r;
    }
    *ret_type = HOST_OBJECT_OTHER;
    return 1;
}

/* Whether fd has no object at all: the accounting mode, whatever it is, may be set to what it is
 * only then. False also when that can't be told. */
static bool iommufd_empty(int fd)
{
    uint64_t mode = 0;
    return iommufd_option(fd, IOMMU_OPTION_RLIMIT_MODE, 0, IOMMU_OPTION_OP_GET, &mode) == 0 &&
           iommufd_option(fd, IOMMU_OPTION_RLIMIT_MODE, 0, IOMMU_OPTION_OP_SET, &mode) == 0;
}

int iommufd_objects(Host *host, int fd, HostObject **ret_objects, size_t *ret_n)
{
    g_autoptr(GArray) objects = g_array_new(FALSE, FALSE, sizeof(HostObject));
    bool general = false;
    uint32_t last = iommufd_empty(fd) ? 0 : IOMMUFD_OBJECTS_GAP;

    for (uint32_t id = 1; id <= last && objects->len < IOMMUFD_OBJECTS_MAX; id++) {
        HostObject object = {.id = id};
        int r = probe_object(fd, id, general, &object.type);
        if (r < 0)
            return r;
        if (r == 0)
            continue;
        g_array_append_val(objects, object);
        last = id + IOMMUFD_OBJECTS_GAP;
        /* An object that is no nested HWPT tells whether probe_any() sees all types. */
        if (!general && object.type != HOST_OBJECT_OTHER)
            general = probe_answer(probe_any(fd, id)) > 0;
    }
    *ret_n = objects->len;
    *ret_objects = (HostObject *)g_array_free(g_steal_pointer(&objects), FALSE);
    return 0;
}
