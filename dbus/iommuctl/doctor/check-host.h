/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Checks of what the kernel and libvirt have on this host. */
#pragma once

#include "dbus/iommuctl/doctor/host-files.h"
#include "dbus/iommuctl/doctor/report.h"

/* Each reports whether the feature is there, and how to get it when present is false. */
void check_groups(Report *report, const HostFiles *host, bool present);
void check_iommufd(Report *report, const HostFiles *host, bool present);
void check_vfio_cdev(Report *report, const HostFiles *host, bool present);
void check_map_file(Report *report, const HostFiles *host, bool present);
/* Whether the kernel's modules are loaded. */
void check_modules(Report *report, const HostFiles *host);
/* Whether libvirt runs the hook at path, which is a link to program. */
void check_hook(Report *report, const HostFiles *host, const char *path, const char *program);
