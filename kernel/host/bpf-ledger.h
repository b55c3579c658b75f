/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The running kernel's ledger and guard: BPF programs (kernel/bpf/), seen from user space. */
#pragma once

#include "kernel/ledger/ledger.h"

/* As HostOps.ledger_load(), HostOps.ledger_open() and HostOps.ledger_unload(). */
int bpf_ledger_load(const LedgerOptions *options, LedgerStatus *ret_status);
int bpf_ledger_open(const LedgerOptions *options, Ledger **ret_ledger);
int bpf_ledger_unload(const char *folder);
