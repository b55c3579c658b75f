/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* 'iommuctl libvirt disable': asks libvirt itself, for it is the way out when iommud or the agent
 * is broken. */
#pragma once

#include "dbus/iommuctl/base/context.h"

/* The libvirt to ask; qemu:///system without it. */
#define LIBVIRT_URI_VARIABLE "IOMMUD_LIBVIRT_URI"

/* Takes a defined domain (UUID or name; NULL: all that are under iommud) out of iommud, from its
 * next start on. Prints the names of those that were. 0 or negative errno. */
int disable_domains(Iommuctl *ctl, const char *domain);
