/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The agent's connection to libvirt, and libvirt's events. */
#pragma once

#include "plugin/libvirt/agent/agent.h"

/* Begins to connect, and keeps connecting whenever the connection is lost. Once per process. 0 or
 * negative errno. */
int agent_libvirt_start(Agent *agent);
