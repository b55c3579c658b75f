/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The arithmetic of the BPF programs (kernel/bpf/reserve.h, extents.h), compiled for this machine:
 * at its edges, and by several threads at once on one account. */
#include "kernel/bpf/reserve.h"

#include <glib.h>
#include <stdint.h>
#include <string.h>

#define N_EXTENTS 64 /* a power of two */
#define N_THREADS 4
#define ROUNDS 200000

static struct ledger_extent extents[N_EXTENTS];

#include "kernel/bpf/extents.h"

static __always_inline struct ledger_extent *extent_at(__u32 number)
{
    return number && number <= N_EXTENTS ? &extents[number - 1] : NULL;
}

static void test_left(void)
{
    static const struct {
        const char *what;
        uint64_t limit;
        int64_t used, credit;
        uint64_t left;
        bool over;
    } rows[] = {
        {"nothing mapped", 100, 0, 0, 100, false},
        {"the last byte is left", 100, 99, 0, 1, false},
        {"all mapped", 100, 100, 0, 0, false},
        {"lowered below what is mapped", 100, 101, 0, 0, true},
        {"no limit", LEDGER_NO_LIMIT, 1ll << 62, 0, LEDGER_NO_LIMIT, false},
        {"a limit of nothing", 0, 0, 0, 0, false},
        {"credit is not counted", 100, 120, 20, 0, false},
        {"more credit than needed", 100, 120, 60, 40, false},
        {"more credit than mapped", 100, 10, 20, 100, false},
        {"given back more than was mapped", 100, -5, 0, 100, false},
        {"the largest limit that is one", LEDGER_NO_LIMIT - 1, 0, 0, LEDGER_NO_LIMIT - 1, false},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        const struct ledger_budget budget = {
            .limit = rows[i].limit, .used = rows[i].used, .credit = rows[i].credit};

        g_test_message("%s", rows[i].what);
        g_assert_cmpuint(budget_left(&budget, budget.used, false), ==, rows[i].left);
        g_assert_cmpint(budget_is_over(&budget), ==, rows[i].over);
    }
}

static void test_reserve(void)
{
    static const struct {
        const char *what;
        uint64_t limit;
        int64_t used, credit;
        uint64_t bytes;
        int r;
    } rows[] = {
        {"exactly what is left", 100, 60, 0, 40, 0},
        {"one byte more", 100, 60, 0, 41, -EDQUOT},
        {"nothing, at the limit", 100, 100, 0, 0, 0},
        {"nothing, above the limit", 100, 120, 0, 0, 0},
        {"a byte, above the limit", 100, 120, 0, 1, -EDQUOT},
        {"what the credit leaves", 100, 120, 30, 10, 0},
        {"and no more", 100, 120, 30, 11, -EDQUOT},
        {"anything without a limit", LEDGER_NO_LIMIT, 1ll << 40, 0, 1ull << 56, 0},
        {"more than an address space has", 100, 0, 0, ~0ull, -EDQUOT},
        {"the same, below the largest limit", LEDGER_NO_LIMIT - 1, 1, 0, ~0ull - 1, -EDQUOT},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        struct ledger_budget budget = {
            .limit = rows[i].limit, .used = rows[i].used, .credit = rows[i].credit};
        uint64_t before = budget_left(&budget, budget.used, false);
        __u64 left = 0;

        g_test_message("%s", rows[i].what);
        g_assert_cmpint(budget_take(&budget, rows[i].bytes, false, &left), ==, rows[i].r);
        g_assert_cmpuint(left, ==, before);
        g_assert_cmpint(budget.used, ==, rows[i].used + (rows[i].r ? 0 : (int64_t)rows[i].bytes));
    }
}

static void test_release(void)
{
    struct ledger_tenant tenant = {.budget = {.limit = 100, .used = 100, .credit = 30}};

    tenant_note_release(&tenant, 10);
    g_assert_cmpint(tenant.budget.credit, ==, 20);
    /* It never falls below 0. */
    tenant_note_release(&tenant, 50);
    g_assert_cmpint(tenant.budget.credit, ==, 0);
    g_assert_cmpuint(tenant.releases, ==, 2);
}

