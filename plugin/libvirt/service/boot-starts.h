/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Starts that libvirtd itself tries, once in each boot, and that the hook refuses because the agent
 * is not there yet: the hook writes them down, and the agent makes up for them. Nothing else tells
 * them from domains that somebody has stopped.
 */
#pragma once

#include <stdbool.h>

/* A folder that a boot empties; for tests the environment may name another one. */
#define BOOT_STARTS_DIR "/run/iommud-libvirt/refused"
#define BOOT_STARTS_VARIABLE "IOMMUD_LIBVIRT_REFUSED_DIR"

/* The start of this domain is refused. Written down if it is one that libvirtd tries at boot: the
 * libvirtd that runs has made the file by which the next one knows that this was done, and not long
 * ago. */
void boot_start_refused(const char *uuid);
/* Whether such a start was refused in this boot. */
bool boot_start_was_refused(const char *uuid);
