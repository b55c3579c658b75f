/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The simulated IOMMUFDs that this process came across: memfds whose content is a SimTable, mapped
 * shared. One with some fifty objects uses 8 KiB, and 8 KiB more where a ledger knows them. */
#pragma once

#include "kernel/simulated/table.h"

int sim_iommufd_create(int *ret_fd);
/* The table of fd, mapped for as long as sim_iommufd_refresh() finds it in use. -ENOTTY: fd is
 * something else. */
int sim_iommufd_get(int fd, SimTable **ret_table);

/* Looks which IOMMUFDs are still open: those that this process holds, as does the kernel's file
 * table, and those on which a living process plays, whose descriptor is imaginary. Forgets the
 * others. */
void sim_iommufd_refresh(void);
/* Comes across those that another process holds. */
void sim_iommufd_find_of(pid_t pid);
/* Forgets all. */
void sim_iommufd_forget(void);

/* Calls visit for each known table until it returns true, which is the result. */
bool sim_iommufd_any(bool (*visit)(SimTable *table, void *data), void *data);
