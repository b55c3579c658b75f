/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policy/charge.h"
#include "policy/size.h"

#include <string.h>

#define MIB (UINT64_C(1024) * 1024)
#define GIB (1024 * MIB)

static Budget *host_new(uint64_t limit)
{
    return budget_new("the host", limit, IOMMUD_ERROR_HOST_BUDGET_EXCEEDED, NULL);
}

static Budget *tenant_budget_new(uint64_t limit, Budget *host)
{
    return budget_new("tenant acme", limit, IOMMUD_ERROR_LIMIT_EXCEEDED, host);
}

static void test_take(void)
{
    g_autoptr(Budget) host = host_new(10 * GIB);
    g_autoptr(Budget) acme = tenant_budget_new(4 * GIB, host);
    g_autoptr(Budget) evil = tenant_budget_new(8 * GIB, host);
    g_autoptr(GError) error = NULL;

    g_autoptr(Charge) one = charge_take(acme, 3 * GIB, "machine web-1", &error);
    g_assert_no_error(error);
    g_assert_cmpuint(charge_bytes(one), ==, 3 * GIB);
    g_assert_cmpuint(budget_reserved(acme), ==, 3 * GIB);
    g_assert_cmpuint(budget_reserved(host), ==, 3 * GIB);
    g_assert_cmpuint(budget_left(acme), ==, 1 * GIB);
    g_assert_cmpuint(budget_charges(acme), ==, 1);

    g_assert_null(charge_take(acme, 1 * GIB + 1, "machine web-2", &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_LIMIT_EXCEEDED);
    g_clear_error(&error);
    g_assert_cmpuint(budget_reserved(acme), ==, 3 * GIB);
    g_assert_cmpuint(budget_reserved(host), ==, 3 * GIB);

    /* Within its own limit, but not within what the others left of the host's. */
    g_assert_null(charge_take(evil, 7 * GIB + 1, "machine db-1", &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_HOST_BUDGET_EXCEEDED);
    g_clear_error(&error);
    g_assert_cmpuint(budget_reserved(evil), ==, 0);
    g_assert_cmpuint(budget_reserved(host), ==, 3 * GIB);

    g_autoptr(Charge) two = charge_take(evil, 7 * GIB, "machine db-1", &error);
    g_assert_nonnull(two);
    g_assert_cmpuint(budget_left(host), ==, 0);
    charge_free(g_steal_pointer(&one));
    g_assert_cmpuint(budget_reserved(acme), ==, 0);
    g_assert_cmpuint(budget_reserved(host), ==, 7 * GIB);
}

static void test_resize(void)
{
    g_autoptr(Budget) host = host_new(10 * GIB);
    g_autoptr(Budget) acme = tenant_budget_new(4 * GIB, host);
    g_autoptr(GError) error = NULL;
    g_autoptr(Charge) charge = charge_take(acme, 1 * GIB, "machine web-1", &error);

    g_assert_true(charge_resize(charge, 4 * GIB, &error));
    g_assert_cmpuint(budget_reserved(host), ==, 4 * GIB);
    g_assert_false(charge_resize(charge, 4 * GIB + 1, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_LIMIT_EXCEEDED);
    g_clear_error(&error);
    g_assert_cmpuint(charge_bytes(charge), ==, 4 * GIB);
    g_assert_cmpuint(budget_reserved(acme), ==, 4 * GIB);
    g_assert_true(charge_resize(charge, 2 * GIB, &error));
    g_assert_cmpuint(budget_reserved(acme), ==, 2 * GIB);
    g_assert_cmpuint(budget_reserved(host), ==, 2 * GIB);
    g_assert_true(charge_resize(charge, 0, &error));
    g_assert_cmpuint(budget_reserved(host), ==, 0);
    g_assert_cmpuint(budget_charges(acme), ==, 1);
}

static void test_lowered_limit(void)
{
    g_autoptr(Budget) host = host_new(SIZE_INFINITY);
    g_autoptr(Budget) acme = tenant_budget_new(4 * GIB, host);
    g_autoptr(GError) error = NULL;
    g_autoptr(Charge) charge = charge_take(acme, 3 * GIB, "machine web-1", &error);

    budget_set_limit(acme, 2 * GIB);
    g_assert_cmpuint(budget_limit(acme), ==, 2 * GIB);
    g_assert_cmpuint(budget_left(acme), ==, 0);
    g_assert_cmpuint(budget_reserved(acme), ==, 3 * GIB);
    /* Nothing fits, not even nothing; what is there may stay or shrink. */
    g_assert_null(charge_take(acme, 0, "machine web-2", NULL));
    g_assert_false(charge_resize(charge, 3 * GIB + 1, NULL));
    g_assert_true(charge_resize(charge, 3 * GIB, &error));
    g_assert_true(charge_resize(charge, 2 * GIB + 1, &error));
    g_assert_null(charge_take(acme, 1, "machine web-2", &error));
    g_assert_cmpstr(error->message, ==,
                    "Machine web-2 needs 1B of pinned memory, but tenant acme has 0B left of its "
                    "limit of 2G: ask for less, or free some of it.");
}

/* Whether a charge would fit in the place of another one, of the same budget or of a sibling. */
static void test_check(void)
{
    g_autoptr(Budget) host = host_new(5 * GIB);
    g_autoptr(Budget) acme = tenant_budget_new(4 * GIB, host);
    g_autoptr(Budget) evil = tenant_budget_new(4 * GIB, host);
    g_autoptr(GError) error = NULL;
    g_autoptr(Charge) other = charge_take(evil, 1 * GIB, "machine db-1", &error);
    g_autoptr(Charge) charge = charge_take(acme, 3 * GIB, "machine web-1", &error);

    /* Larger than what is left beside it: what is given back counts. */
    g_assert_false(charge_check(acme, 4 * GIB, "machine web-1", NULL, NULL));
    g_assert_true(charge_check(acme, 4 * GIB, "machine web-1", charge, &error));
    g_assert_false(charge_check(acme, 4 * GIB + 1, "machine web-1", charge, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_LIMIT_EXCEEDED);
    g_assert_nonnull(strstr(error->message, "has 4G (4294967296 bytes) left of its limit of 4G"));
    g_clear_error(&error);
    /* In the sibling only the host's budget gets back what it frees. */
    g_assert_true(charge_check(evil, 3 * GIB, "machine web-1", charge, NULL));
    g_assert_false(charge_check(evil, 3 * GIB + 1, "machine web-1", charge, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_LIMIT_EXCEEDED);
    g_clear_error(&error);
    budget_set_limit(host, 3 * GIB);
    g_assert_true(charge_check(evil, 2 * GIB, "machine web-1", charge, NULL));
    g_assert_false(charge_check(evil, 2 * GIB + 1, "machine web-1", charge, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_HOST_BUDGET_EXCEEDED);
    g_clear_error(&error);
    g_assert_false(charge_check(evil, SIZE_INFINITY, "machine web-1", charge, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT);
    /* Asking changes nothing. */
    g_assert_cmpuint(charge_bytes(charge), ==, 3 * GIB);
    g_assert_cmpuint(budget_reserved(acme), ==, 3 * GIB);
    g_assert_cmpuint(budget_reserved(evil), ==, 1 * GIB);
    g_assert_cmpuint(budget_reserved(host), ==, 4 * GIB);
}

static void test_put_back(void)
{
    g_autoptr(Budget) host = host_new(5 * GIB);
    g_autoptr(Budget) acme = tenant_budget_new(4 * GIB, host);
    g_autoptr(Charge) charge = charge_take(acme, 3 * GIB, "machine web-1", NULL);
    g_assert_true(charge_resize(charge, 1 * GIB, NULL));
    budget_set_limit(acme, 2 * GIB);
    charge_put_back(charge, 3 * GIB);
    g_assert_cmpuint(charge_bytes(charge), ==, 3 * GIB);
    g_assert_cmpuint(budget_reserved(acme), ==, 3 * GIB);
    g_assert_cmpuint(budget_reserved(host), ==, 3 * GIB);
    charge_put_back(charge, 0);
    g_assert_cmpuint(budget_reserved(host), ==, 0);
}

static void test_overflow(void)
{
    g_autoptr(Budget) host = host_new(SIZE_INFINITY);
    g_autoptr(Budget) acme = tenant_budget_new(SIZE_INFINITY, host);
    g_autoptr(Budget) evil = tenant_budget_new(SIZE_INFINITY, host);
    g_autoptr(GError) error = NULL;
    g_assert_cmpuint(budget_left(acme), ==, SIZE_INFINITY);
    g_autoptr(Charge) huge = charge_take(acme, UINT64_MAX - 5, "machine web-1", &error);
    g_assert_no_error(error);
    g_assert_cmpuint(budget_left(acme), ==, SIZE_INFINITY);

    /* The sum would wrap around to 0: in the tenant's budget, and in the host's only. */
    g_assert_null(charge_take(acme, 6, "machine web-2", &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_LIMIT_EXCEEDED);
    g_assert_nonnull(strstr(error->message, "needs 6B of pinned memory, but tenant acme has 5B"));
    g_clear_error(&error);
    g_assert_null(charge_take(evil, 6, "machine db-1", &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_HOST_BUDGET_EXCEEDED);
    g_clear_error(&error);
    g_assert_null(charge_take(evil, UINT64_MAX - 1, "machine db-1", NULL));
    g_assert_null(charge_restore(evil, 6, "machine db-1"));
    g_assert_null(charge_restore(evil, SIZE_INFINITY, "machine db-1"));
    g_assert_cmpuint(budget_reserved(evil), ==, 0);
    g_assert_cmpuint(budget_charges(evil), ==, 0);
    g_assert_cmpuint(budget_reserved(host), ==, UINT64_MAX - 5);

    charge_free(g_steal_pointer(&huge));
    g_assert_null(charge_take(acme, SIZE_INFINITY, "machine web-1", &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT);
    g_autoptr(Charge) small = charge_take(acme, 1, "machine web-1", NULL);
    g_assert_false(charge_resize(small, SIZE_INFINITY, NULL));
    g_assert_cmpuint(budget_reserved(host), ==, 1);
}

static void test_restore(void)
{
    g_autoptr(Budget) host = host_new(2 * GIB);
    g_autoptr(Budget) acme = tenant_budget_new(1 * GIB, host);
    g_autoptr(Charge) charge = charge_restore(acme, 3 * GIB, "machine web-1");
    g_assert_nonnull(charge);
    g_assert_cmpuint(budget_reserved(acme), ==, 3 * GIB);
    g_assert_cmpuint(budget_reserved(host), ==, 3 * GIB);
    g_assert_cmpuint(budget_left(acme), ==, 0);
    g_assert_null(charge_take(acme, 1, "machine web-2", NULL));
}

static void test_messages(void)
{
    g_autoptr(Budget) host = host_new(64 * GIB);
    g_autoptr(Budget) acme = tenant_budget_new(1 * GIB, host);
    budget_set_advice(acme, "raise it");
    g_autoptr(GError) error = NULL;
    g_autoptr(Charge) first = charge_take(acme, 924 * MIB, "machine web-1", &error);

    g_assert_null(charge_take(acme, 256 * MIB + 205 * 1024, "machine web-4 (UUID)", &error));
    g_assert_cmpstr(error->message, ==,
                    "Machine web-4 (UUID) needs 256.2M of pinned memory, but tenant acme has 100M "
                    "left of its limit of 1G: raise it.");
    g_clear_error(&error);

    g_assert_null(charge_take(acme, 100 * MIB + 4096, "machine web-4 (UUID)", &error));
    g_assert_cmpstr(error->message, ==,
                    "Machine web-4 (UUID) needs 100M (104861696 bytes) of pinned memory, but "
                    "tenant acme has 100M (104857600 bytes) left of its limit of 1G: raise it.");
    g_clear_error(&error);

    g_assert_false(charge_resize(first, 2 * GIB, &error));
    g_assert_cmpstr(error->message, ==,
                    "Machine web-1 needs 1G more of pinned memory, but tenant acme has 100M "
                    "left of its limit of 1G: raise it.");
    g_clear_error(&error);

    budget_set_limit(acme, SIZE_INFINITY);
    g_assert_null(charge_take(acme, 64 * GIB, "machine web-4", &error));
    g_assert_cmpstr(error->message, ==,
                    "Machine web-4 needs 64G of pinned memory, but the host has 63G left of its "
                    "budget of 64G: ask for less, or free some of it.");
}

/* ---- what must never happen ends the process ---- */

static void test_free_charged(void)
{
    if (g_test_subprocess()) {
        Budget *budget = tenant_budget_new(1 * GIB, NULL);
        charge_take(budget, 1, "machine web-1", NULL);
        budget_free(budget);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*assertion failed*reserved*");
}

static void test_free_charged_with_nothing(void)
{
    if (g_test_subprocess()) {
        Budget *budget = tenant_budget_new(1 * GIB, NULL);
        charge_take(budget, 0, "machine web-1", NULL);
        budget_free(budget);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*assertion failed*charges*");
}

static void test_free_parent_first(void)
{
    if (g_test_subprocess()) {
        Budget *host = host_new(1 * GIB);
        tenant_budget_new(1 * GIB, host);
        budget_free(host);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*assertion failed*children*");
}

static void test_free_null(void)
{
    budget_free(NULL);
    charge_free(NULL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/charge/take", test_take);
    g_test_add_func("/charge/resize", test_resize);
    g_test_add_func("/charge/lowered-limit", test_lowered_limit);
    g_test_add_func("/charge/check", test_check);
    g_test_add_func("/charge/put-back", test_put_back);
    g_test_add_func("/charge/overflow", test_overflow);
    g_test_add_func("/charge/restore", test_restore);
    g_test_add_func("/charge/messages", test_messages);
    g_test_add_func("/charge/free-charged", test_free_charged);
    g_test_add_func("/charge/free-charged-with-nothing", test_free_charged_with_nothing);
    g_test_add_func("/charge/free-parent-first", test_free_parent_first);
    g_test_add_func("/charge/free-null", test_free_null);
    return g_test_run();
}
