/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libvirt's networks, as far as its hooks can know them without asking it. */
#pragma once

#include "plugin/libvirt/domain/xml.h"

/* Where libvirt keeps the networks that are up, one NAME.xml each; for tests the environment may
 * name another folder. */
#define NETWORK_DIR "/run/libvirt/network"
#define NETWORK_DIR_VARIABLE "IOMMUD_LIBVIRT_NETWORK_DIR"

/* Whether the network is up and hands out PCI functions (<forward mode='hostdev'>). False, too,
 * where that can't be read: a domain on a network that is not up does not start. */
bool network_passes_devices(const char *name);
