/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the kernel's own structures say, by the programs in iter.bpf.c. */
#pragma once

#include "kernel/ledger/maps.h"

/* Every open file of an IOMMUFD, of a device that is bound to one, or of a container of VFIO's:
 * appends struct ledger_opened. IOMMUFDs without an entry get one. */
int walk_files(const BpfLedger *ledger, GArray *opened);

typedef void (*WalkVisitor)(const struct ledger_record *record, void *data);
/* Visits the records of one IOMMUFD (WALK_CONTEXT), or of one container (WALK_CONTAINER); address:
 * of the kernel's structure. -ELOOP: it leads in circles; -EOPNOTSUPP: there are no such
 * containers. */
int walk_records(const BpfLedger *ledger, ProgramId program, uint64_t address, WalkVisitor visit,
                 void *data);
