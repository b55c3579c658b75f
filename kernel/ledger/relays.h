/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Relays: processes that may receive files of restricted IOMMUFDs because they pass them on
 * (libvirtd, a D-Bus broker). */
#pragma once

#include "kernel/ledger/maps.h"

/* No cgroups but these are relays any more, whoever has made them so. */
int ledger_keep_relays(Ledger *ledger, const uint64_t *cgroups, size_t n);

/* Members of LedgerOps. */
int ledger_trust_relay(Ledger *ledger, pid_t pid, uint64_t start);
int ledger_set_relay_units(Ledger *ledger, const char *const *units);
int ledger_allow_receiver(Ledger *ledger, pid_t pid, uint64_t start, uint32_t tenant);
