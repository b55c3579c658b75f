/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What was refused, by the kernel's guard or at an admission: one struct from the ledger's ring to
 * the journal (journal.h) and to the signals Refused and LimitExceeded (bus.h). Strings are never
 * NULL and not owned.
 */
#pragma once

#include <stdint.h>

typedef struct {
    const char *tenant;  /* id, or "" */
    const char *machine; /* UUID of who was refused, or "" */
    uint32_t pid;        /* 0: no process was refused, but an admission */
    const char *command; /* the process's name, or "" */
    const char *ioctl;   /* "IOMMU_IOAS_MAP", or "" */
    uint32_t object;     /* id that was named, or 0 */
    const char *owner;   /* UUID of the machine whose object that was at that moment, or "" */
    uint64_t requested;  /* bytes; of a limit */
    uint64_t left;       /* bytes; of a limit */
    uint64_t limit;      /* bytes; of a limit */
    const char *error;   /* why, in words */
} Refusal;
