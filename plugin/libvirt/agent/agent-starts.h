/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What libvirt would hand to a start now. The hook asks in `prepare`, while libvirt holds the
 * domain's lock: a start that has no IOMMUFD after libvirt has opened its first device hangs
 * libvirt for ever, and before that it can be refused.
 *
 * The table says what libvirt has, as of the events that were handled; so it is asked only after a
 * proof that no event is on its way. libvirt sends what it has to say about a domain before it
 * begins that domain's next start, and answers two calls in a row on the same connection after
 * that. Both are served by its priority workers, which wait for no domain's lock.
 */
#pragma once

#include "plugin/libvirt/agent/agent.h"

/* Answers the call, which it takes, with the tenant, the id of the IOMMUFD, and the inode of the
 * agent's socket to libvirt: at once where that is possible, else within PROOF_SECONDS. Errors:
 * NotAssociated, LibvirtFailed. */
void agent_begin_start(Agent *agent, const char *uuid, sd_bus_message *call);
