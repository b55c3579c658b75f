/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policy/charge.h"

#include "policy/size.h"

#include <inttypes.h>
#include <stdbool.h>

struct Budget {
    char *name;
    char *advice;
    uint64_t limit;
    uint64_t reserved; /* the sum of its charges and of those of its children */
    size_t charges;    /* taken from this very budget */
    size_t children;   /* budgets that have this one as parent */
    IommudError code;
    Budget *parent;
};

struct Charge {
    Budget *budget;
    uint64_t bytes;
    char *what;
};

Budget *budget_new(const char *name, uint64_t limit, IommudError code, Budget *parent)
{
    g_assert(code == IOMMUD_ERROR_LIMIT_EXCEEDED || code == IOMMUD_ERROR_HOST_BUDGET_EXCEEDED);
    Budget *budget = g_new0(Budget, 1);
    budget->name = g_strdup(name);
    budget->advice = g_strdup("ask for less, or free some of it");
    budget->limit = limit;
    budget->code = code;
    budget->parent = parent;
    if (parent)
        parent->children++;
    return budget;
}

void budget_free(Budget *budget)
{
    if (!budget)
        return;
    g_assert_cmpuint(budget->reserved, ==, 0);
    g_assert_cmpuint(budget->charges, ==, 0);
    g_assert_cmpuint(budget->children, ==, 0);
    if (budget->parent)
        budget->parent->children--;
    g_free(budget->name);
    g_free(budget->advice);
    g_free(budget);
}

void budget_set_advice(Budget *budget, const char *advice)
{
    g_free(budget->advice);
    budget->advice = g_strdup(advice);
}

uint64_t budget_limit(const Budget *budget)
{
    return budget->limit;
}

void budget_set_limit(Budget *budget, uint64_t limit)
{
    budget->limit = limit;
}

uint64_t budget_reserved(const Budget *budget)
{
    return budget->reserved;
}

/* What is reserved besides the charge except (NULL: none is left out). */
static uint64_t budget_reserved_besides(const Budget *budget, const Charge *except)
{
    for (const Budget *b = except ? except->budget : NULL; b; b = b->parent) {
        if (b == budget)
            return budget->reserved - except->bytes;
    }
    return budget->reserved;
}

static uint64_t budget_room(const Budget *budget, const Charge *except)
{
    uint64_t reserved = budget_reserved_besides(budget, except);
    return budget->limit > reserved ? budget->limit - reserved : 0;
}

uint64_t budget_left(const Budget *budget)
{
    return budget->limit == SIZE_INFINITY ? SIZE_INFINITY : budget_room(budget, NULL);
}

size_t budget_charges(const Budget *budget)
{
    return budget->charges;
}

/*
 *   more fits  <=>  more <= limit - reserved  <=>  reserved + more <= limit, without overflow
 *
 * An unlimited budget (limit = 2^64 - 1) ends where its sum would no longer have room in 64 bits.
 */
static bool budget_fits(const Budget *budget, uint64_t more, const Charge *except)
{
    uint64_t sum;
    return !__builtin_add_overflow(budget_reserved_besides(budget, except), more, &sum) &&
           sum <= budget->limit;
}

static void budget_refuse(const Budget *budget, const char *what, uint64_t more, uint64_t left,
                          bool grows, GError **error)
{
    g_autofree char *asked = size_format(more);
    g_autofree char *available = size_format(left);
    g_autofree char *limit = size_format(budget->limit);
    /* "needs 1G, but has 1G left" helps nobody who is one page over. */
    if (more != left && g_str_equal(asked, available)) {
        g_autofree char *asked_rounded = g_steal_pointer(&asked);
        g_autofree char *available_rounded = g_steal_pointer(&available);
        asked = g_strdup_printf("%s (%" PRIu64 " bytes)", asked_rounded, more);
        available = g_strdup_printf("%s (%" PRIu64 " bytes)", available_rounded, left);
    }
    g_set_error(error, IOMMUD_ERROR, (int)budget->code,
                "%c%s needs %s%s of pinned memory, but %s has %s left of its %s of %s: %s.",
                g_ascii_toupper(what[0]), what + 1, asked, grows ? " more" : "", budget->name,
                available, budget->code == IOMMUD_ERROR_LIMIT_EXCEEDED ? "limit" : "budget", limit,
                budget->advice);
}

