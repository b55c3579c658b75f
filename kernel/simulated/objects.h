/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is in a simulated IOMMUFD, and how it hangs together. */
#pragma once

#include "kernel/simulated/table.h"

/* The caller has made sure of their room with sim_table_has_capacity(). */
uint32_t sim_ioas_new(SimTable *table, const SimOwner *owner);
uint32_t sim_hwpt_new(SimTable *table, const SimOwner *owner, uint32_t ioas);
uint32_t sim_device_new(SimTable *table, const SimOwner *owner, uint32_t hwpt, const char *address);
void sim_device_attach(SimTable *table, uint32_t device, uint32_t hwpt);

/* As HostOps.object_destroy(). */
int sim_table_destroy(SimTable *table, uint32_t id);