static void test_credit(void)
{
    struct ledger_tenant tenant = {.budget = {.limit = 100, .used = 100}, .releases = 7};
    __u64 left;

    g_assert_cmpint(tenant_set_credit(&tenant, 40, 7), ==, 0);
    g_assert_cmpint(tenant.budget.credit, ==, 40);
    /* Something was given back since it was computed. */
    g_assert_cmpint(tenant_set_credit(&tenant, 60, 6), ==, -ESTALE);
    g_assert_cmpint(tenant.budget.credit, ==, 40);
    /* It may be mapped, but not promised. */
    g_assert_cmpint(budget_take(&tenant.budget, 1, true, &left), ==, -EDQUOT);
    g_assert_cmpint(budget_take(&tenant.budget, 40, false, &left), ==, 0);
}

static void test_leaks(void)
{
    struct ledger_leaks leaks = {0};
    __s64 bytes = 0;
    uint64_t count;

    leaks_add(&leaks, 100);
    leaks_add(&leaks, 50);
    g_assert_cmpint(leaks.unmatched, ==, 150);
    /* A range that is found is counted already, as far as something was leaked. */
    g_assert_cmpuint(leaks_match(&leaks, 120), ==, 0);
    g_assert_cmpint(leaks.unmatched, ==, 30);
    g_assert_cmpuint(leaks_match(&leaks, 70), ==, 40);
    g_assert_cmpint(leaks.unmatched, ==, 0);
    g_assert_cmpuint(leaks_match(&leaks, 10), ==, 10);

    leaks_add(&leaks, 80);
    count = leaks.count;
    leaks_add(&leaks, 20);
    g_assert_cmpint(leaks_drop(&leaks, count, &bytes), ==, -ESTALE);
    g_assert_cmpint(leaks.unmatched, ==, 100);
    g_assert_cmpint(leaks_drop(&leaks, leaks.count, &bytes), ==, 0);
    g_assert_cmpint(leaks.unmatched, ==, 0);
    g_assert_cmpint(bytes, ==, 100);
}

static void test_charge(void)
{
    const __u64 number = 0x123ull << LEDGER_CHARGE_BITS;
    __u64 charge = number | 5, was = 99;

    g_assert_cmpint(charge_set(&charge, 8, &was), ==, 0);
    g_assert_cmpuint(was, ==, 5);
    g_assert_cmphex(charge, ==, number | 8);
    /* The largest number of pages that is not the mark of a range that is taken. */
    g_assert_cmpint(charge_set(&charge, LEDGER_CHARGE_TAKEN - 1, &was), ==, 0);
    g_assert_cmphex(charge, ==, number | (LEDGER_CHARGE_TAKEN - 1));
    g_assert_false(charge_take(&charge, number | 8));
    g_assert_true(charge_take(&charge, number | (LEDGER_CHARGE_TAKEN - 1)));
    g_assert_true(LEDGER_IS_TAKEN(charge));
    g_assert_false(charge_take(&charge, charge));
    was = 99;
    g_assert_cmpint(charge_set(&charge, 1, &was), ==, -ESTALE);
    g_assert_cmpuint(was, ==, 99);
    g_assert_cmphex(charge, ==, number | LEDGER_CHARGE_TAKEN);
}

static void test_peak(void)
{
    __s64 pinned = 10, peak = 12;
    __u64 moves = 0;

    sum_add_pages(&moves, &pinned, &peak, 1);
    g_assert_cmpint(peak, ==, 12);
    sum_add_pages(&moves, &pinned, &peak, 5);
    g_assert_cmpint(peak, ==, 16);
    sum_add_pages(&moves, &pinned, &peak, -16);
    g_assert_cmpint(pinned, ==, 0);
    g_assert_cmpint(peak, ==, 16);
    g_assert_cmpuint(moves, ==, 3);
}

