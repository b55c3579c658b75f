/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A machine's leader: its QEMU process, as libvirt knows it. */
#pragma once

#include <glib.h>

/* The folder with libvirt's pid files; LEADER_DIR_VARIABLE in the environment overrides it, which
 * is for tests: libvirt gives its hooks an empty environment. */
#define LEADER_DIR "/run/libvirt/qemu"
#define LEADER_DIR_VARIABLE "IOMMUD_LIBVIRT_PID_DIR"

/* A pidfd of the QEMU process of the domain with this name and UUID (canonical), or -1. That it is
 * this one is checked by the UUID in its command line. The caller owns the descriptor. */
int leader_open(const char *name, const char *uuid, GError **error);
