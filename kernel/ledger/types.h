/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the running kernel offers to the ledger and the guard. */
#pragma once

#include "kernel/ledger/maps.h"

#include <bpf/btf.h>

/* The kernel's description of itself (BTF). */
typedef struct {
    struct btf *kernel;
    struct btf *iommufd; /* NULL: it is built in */
    struct btf *vfio;    /* likewise */
    int iommufd_fd;      /* the kernel's own copy of it */
} Types;

/* Finds it, and in it what the ledger needs: 0, or -EOPNOTSUPP and a reason in the report. */
int types_find(LedgerReport *report, Types *types);
void types_clear(Types *types);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Types, types_clear)

/* Whether the kernel, or iommufd's module, has the function. */
bool types_have(const Types *types, const char *function);
/* Whether a BPF program may return in the function's place: found out by loading one that could. */
bool types_may_refuse(const Types *types, const char *function);
/* *ret_list: the active LSMs, NULL where that can't be told. */
bool lsm_has_bpf(char **ret_list);
/* Kprobes stand in for what only iommud's own iommufd has. */
bool have_kprobes(void);

/* Tells why the ledger can't work: what came of the first thing that was missing. */
int ledger_unavailable(LedgerReport *report, const char *format, ...) G_GNUC_PRINTF(2, 3);
