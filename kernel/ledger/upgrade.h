/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From one version to the next. The earlier version's programs are at work until the caller has
 * told the new ones all that it knows (LedgerOps.finish_upgrade()); its tables are copied before
 * the new programs are attached, and a reconciliation repairs what has happened in between. Who
 * owns what is in the tables alone: no walk could find it.
 */
#pragma once

#include "kernel/ledger/maps.h"

/* Copies the tables of the version in the folder that was at work so far, if it has the same
 * layout; version: the new one's own folder. 0, also if there is none. */
int upgrade_copy_tables(BpfLedger *ledger, const char *folder, const char *version);
/* Makes the caller the service for the versions that go on as well. */
void upgrade_trust_service(BpfLedger *ledger);
