/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The agent on the bus: org.iommud1.Libvirt, and what iommud's signals mean for it. */
#pragma once

#include "plugin/libvirt/agent/agent.h"

/* Puts the object on the bus, requests the name, follows iommud. 0 or negative errno. */
int agent_bus_start(Agent *agent);
/* Agent.changed: PropertiesChanged of one property. */
void agent_bus_changed(Agent *agent, const char *property);
