/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Budgets and the charges taken from them.
 *
 * A budget promises bytes up to its limit: a tenant's budget has the host's as its parent, and a
 * charge is taken from both or from none. Freeing the charge gives it back; freeing a budget
 * asserts that nothing is charged any more.
 *
 *   a charge of n bytes fits  <=>  n <= limit - reserved,  for the budget and each parent,
 *   computed without overflow (reserved <= limit does not hold after a limit was lowered; nothing
 *   fits then, and what was promised stays promised).
 */
#pragma once

#include "policy/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Budget Budget;
typedef struct Charge Charge;

/* name stands in error messages: "tenant acme", "the host". limit in bytes or SIZE_INFINITY.
 * parent may be NULL and must outlive the budget. code is the error of a charge that this budget
 * refuses: LIMIT_EXCEEDED or HOST_BUDGET_EXCEEDED. */
Budget *budget_new(const char *name, uint64_t limit, IommudError code, Budget *parent);
/* What the reader of a refusal can do, the part of the sentence after the colon: "stop a machine of
 * the tenant". Without one: "ask for less, or free some of it". */
void budget_set_advice(Budget *budget, const char *advice);
/* Accepts NULL. Asserts that nothing is charged and that no other budget has it as its parent. */
void budget_free(Budget *budget);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Budget, budget_free)

uint64_t budget_limit(const Budget *budget);
/* May be below what is reserved. */
void budget_set_limit(Budget *budget, uint64_t limit);
uint64_t budget_reserved(const Budget *budget);
/* What can still be charged here, parents not asked. SIZE_INFINITY without a limit. */
uint64_t budget_left(const Budget *budget);
/* How many charges were taken from it and not given back; one of 0 bytes is a charge, too. */
size_t budget_charges(const Budget *budget);

/* Whether charge_take() would succeed after the charge except, which may be NULL, was freed. */
gboolean charge_check(const Budget *budget, uint64_t bytes, const char *what, const Charge *except,
                      GError **error);
/* Takes bytes from budget and its parents, or fails with the code of the first that has not
 * enough left. what names the taker in the message: "machine web-1". INVALID_ARGUMENT:
 * SIZE_INFINITY is no number of bytes. */
Charge *charge_take(Budget *budget, uint64_t bytes, const char *what, GError **error);
/* Sets the error of charge_take(), or of a charge that grows, for bytes that budget or its parent
 * had, but not the account elsewhere that stands behind them: it has `left`. code: which of the two
 * it is. */
void charge_refuse(const Budget *budget, IommudError code, uint64_t bytes, uint64_t left,
                   const char *what, bool grows, GError **error);
/* Takes bytes back that were taken before a restart, whatever the limits are now: what was promised
 * stays promised. NULL: bytes is SIZE_INFINITY, or a sum would have no room in 64 bits. */
Charge *charge_restore(Budget *budget, uint64_t bytes, const char *what);
/* Makes the charge larger or smaller; a failed growth leaves it as it was. */
gboolean charge_resize(Charge *charge, uint64_t bytes, GError **error);
/* Makes the charge what it was before a charge_resize() that is taken back, whatever the limit is
 * now: nobody else has taken from the budget since. */
void charge_put_back(Charge *charge, uint64_t bytes);
uint64_t charge_bytes(const Charge *charge);
/* Gives the bytes back. Accepts NULL. */
void charge_free(Charge *charge);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Charge, charge_free)
