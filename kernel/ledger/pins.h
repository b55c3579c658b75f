/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The folder below a bpffs in which programs and maps outlive who has loaded them: one folder in it
 * for each version. */
#pragma once

#include "kernel/ledger/maps.h"

/* Opens what is pinned in a version's folder, and reads the report: whoever has pinned it has put
 * all of it there. Needs no privilege but access to the folder. */
int pins_open(BpfLedger *ledger, const char *version);
/* Pins all, under a name that the folder gets when it is whole. names: of hooks and links. */
int pins_write(const BpfLedger *ledger, const GPtrArray *names, const char *version);
/* Removes a folder with all that is in it; what nothing holds then ends. 0 if there is none. */
int pins_remove(const char *path);
/* Removes all versions but the one. -EIO. */
int pins_remove_others(const char *folder, const char *version);
