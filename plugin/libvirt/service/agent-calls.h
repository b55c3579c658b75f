/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the hook asks the agent. Functions return 0 or a negative errno, and then error holds what
 * was answered. None of them starts the agent: an association takes its time, and libvirt waits.
 */
#pragma once

#include "dbus/client/client.h"

/* What libvirt would hand to a start of the domain now. */
typedef struct {
    uint64_t iommufd; /* its id, for AdmitMachine */
    uint64_t socket;  /* inode of the agent's socket to libvirt; 0: the agent does not know it */
} AgentStart;

/* NotAssociated, LibvirtFailed, or what sd-bus says when there is no agent. */
int agent_ask_start(sd_bus *bus, const char *uuid, AgentStart *ret_start, sd_bus_error *error);
/* Asks for the domain to be handed the IOMMUFD that it should have, and does not wait. */
void agent_ask_again(sd_bus *bus, const char *uuid);
