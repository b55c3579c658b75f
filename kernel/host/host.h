/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The one seam between iommud and the kernel it runs on.
 *
 * linux-host.c speaks to the real kernel; kernel/simulated/host.c is a host in memory for tests and
 * for authors of D-Bus clients. Both pass the same conformance tests. Every function returns 0 or a
 * negative errno; out parameters are set on success only. All functions may be called from any
 * thread. Nothing here logs.
 */
#pragma once

#include "kernel/base/pci-address.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "kernel/ledger/ledger.h"

/* In place of an address in an IOAS: the kernel chooses one. */
#define HOST_ANY_IOVA UINT64_MAX

typedef struct Host Host;

/* What the running kernel offers. */
typedef enum {
    HOST_FEATURE_IOMMUFD = 1 << 0,   /* /dev/iommu can be opened */
    HOST_FEATURE_VFIO_CDEV = 1 << 1, /* VFIO has character devices (/dev/vfio/devices) */
    HOST_FEATURE_MAP_FILE = 1 << 2,  /* IOMMU_IOAS_MAP_FILE (Linux 6.13) */
    HOST_FEATURE_IOMMU = 1 << 3,     /* at least one IOMMU group exists */
} HostFeatures;

/* How the kernel accounts what an IOMMUFD pins: enum iommufd's IOMMU_OPTION_RLIMIT_MODE values. */
typedef enum {
    HOST_ACCOUNTING_USER = 0,    /* against the user's locked_vm, summed over its processes */
    HOST_ACCOUNTING_PROCESS = 1, /* against the mapping process's mm (VmLck), as libvirt does */
} HostAccounting;

/* struct iommu_iova_range: both ends inclusive, bytes. */
typedef struct {
    uint64_t start;
    uint64_t last;
} HostIovaRange;

typedef enum {
    HOST_ACCESS_READ = 1 << 0,  /* IOMMU_IOAS_MAP_READABLE: the device may read */
    HOST_ACCESS_WRITE = 1 << 1, /* IOMMU_IOAS_MAP_WRITEABLE: the device may write */
} HostAccess;

/* A PCI function as sysfs shows it. Strings are "" where there is none. */
typedef struct {
    char address[PCI_ADDRESS_SIZE]; /* canonical: 0000:01:00.0 */
    uint16_t vendor;                /* PCI ids */
    uint16_t product;
    uint32_t class_code; /* 24 bits: class, subclass, programming interface */
    bool bridge;         /* header type 1: a bridge or port, never assignable itself */
    int group;           /* IOMMU group number, -1 without one */
    char driver[32];     /* bound driver */
    char override[32];   /* driver_override */
    char cdev[32];       /* VFIO character device's name, e.g. vfio0 */
} HostDevice;

