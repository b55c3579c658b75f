/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What this host's files tell. Nothing here speaks to a bus. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* The files of this host that the checks read: root is "" or a folder that stands for "/". */
typedef struct {
    const char *root;
    const char *kernel; /* its release, as uname -r says */
} HostFiles;

bool host_has_groups(const HostFiles *host);
bool host_has_iommufd(const HostFiles *host);
bool host_has_vfio_cdev(const HostFiles *host);
/* Linux 6.13 or newer. */
bool host_has_map_file(const HostFiles *host);
bool host_has_libvirt(const HostFiles *host);
/* Whether the module is loaded or built in; its name as its file has it, with dashes. */
bool host_has_module(const HostFiles *host, const char *module);
/* Whether the module could be loaded. */
bool host_can_load(const HostFiles *host, const char *module);
/* How to get a kernel with IOMMUFD and VFIO's character devices. Freed with g_free(). */
char *host_kernel_remedy(const HostFiles *host);
/* How to get the module: to load it, or a kernel that has it. Freed with g_free(). */
char *host_module_remedy(const HostFiles *host, const char *module);
/* Whether iommufd is the kernel's own, so that no other is built for it. */
bool host_has_own_iommufd(const HostFiles *host);
/* Where a file of the host is. Freed with g_free(). */
char *host_path(const HostFiles *host, const char *path);
/* A file's text, "" when it can't be read. Freed with g_free(). */
char *host_read(const HostFiles *host, const char *path);
/* MemTotal in bytes, 0 when it can't be read. */
uint64_t host_memory(const HostFiles *host);