static void clear_extents(void)
{
    memset(extents, 0, sizeof(extents));
}

static void test_extent(void)
{
    const struct memory memory = {.source = 0x1000, .start = 0x2000, .bytes = 4096, .tenant = 1};
    struct memory other = memory;
    uint32_t number;

    clear_extents();
    g_assert_cmpuint(extent_search(&memory, N_EXTENTS, false), ==, 0);
    number = extent_search(&memory, N_EXTENTS, true);
    g_assert_cmpuint(number, >, 0);
    g_assert_cmpuint(extent_search(&memory, N_EXTENTS, false), ==, number);
    /* Nothing but the very same is the same. */
    other.tenant = 2;
    g_assert_cmpuint(extent_search(&other, N_EXTENTS, false), ==, 0);
    other = memory;
    other.machine = 3;
    g_assert_cmpuint(extent_search(&other, N_EXTENTS, false), ==, 0);
    other = memory;
    other.bytes = 8192;
    g_assert_cmpuint(extent_search(&other, N_EXTENTS, false), ==, 0);
    other = memory;
    other.start += 4096;
    g_assert_cmpuint(extent_search(&other, N_EXTENTS, false), ==, 0);
    /* The last reference gives the bytes back, and nobody finds it afterwards. */
    g_assert_cmpuint(extent_put(number), ==, 0);
    g_assert_cmpuint(extent_put(number), ==, 4096);
    g_assert_cmpuint(extent_search(&memory, N_EXTENTS, false), ==, 0);
    g_assert_cmpuint(extent_put(0), ==, 0);
    g_assert_cmpuint(extent_put(N_EXTENTS + 1), ==, 0);
}

static void test_extent_is_full(void)
{
    const struct memory memory = {.source = 0x1000, .start = 0x2000, .bytes = 4096, .tenant = 1};
    uint32_t number;

    clear_extents();
    number = extent_search(&memory, N_EXTENTS, true);
    for (int refs = 1; refs < LEDGER_EXTENT_MAX_REFS; refs++)
        g_assert_cmpuint(extent_search(&memory, N_EXTENTS, false), ==, number);
    g_assert_cmpuint(extent_search(&memory, N_EXTENTS, false), ==, 0);
    for (int refs = LEDGER_EXTENT_MAX_REFS; refs > 1; refs--)
        g_assert_cmpuint(extent_put(number), ==, 0);
    g_assert_cmpuint(extent_put(number), ==, 4096);

    /* The window has room for so many that are made anew, and for no more. */
    for (int i = 0; i < EXTENT_WINDOW; i++)
        g_assert_cmpuint(extent_search(&memory, N_EXTENTS, true), >, 0);
    g_assert_cmpuint(extent_search(&memory, N_EXTENTS, true), ==, 0);
}

/* An element that is used again is another extent, also for who has its old state in hand. */
static void test_extent_is_another(void)
{
    const struct memory first = {.source = 1, .start = 0, .bytes = 4096, .tenant = 1};
    const struct memory second = {.source = 2, .start = 0, .bytes = 8192, .tenant = 1};
    struct ledger_extent extent = {0};
    uint64_t state;

    g_assert_true(extent_make(&extent, &first));
    g_assert_false(extent_make(&extent, &second));
    state = extent.state;
    extent.state--;
    g_assert_true(extent_make(&extent, &second));
    g_assert_cmphex(extent.state, !=, state);
    g_assert_false(extent_ref(&extent, &first));
    g_assert_true(extent_ref(&extent, &second));
}

/* What all threads work on. */
typedef struct {
    struct ledger_tenant tenant;
    __s64 pinned, peak;
    __u64 moves;
    __u64 charge;
    int64_t charged;  /* sum of what charge_set() said it has changed */
    int64_t over;     /* how often somebody saw more mapped than the limit */
    int64_t reserved; /* bytes that somebody has at the end */
    int64_t refused;
} Shared;

