/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The running kernel behind HostOps. */
#include "kernel/base/cleanup.h"
#include "kernel/base/file.h"
#include "kernel/host/iommufd.h"
#include "kernel/host/linux-root.h"
#include "kernel/host/pci-driver.h"
#include "kernel/host/pci.h"
#include "kernel/base/process.h"
#include "kernel/host/bpf-ledger.h"

#include <dirent.h>
#include <errno.h>
#include <glib.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* /proc/meminfo and /proc/PID/status are far below this; /proc/vmstat is some 5 KiB. */
#define PROC_FILE_MAX 32768

G_DEFINE_AUTOPTR_CLEANUP_FUNC(DIR, closedir)

static void linux_free(Host *host)
{
    g_free(((LinuxHost *)host)->root);
    g_free(host);
}

/* Whether the folder has an entry besides "." and "..". */
static bool folder_has_entries(const char *path)
{
    g_autoptr(DIR) dir = opendir(path);
    const struct dirent *entry;
    while (dir && (entry = readdir(dir)))
        if (entry->d_name[0] != '.')
            return true;
    return false;
}

static int linux_features(Host *host, unsigned *ret_features)
{
    unsigned features = 0;
    char path[PATH_MAX], text[PROC_FILE_MAX];

    autoclose int fd = -EBADF;
    if (iommufd_open(host, HOST_ACCOUNTING_USER, &fd) == 0) {
        features |= HOST_FEATURE_IOMMUFD;
        if (iommufd_has_map_file(fd) > 0)
            features |= HOST_FEATURE_MAP_FILE;
    }
    /* The class vfio-dev is there in every kernel with VFIO, device numbers for it are not. */
    snprintf(path, sizeof(path), "%s/proc/devices", linux_root(host));
    if (file_read(path, text, sizeof(text)) > 0 && strstr(text, " vfio-dev\n"))
        features |= HOST_FEATURE_VFIO_CDEV;
    snprintf(path, sizeof(path), "%s/sys/kernel/iommu_groups", linux_root(host));
    if (folder_has_entries(path))
        features |= HOST_FEATURE_IOMMU;

    *ret_features = features;
    return 0;
}

static int linux_process_pinned(Host *host, pid_t pid, uint64_t *ret_bytes)
{
    char path[PATH_MAX], text[PROC_FILE_MAX];
    uint64_t kib;
    snprintf(path, sizeof(path), "%s/proc/%d/status", linux_root(host), pid);
    ssize_t n = file_read(path, text, sizeof(text));
    if (n < 0)
        return n == -ENOENT ? -ESRCH : (int)n;
    const char *state = strstr(text, "\nState:\t");
    if (state && strchr("ZX", state[strlen("\nState:\t")]))
        return -ESRCH;
    /* A kernel thread has no memory and no such line. A count below zero is what is left of a
     * process whose pages IOMMU_IOAS_CHANGE_PROCESS took over without their charge. */
    if (text_find_number(text, "VmPin:", &kib) < 0 || kib > INT64_MAX / 1024)
        kib = 0;
    *ret_bytes = kib * 1024;
    return 0;
}

static int linux_process_holds(Host *host, pid_t pid, int fd)
{
    char path[PATH_MAX];
    dev_t device;
    if (fd >= 0)
        return process_holds_file(linux_root(host), pid, fd);
    snprintf(path, sizeof(path), "%s/sys/class/misc/iommu/dev", linux_root(host));
    if (file_read_device_number(path, &device) < 0)
        return -ENXIO; /* nobody can hold what there is not */
    return process_holds_device(linux_root(host), pid, "iommu", device);
}

static int linux_lock_limit(Host *host, pid_t pid, uint64_t *ret_bytes)
{
    return process_lock_limit(pid, ret_bytes);
}

static int linux_set_lock_limit(Host *host, pid_t pid, uint64_t bytes)
{
    return process_set_lock_limit(pid, bytes);
}

static int linux_memory_total(Host *host, uint64_t *ret_bytes)
{
    char path[PATH_MAX], text[PROC_FILE_MAX];
    uint64_t kib;
    snprintf(path, sizeof(path), "%s/proc/meminfo", linux_root(host));
    ssize_t n = file_read(path, text, sizeof(text));
    int r = n < 0 ? (int)n : text_find_number(text, "MemTotal:", &kib);
    if (r < 0)
        return r;
    *ret_bytes = kib * 1024;
    return 0;
}

static int linux_memory_pinned(Host *host, uint64_t *ret_bytes)
{
    char path[PATH_MAX], text[PROC_FILE_MAX];
    uint64_t acquired, released;
    snprintf(path, sizeof(path), "%s/proc/vmstat", linux_root(host));
    ssize_t n = file_read(path, text, sizeof(text));
    int r = n < 0 ? (int)n : text_find_number(text, "nr_foll_pin_acquired ", &acquired);
    if (r == 0)
        r = text_find_number(text, "nr_foll_pin_released ", &released);
    if (r < 0)
        return r;
    /* Both are sums over CPUs that go on counting while they are added up. */
    uint64_t pages = acquired > released ? acquired - released : 0;
    *ret_bytes = pages * (uint64_t)sysconf(_SC_PAGESIZE);
    return 0;
}

static int linux_ledger_load(Host *host, const LedgerOptions *options, LedgerStatus *ret_status)
{
    return bpf_ledger_load(options, ret_status);
}

static int linux_ledger_open(Host *host, const LedgerOptions *options, Ledger **ret_ledger)
{
    Ledger *ledger;
    uint64_t start;
    int r = bpf_ledger_open(options, &ledger);
    if (r < 0)
        return r;
    /* The service manager keeps the IOMMUFDs, and gives them to the next run. */
    if (ledger->status.counting && process_start_time(1, &start) >= 0)
        (void)ledger->ops->trust_relay(ledger, 1, start);
    *ret_ledger = ledger;
    return 0;
}

static int linux_ledger_unload(Host *host, const char *folder)
{
    return bpf_ledger_unload(folder);
}

static const HostOps linux_ops = {
    .name = "linux",
    .free = linux_free,
    .features = linux_features,
    .iommufd_open = iommufd_open,
    .iommufd_check = iommufd_check,
    .ioas_alloc = iommufd_ioas_alloc,
    .ioas_iova_ranges = iommufd_ioas_iova_ranges,
    .ioas_allow_iovas = iommufd_ioas_allow_iovas,
    .ioas_map_file = iommufd_ioas_map_file,
    .ioas_copy = iommufd_ioas_copy,
    .ioas_unmap = iommufd_ioas_unmap,
    .object_destroy = iommufd_object_destroy,
    .devices = pci_devices,
    .device_bind = pci_driver_bind,
    .device_restore = pci_driver_restore,
    .process_pinned = linux_process_pinned,
    .process_holds = linux_process_holds,
    .memory_total = linux_memory_total,
    .lock_limit = linux_lock_limit,
    .set_lock_limit = linux_set_lock_limit,
    .memory_pinned = linux_memory_pinned,
    .ledger_load = linux_ledger_load,
    .ledger_open = linux_ledger_open,
    .ledger_unload = linux_ledger_unload,
};

int linux_host_new(const char *root, Host **ret_host)
{
    LinuxHost *host = g_new0(LinuxHost, 1);
    host->host.ops = &linux_ops;
    host->root = g_strdup(root ? root : "");
    *ret_host = &host->host;
    return 0;
}
