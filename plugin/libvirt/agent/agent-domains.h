/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the agent does about domains: which job each needs, and what follows from its result. */
#pragma once

#include "plugin/libvirt/agent/agent.h"

/* Asks for all domains to be associated and synchronized. Those that libvirtd could not start at
 * boot are then started. Nothing without a connection. */
void agent_sync_all(Agent *agent);
/* Says READY to the service manager, if it was not said: all is done that can be done now. */
void agent_ready(Agent *agent);
/* Asks for a job on one domain (JobFlags), and gives the answer to caller (taken, may be NULL). */
void agent_request_job(Agent *agent, const char *uuid, unsigned flags, sd_bus_message *caller);
/* Begins the jobs that are asked for, as far as there is a connection. */
void agent_dispatch(Agent *agent);
/* Looks at machines that are admitted only, time and again: starts that were lost, and those whose
 * leader could not be named. 0 or negative errno. */
int agent_watch_admitted(Agent *agent);