typedef struct {
    /* For logs and Describe(): "linux" or "simulated". */
    const char *name;
    void (*free)(Host *host);

    /* Which HostFeatures are there now. */
    int (*features)(Host *host, unsigned *ret_features);

    /* Opens a new, empty IOMMUFD with close-on-exec and sets its accounting mode at once, while it
     * has no object (IOMMU_OPTION_RLIMIT_MODE, needs CAP_SYS_RESOURCE). The caller owns the fd.
     * -ENOENT/-ENODEV: no /dev/iommu. */
    int (*iommufd_open)(Host *host, HostAccounting mode, int *ret_fd);
    /* Whether fd is an IOMMUFD: 0, or -ENOTTY when it is something else. */
    int (*iommufd_check)(Host *host, int fd);

    /* IOMMU_IOAS_ALLOC. */
    int (*ioas_alloc)(Host *host, int fd, uint32_t *ret_id);
    /* IOMMU_IOAS_IOVA_RANGES. *ret_ranges is freed with g_free(). -ENOENT: no such IOAS. */
    int (*ioas_iova_ranges)(Host *host, int fd, uint32_t ioas, HostIovaRange **ret_ranges,
                            size_t *ret_n);
    /* IOMMU_IOAS_ALLOW_IOVAS. n = 0 allows all. -EADDRINUSE: a range is reserved. */
    int (*ioas_allow_iovas)(Host *host, int fd, uint32_t ioas, const HostIovaRange *ranges,
                            size_t n);
    /* IOMMU_IOAS_MAP_FILE of memfd's bytes [offset, offset + length). *iova is HOST_ANY_IOVA or
     * the wanted address on entry, the mapped one on return. -EOPNOTSUPP: kernel older than 6.13;
     * -EINVAL: not page-aligned, not a memfd, or past its end; -EACCES, -EPERM: write access to a
     * memfd that is read-only or sealed; -EEXIST: the range is mapped; -ENOSPC: no room. */
    int (*ioas_map_file)(Host *host, int fd, uint32_t ioas, int memfd, uint64_t offset,
                         uint64_t length, unsigned access, uint64_t *iova);
    /* IOMMU_IOAS_COPY between two IOASes of one IOMMUFD; iova as above. */
    int (*ioas_copy)(Host *host, int fd, uint32_t dst, uint32_t src, uint64_t src_iova,
                     uint64_t length, unsigned access, uint64_t *iova);
    /* IOMMU_IOAS_UNMAP; iova 0 with length UINT64_MAX unmaps everything. -ENOENT: nothing is
     * mapped there, or the range cuts a mapping in two. */
    int (*ioas_unmap)(Host *host, int fd, uint32_t ioas, uint64_t iova, uint64_t length,
                      uint64_t *ret_unmapped);

    /* IOMMU_DESTROY. -EBUSY: in use, nothing happened. Can block up to 60 s: workers only. */
    int (*object_destroy)(Host *host, int fd, uint32_t id);

    /* All PCI functions, by address. *ret_devices is freed with g_free(). */
    int (*devices)(Host *host, HostDevice **ret_devices, size_t *ret_n);
    /* Unbinds the device from its driver and binds it to driver: by driver_override where that is
     * one of VFIO's or pci-stub; others get only what they know. On failure the old driver and
     * override are restored. -ENOENT: no such driver is loaded; -ENODEV: no such device, or the
     * driver does not know it; -EBUSY: a process uses the device; -EINVAL: a bridge, or not a
     * name; or what the driver's probe said. */
    int (*device_bind)(Host *host, const char *address, const char *driver);
    /* Clears the override, unbinds, and binds driver ("" lets the kernel probe for one). Errors
     * as above. */
    int (*device_restore)(Host *host, const char *address, const char *driver);

    /* Bytes pinned by the process (VmPin in /proc/PID/status). -ESRCH: no such process. */
    int (*process_pinned)(Host *host, pid_t pid, uint64_t *ret_bytes);
    /* 0 when the process holds this very IOMMUFD (KCMP_FILE), or, with fd -1, any IOMMUFD;
     * -ENXIO when it does not; -ESRCH: no such process. */
    int (*process_holds)(Host *host, pid_t pid, int fd);

    /* The host's memory in bytes (MemTotal). */
    int (*memory_total)(Host *host, uint64_t *ret_bytes);
    /* What a process may lock (RLIMIT_MEMLOCK, the hard limit; UINT64_MAX: all), and the same set,
     * the soft one with it. -ESRCH, -EPERM. */
    int (*lock_limit)(Host *host, pid_t pid, uint64_t *ret_bytes);
    int (*set_lock_limit)(Host *host, pid_t pid, uint64_t bytes);
    /* Bytes pinned on the whole host by anybody: nr_foll_pin_acquired - nr_foll_pin_released. */
    int (*memory_pinned)(Host *host, uint64_t *ret_bytes);

    /* Loads this version's ledger and guard and keeps them in options->folder, unless they are
     * there, and does no more: a step of its own, for it needs many privileges. Never fails for
     * want of a feature: the status says what there is, and why not. -ENOMEM. */
    int (*ledger_load)(Host *host, const LedgerOptions *options, LedgerStatus *ret_status);
    /* Takes over the ledger and the guard that are kept (LedgerOptions), and reconciles them; what
     * is not there yet is loaded. Without a folder they end with the Ledger. The caller becomes the
     * service, which may name every object; the service manager, which keeps its descriptors, may
     * receive them. Never fails for want of a feature: Ledger.status says what there is. The
     * caller frees it with ledger_free(). -ENOMEM. */
    int (*ledger_open)(Host *host, const LedgerOptions *options, Ledger **ret_ledger);
    /* Removes everything that is kept in the folder; what nothing holds then ends. -EBUSY: somebody
     * has it from ledger_open(), and would go on with tables that nobody keeps. */
    int (*ledger_unload)(Host *host, const char *folder);
} HostOps;

/* Implementations embed this as their first member. */
struct Host {
    const HostOps *ops;
};

/* The running kernel. root is "" (or a folder that stands for "/" of sysfs and procfs in tests).
 * Never fails for want of a feature: features() says what is missing. -ENOMEM. */
int linux_host_new(const char *root, Host **ret_host);

/* Frees any host; accepts NULL. */
static inline void host_free(Host *host)
{
    if (host)
        host->ops->free(host);
}
