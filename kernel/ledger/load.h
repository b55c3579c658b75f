/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Loading: which programs fit the kernel, and how they outlive their loader. */
#pragma once

#include "kernel/ledger/maps.h"

/* The folder, in options->folder, of the version that these options make: of these programs, with
 * maps of these sizes, with or without the guard. */
char *ledger_version(const LedgerOptions *options);
/* Loads the programs and attaches them, for as long as the ledger is there; fills in the ledger and
 * its report. -EOPNOTSUPP: something is missing, which the report says; or what else failed. */
int ledger_load_here(BpfLedger *ledger, const LedgerOptions *options);
/* Loads this version's programs and pins them in options->folder, unless they are there. Never
 * fails for want of a feature: the report says what is missing. -ENOMEM. */
int ledger_load_pinned(const LedgerOptions *options, LedgerReport *ret_report);
/* Tells the programs the host's device numbers, and what is asked of the guard. */
int ledger_configure(BpfLedger *ledger, const LedgerOptions *options);
