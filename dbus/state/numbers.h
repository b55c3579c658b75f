/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The ids by which the ledger knows tenants and machines: a tenant's stays until the next boot, a
 * machine's belongs to one admission, and neither is ever given out again, so that nothing of an
 * earlier one is taken for a later one's. A new number is told to the kernel after
 * writer_commit() only: what is told to the kernel outlives the service.
 */
#pragma once

#include "dbus/state/writer.h"

#include <stdint.h>

typedef struct Numbers Numbers;

Numbers *numbers_new(const char *runtime_dir, Writer *writer);
/* Accepts NULL. */
void numbers_free(Numbers *numbers);
/* These have been given out, whatever the record of it says, which may be lost; 0: none. */
void numbers_note(Numbers *numbers, uint32_t tenant, uint32_t machine);
/* Marks what is to be written. */
uint32_t numbers_next_tenant(Numbers *numbers);
uint32_t numbers_next_machine(Numbers *numbers);