static void run_threads(GThreadFunc function, Shared *shared)
{
    GThread *threads[N_THREADS];

    for (int i = 0; i < N_THREADS; i++)
        threads[i] = g_thread_new("hammer", function, shared);
    for (int i = 0; i < N_THREADS; i++)
        g_thread_join(threads[i]);
}

static gpointer reserve_and_release(gpointer data)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(GPOINTER_TO_UINT(g_thread_self()));
    Shared *shared = data;
    int64_t has = 0;

    for (int i = 0; i < ROUNDS; i++) {
        uint64_t bytes = g_rand_int_range(rand, 1, 40);
        __u64 left;

        if (!budget_take(&shared->tenant.budget, bytes, false, &left))
            has += bytes;
        else
            __sync_fetch_and_add(&shared->refused, 1);
        /* An exchange that failed TRIES times may exceed the limit, for a moment, by what one
         * thread asks for. */
        if (READ_ONCE(shared->tenant.budget.used) >
            (int64_t)shared->tenant.budget.limit + 40 * N_THREADS)
            __sync_fetch_and_add(&shared->over, 1);
        if (has > 0 && g_rand_boolean(rand)) {
            uint64_t less = g_rand_int_range(rand, 1, has + 1);

            tenant_note_release(&shared->tenant, less);
            budget_add(&shared->tenant.budget, -(__s64)less);
            has -= less;
        }
    }
    __sync_fetch_and_add(&shared->reserved, has);
    return NULL;
}

static void test_threads_reserve(void)
{
    Shared shared = {.tenant = {.budget = {.limit = 100}}};

    run_threads(reserve_and_release, &shared);
    g_assert_cmpint(shared.over, ==, 0);
    g_assert_cmpint(shared.refused, >, 0);
    g_assert_cmpint(shared.tenant.budget.used, ==, shared.reserved);
    g_assert_cmpint(shared.tenant.budget.used, <=, 100);
}

static gpointer leak_and_match(gpointer data)
{
    Shared *shared = data;
    struct ledger_tenant *tenant = &shared->tenant;

    for (int i = 0; i < ROUNDS; i++) {
        __s64 bytes;
        __u64 left;

        g_assert_cmpint(budget_take(&tenant->budget, 8, false, &left), ==, 0);
        leaks_add(&tenant->leaks, 8);
        if (i % 3)
            budget_add(&tenant->budget, (__s64)leaks_match(&tenant->leaks, 8));
        if (i % 7 == 0 && !leaks_drop(&tenant->leaks, READ_ONCE(tenant->leaks.count), &bytes))
            budget_add(&tenant->budget, -bytes);
    }
    return NULL;
}

/* Each leaked reservation is matched by a range, or dropped: what is used then is the ranges' and
 * what is not settled yet. */
static void test_threads_leak(void)
{
    Shared shared = {.tenant = {.budget = {.limit = LEDGER_NO_LIMIT}}};
    const int64_t ranges = (int64_t)N_THREADS * (ROUNDS - (ROUNDS + 2) / 3);

    run_threads(leak_and_match, &shared);
    g_assert_cmpint(shared.tenant.leaks.unmatched, >=, 0);
    g_assert_cmpint(shared.tenant.budget.used - shared.tenant.leaks.unmatched, ==, ranges * 8);
}

static gpointer charge_and_sum(gpointer data)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(GPOINTER_TO_UINT(g_thread_self()));
    Shared *shared = data;

    for (int i = 0; i < ROUNDS; i++) {
        __u64 is = g_rand_int_range(rand, 0, 1000), was;

        if (charge_set(&shared->charge, is, &was))
            continue;
        __sync_fetch_and_add(&shared->charged, (int64_t)(is - was));
        sum_add_pages(&shared->moves, &shared->pinned, &shared->peak, (__s64)(is - was));
    }
    return NULL;
}

