/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory files that a client hands in to be mapped for a device. */
#pragma once

#include <stdint.h>

/*
 * Whether bytes [offset, offset + length) of memfd may be mapped with these HostAccess bits.
 *
 * The kernel looks at most of this only when a device attaches (memfd_pin_folios), far from the
 * caller who made the mistake, and never asks whether the descriptor is writable or the file is
 * sealed: a device could be told to write where the client itself may not.
 *
 * -EINVAL: not a file of shmem or hugetlbfs, empty, not page-aligned, or past the file's end;
 * -EACCES: writing through a read-only descriptor; -EPERM: the file is sealed against writing.
 */
int memfd_check(int memfd, uint64_t offset, uint64_t length, unsigned access);