/* The caller has checked that no sum overflows. */
static void budget_add(Budget *budget, uint64_t more)
{
    for (Budget *b = budget; b; b = b->parent)
        b->reserved += more;
}

/* Whether budget and its parents have so much more. */
static gboolean budget_check(const Budget *budget, uint64_t more, const char *what, bool grows,
                             const Charge *except, GError **error)
{
    for (const Budget *b = budget; b; b = b->parent) {
        if (!budget_fits(b, more, except)) {
            budget_refuse(b, what, more, budget_room(b, except), grows, error);
            return FALSE;
        }
    }
    return TRUE;
}

static void budget_give_back(Budget *budget, uint64_t less)
{
    for (Budget *b = budget; b; b = b->parent) {
        g_assert_cmpuint(b->reserved, >=, less);
        b->reserved -= less;
    }
}

static gboolean check_finite(uint64_t bytes, const char *what, GError **error)
{
    if (bytes != SIZE_INFINITY)
        return TRUE;
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                "%c%s asks for infinity of pinned memory, which no budget can promise: ask for a "
                "number of bytes.",
                g_ascii_toupper(what[0]), what + 1);
    return FALSE;
}

static Charge *charge_new(Budget *budget, uint64_t bytes, const char *what)
{
    Charge *charge = g_new0(Charge, 1);
    charge->budget = budget;
    charge->bytes = bytes;
    charge->what = g_strdup(what);
    budget->charges++;
    return charge;
}

gboolean charge_check(const Budget *budget, uint64_t bytes, const char *what, const Charge *except,
                      GError **error)
{
    return check_finite(bytes, what, error) &&
           budget_check(budget, bytes, what, false, except, error);
}

void charge_refuse(const Budget *budget, IommudError code, uint64_t bytes, uint64_t left,
                   const char *what, bool grows, GError **error)
{
    while (budget->code != code && budget->parent)
        budget = budget->parent;
    budget_refuse(budget, what, bytes, left, grows, error);
}

Charge *charge_take(Budget *budget, uint64_t bytes, const char *what, GError **error)
{
    if (!charge_check(budget, bytes, what, NULL, error))
        return NULL;
    budget_add(budget, bytes);
    return charge_new(budget, bytes, what);
}

Charge *charge_restore(Budget *budget, uint64_t bytes, const char *what)
{
    uint64_t sum;
    for (const Budget *b = budget; b; b = b->parent) {
        if (bytes == SIZE_INFINITY || __builtin_add_overflow(b->reserved, bytes, &sum))
            return NULL;
    }
    budget_add(budget, bytes);
    return charge_new(budget, bytes, what);
}

gboolean charge_resize(Charge *charge, uint64_t bytes, GError **error)
{
    if (!check_finite(bytes, charge->what, error))
        return FALSE;
    if (bytes > charge->bytes) {
        uint64_t more = bytes - charge->bytes;
        if (!budget_check(charge->budget, more, charge->what, true, NULL, error))
            return FALSE;
        budget_add(charge->budget, more);
    } else {
        budget_give_back(charge->budget, charge->bytes - bytes);
    }
    charge->bytes = bytes;
    return TRUE;
}

void charge_put_back(Charge *charge, uint64_t bytes)
{
    if (bytes > charge->bytes)
        budget_add(charge->budget, bytes - charge->bytes);
    else
        budget_give_back(charge->budget, charge->bytes - bytes);
    charge->bytes = bytes;
}

uint64_t charge_bytes(const Charge *charge)
{
    return charge->bytes;
}

void charge_free(Charge *charge)
{
    if (!charge)
        return;
    budget_give_back(charge->budget, charge->bytes);
    charge->budget->charges--;
    g_free(charge->what);
    g_free(charge);
}
