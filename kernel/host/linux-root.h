/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the parts of the running kernel's host share. */
#pragma once

#include "kernel/host/host.h"

typedef struct {
    Host host;
    char *root; /* as in linux_host_new() */
} LinuxHost;

/* What stands before /sys and /proc. */
static inline const char *linux_root(Host *host)
{
    return ((LinuxHost *)host)->root;
}
