/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A host in memory: PCI devices and IOMMU groups from a file, IOMMUFDs that are memfds.
 *
 * An IOMMUFD's objects live in its memfd, so that they outlive a restart of iommud as a kernel's
 * would, and are the same through every copy of the descriptor. Real processes own them: when one
 * dies its devices are unbound (as the kernel does when the VFIO descriptor closes), while its
 * page tables and address spaces stay, pinned, until somebody destroys them.
 *
 * The file is a GKeyFile:
 *   [Host]
 *   MemoryMiB=65536
 *   Features=iommufd;vfio-cdev;map-file;iommu;ledger;guard;
 *   [Device 0000:01:00.0]
 *   Vendor=0x1b36
 *   Product=0x0010
 *   Class=0x010802
 *   Group=11
 *   Driver=nvme
 *   Bridge=false
 */
#pragma once

#include "kernel/host/host.h"

/* Reads path. On failure *ret_error (when not NULL) is a sentence to be freed with g_free().
 * -EINVAL: the file is wrong; -ENOENT and others from reading it. */
int simulated_host_new(const char *path, Host **ret_host, char **ret_error);

/* What QEMU does when it starts: process pid binds each device to the IOMMUFD, allocates an IOAS
 * and a page table, attaches, and maps and pins bytes of its memory. The devices must be bound to
 * vfio-pci. -EBUSY: a device is bound to another IOMMUFD; -ENODEV; -ESRCH; -ENOMEM: more than the
 * host's memory would be pinned; -EACCES, -EPERM, -EDQUOT: the guard. Refused as a whole. */
int simulated_host_play(Host *host, pid_t pid, int iommufd, const char *const *devices,
                        size_t n_devices, uint64_t bytes);

/* One ioctl of process pid on the IOMMUFD, by name, which passes the guard: "IOMMU_IOAS_ALLOC"
 * (*ret_id), "IOMMU_IOAS_MAP" (so many bytes of its memory, anywhere in IOAS id),
 * "IOMMU_IOAS_UNMAP" (all of IOAS id), "IOMMU_DESTROY" (id); or "VFIO_DEVICE_PCI_HOT_RESET" of the
 * device that is bound as object id. Errors are the ioctl's and the guard's; -ENODEV: id is no
 * device; -ENOTTY: another one that the guard lets pass, or no ioctl at all. */
int simulated_host_ioctl(Host *host, pid_t pid, int iommufd, const char *name, uint32_t id,
                         uint64_t bytes, uint32_t *ret_id);

/* Sets what the process may lock, as libvirt does before it plugs something into a machine. The
 * guard is asked: -EDQUOT. -ESRCH; -ENOMEM: no ledger, or no room in it. */
int simulated_host_set_lock_limit(Host *host, pid_t pid, uint64_t bytes);

/* Has the simulated kernel do something wrong (kernel/simulated/faults.h). value: how often, or how
 * slowly in milliseconds; 0: no more. -EINVAL: there is no such fault. */
int simulated_host_set_fault(Host *host, const char *fault, uint64_t value);
