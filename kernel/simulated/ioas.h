/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The address spaces of a simulated IOMMUFD: what is mapped, what may be, what is pinned.
 *
 * As in the kernel memory is pinned while an IOAS that maps it has a page table, once however
 * often it was copied, and charged to who mapped it. Simpler than there: a part of some memory
 * that is pinned pins all of it.
 */
#pragma once

#include "kernel/simulated/table.h"

/* As the members of HostOps. source is the address space or file that the memory is of, offset
 * where it is in that, by which the kernel aligns. */
int sim_ioas_iova_ranges(SimTable *table, uint32_t ioas, HostIovaRange **ret_ranges, size_t *ret_n);
int sim_ioas_allow_iovas(SimTable *table, uint32_t ioas, const HostIovaRange *ranges, size_t n);
int sim_ioas_map(SimTable *table, const SimOwner *owner, uint32_t ioas, uint64_t source,
                 uint64_t offset, uint64_t length, uint64_t *iova);
int sim_ioas_copy(SimTable *table, uint32_t dst, uint32_t src, uint64_t src_iova, uint64_t length,
                  uint64_t *iova);
int sim_ioas_unmap(SimTable *table, uint32_t ioas, uint64_t iova, uint64_t length,
                   uint64_t *ret_unmapped);

/* Pins, or unpins, all that the IOAS maps: its first page table came, or its last one went. */
void sim_ioas_set_pinned(SimTable *table, const SimObject *ioas, bool pinned);
/* Frees all records of the IOAS. */
void sim_ioas_clear(SimTable *table, SimObject *ioas);