/* Whoever exchanges a charge adds what he has exchanged: the sum is the charge at the end. */
static void test_threads_charge(void)
{
    const __u64 number = 7ull << LEDGER_CHARGE_BITS;
    Shared shared = {.charge = number};

    run_threads(charge_and_sum, &shared);
    g_assert_cmphex(shared.charge & ~LEDGER_CHARGE_TAKEN, ==, number);
    g_assert_cmpint(shared.charged, ==, LEDGER_CHARGED(shared.charge));
    g_assert_cmpint(shared.pinned, ==, LEDGER_CHARGED(shared.charge));
    g_assert_cmpint(shared.peak, >=, shared.pinned);
    g_assert_cmpint(shared.peak, <=, (int64_t)1000 * N_THREADS);
}

static gpointer take_once(gpointer data)
{
    Shared *shared = data;

    for (int i = 0; i < ROUNDS; i++) {
        __u64 was;

        charge_set(&shared->charge, i, &was);
        if (i % 100 == 99 && charge_take(&shared->charge, READ_ONCE(shared->charge)))
            __sync_fetch_and_add(&shared->charged, 1);
    }
    return NULL;
}

static void test_threads_take(void)
{
    Shared shared = {0};

    run_threads(take_once, &shared);
    g_assert_cmpint(shared.charged, ==, 1);
    g_assert_true(LEDGER_IS_TAKEN(shared.charge));
}

/* Maps some memory as reserve_memory() and take_bytes() do it: what the tenant has mapped in the
 * end is nothing, whoever found whose extent. */
static gpointer map_and_unmap(gpointer data)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(GPOINTER_TO_UINT(g_thread_self()));
    Shared *shared = data;

    for (int i = 0; i < ROUNDS; i++) {
        const struct memory memory = {.source = 1 + g_rand_int_range(rand, 0, 6),
                                      .start = 0,
                                      .bytes = 4096 * (1 + g_rand_int_range(rand, 0, 2)),
                                      .tenant = 1};
        uint32_t number = extent_search(&memory, N_EXTENTS, false);
        __u64 left;

        if (!number) {
            if (budget_take(&shared->tenant.budget, memory.bytes, false, &left))
                continue;
            number = extent_search(&memory, N_EXTENTS, true);
        }
        if (number && !extent_is_of(extent_at(number), &memory))
            __sync_fetch_and_add(&shared->over, 1);
        budget_add(&shared->tenant.budget, -(__s64)(number ? extent_put(number) : memory.bytes));
    }
    return NULL;
}

static void test_threads_extents(void)
{
    Shared shared = {.tenant = {.budget = {.limit = LEDGER_NO_LIMIT}}};

    clear_extents();
    run_threads(map_and_unmap, &shared);
    g_assert_cmpint(shared.over, ==, 0);
    g_assert_cmpint(shared.tenant.budget.used, ==, 0);
    for (int i = 0; i < N_EXTENTS; i++)
        g_assert_cmpuint(extents[i].state & (EXTENT_REFS | EXTENT_WRITING), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/bpf/left", test_left);
    g_test_add_func("/bpf/reserve", test_reserve);
    g_test_add_func("/bpf/release", test_release);
    g_test_add_func("/bpf/credit", test_credit);
    g_test_add_func("/bpf/leaks", test_leaks);
    g_test_add_func("/bpf/charge", test_charge);
    g_test_add_func("/bpf/peak", test_peak);
    g_test_add_func("/bpf/extent", test_extent);
    g_test_add_func("/bpf/extent-is-full", test_extent_is_full);
    g_test_add_func("/bpf/extent-is-another", test_extent_is_another);
    g_test_add_func("/bpf/threads/reserve", test_threads_reserve);
    g_test_add_func("/bpf/threads/leak", test_threads_leak);
    g_test_add_func("/bpf/threads/charge", test_threads_charge);
    g_test_add_func("/bpf/threads/take", test_threads_take);
    g_test_add_func("/bpf/threads/extents", test_threads_extents);
    return g_test_run();
}
