/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is promised to machines (kernel/bpf/promise.h), and what they claim (claim.h), compiled for
 * this machine: at its edges, and by several threads at once on the machines of one tenant. */
#include "kernel/bpf/claim.h"
#include "kernel/bpf/promise.h"

#include <glib.h>
#include <stdint.h>

#define N_THREADS 6
#define N_MACHINES 3
#define ROUNDS 60000

/* A tenant with its machines, and the host. */
typedef struct {
    struct ledger_budget tenant, host;
    struct ledger_machine machines[N_MACHINES];
} Scene;

static int take(Scene *scene, int i, uint64_t bytes, struct budget_answer *ret_answer)
{
    struct ledger_machine *machine = &scene->machines[i];
    int r = room_take(machine, bytes);

    return r == -EDQUOT ? machine_borrow(machine, &scene->tenant, &scene->host, bytes, ret_answer)
                        : r;
}

static void give_back(Scene *scene, int i, uint64_t bytes)
{
    budgets_add(&scene->tenant, &scene->host, -(__s64)machine_release(&scene->machines[i], bytes));
}

static int promise(Scene *scene, int i, uint64_t bytes, struct budget_answer *ret_answer)
{
    const struct promise_change change = {.expected = scene->machines[i].reserved, .bytes = bytes};

    return promise_set(&scene->machines[i], &scene->tenant, &scene->host, &change, ret_answer);
}

static void assert_account(const Scene *scene, int i, uint64_t reserved, uint64_t borrowed,
                           uint64_t mapped)
{
    g_assert_cmpuint(scene->machines[i].reserved, ==, reserved);
    g_assert_cmpuint(scene->machines[i].borrowed, ==, borrowed);
    g_assert_cmpuint(machine_mapped(&scene->machines[i]), ==, mapped);
}

static Scene scene_of(uint64_t limit, uint64_t budget)
{
    return (Scene){.tenant = {.limit = limit}, .host = {.limit = budget}};
}

/* The machine is never refused within its promise, and beyond it as long as somebody has room. */
static void test_map(void)
{
    Scene scene = scene_of(100, 1000);
    struct budget_answer answer = {0};

    g_assert_cmpint(promise(&scene, 0, 60, &answer), ==, 0);
    g_assert_cmpint(scene.tenant.used, ==, 60);
    g_assert_cmpint(take(&scene, 0, 60, &answer), ==, 0);
    g_assert_cmpint(scene.tenant.used, ==, 60);
    assert_account(&scene, 0, 60, 0, 60);
    /* Beyond: 40 are promised to nobody. */
    g_assert_cmpint(take(&scene, 0, 41, &answer), ==, -EDQUOT);
    g_assert_cmpuint(answer.left, ==, 40);
    g_assert_cmpint(answer.of_host, ==, 0);
    assert_account(&scene, 0, 60, 0, 60);
    g_assert_cmpint(take(&scene, 0, 30, &answer), ==, 0);
    assert_account(&scene, 0, 60, 30, 90);
    g_assert_cmpint(scene.tenant.used, ==, 90);
    /* What was borrowed is given back first. */
    give_back(&scene, 0, 40);
    assert_account(&scene, 0, 60, 0, 50);
    g_assert_cmpint(scene.tenant.used, ==, 60);
    /* A part out of the room, a part borrowed. */
    g_assert_cmpint(take(&scene, 0, 20, &answer), ==, 0);
    assert_account(&scene, 0, 60, 10, 70);
    g_assert_cmpint(scene.host.used, ==, 70);
}

static void test_siblings(void)
{
    Scene scene = scene_of(100, 1000);
    struct budget_answer answer = {0};

    g_assert_cmpint(promise(&scene, 0, 60, &answer), ==, 0);
    g_assert_cmpint(promise(&scene, 1, 41, &answer), ==, -EDQUOT);
    g_assert_cmpuint(answer.left, ==, 40);
    assert_account(&scene, 1, 0, 0, 0);
    /* A sibling takes all that nobody was promised; then the limit is lowered to nothing. */
    g_assert_cmpint(take(&scene, 1, 40, &answer), ==, 0);
    g_assert_cmpint(take(&scene, 1, 1, &answer), ==, -EDQUOT);
    scene.tenant.limit = scene.host.limit = 0;
    g_assert_cmpint(take(&scene, 0, 60, &answer), ==, 0);
    g_assert_cmpint(take(&scene, 0, 1, &answer), ==, -EDQUOT);
    g_assert_cmpuint(answer.left, ==, 0);
    /* Nor is a promise made then, but for what is mapped already. */
    g_assert_cmpint(promise(&scene, 1, 40, &answer), ==, 0);
    assert_account(&scene, 1, 40, 0, 40);
    g_assert_cmpint(promise(&scene, 1, 41, &answer), ==, -EDQUOT);
    g_assert_cmpuint(answer.left, ==, 0);
    assert_account(&scene, 1, 40, 0, 40);
    g_assert_cmpint(scene.tenant.used, ==, 100);
}

static void test_host(void)
{
    Scene scene = scene_of(LEDGER_NO_LIMIT, 100);
    struct budget_answer answer = {0};

    g_assert_cmpint(promise(&scene, 0, 101, &answer), ==, -EDQUOT);
    g_assert_cmpint(answer.of_host, ==, 1);
    g_assert_cmpuint(answer.left, ==, 100);
    g_assert_cmpint(scene.tenant.used, ==, 0);
    g_assert_cmpint(promise(&scene, 0, 100, &answer), ==, 0);
    g_assert_cmpint(take(&scene, 1, 1, &answer), ==, -EDQUOT);
    g_assert_cmpint(answer.of_host, ==, 1);
    g_assert_cmpint(scene.tenant.used, ==, 100);
    /* A tenant or a host that nobody knows limits nothing. */
    g_assert_cmpint(machine_borrow(&scene.machines[1], NULL, NULL, 5, &answer), ==, 0);
}

static void test_lower(void)
{
    Scene scene = scene_of(100, 100);
    struct budget_answer answer = {0};

    g_assert_cmpint(promise(&scene, 0, 80, &answer), ==, 0);
    g_assert_cmpint(take(&scene, 0, 50, &answer), ==, 0);
    /* Only what is not mapped is given back; the rest is, when it is unmapped. */
    g_assert_cmpint(promise(&scene, 0, 20, &answer), ==, 0);
    assert_account(&scene, 0, 20, 30, 50);
    g_assert_cmpint(scene.tenant.used, ==, 50);
    give_back(&scene, 0, 50);
    assert_account(&scene, 0, 20, 0, 0);
    g_assert_cmpint(scene.tenant.used, ==, 20);
    g_assert_cmpint(promise(&scene, 0, 0, &answer), ==, 0);
    g_assert_cmpint(scene.host.used, ==, 0);
}

static void test_change(void)
{
    Scene scene = scene_of(100, 100);
    struct budget_answer answer = {0};
    struct promise_change change = {.expected = 10, .bytes = 20};

    g_assert_cmpint(promise_set(&scene.machines[0], &scene.tenant, &scene.host, &change, &answer),
                    ==, -ESTALE);
    g_assert_cmpint(scene.tenant.used, ==, 0);
    assert_account(&scene, 0, 0, 0, 0);
    change = (struct promise_change){.bytes = 500, .forced = 1};
    g_assert_cmpint(promise_set(&scene.machines[0], &scene.tenant, &scene.host, &change, &answer),
                    ==, 0);
    assert_account(&scene, 0, 500, 0, 0);
    change = (struct promise_change){.expected = 500, .bytes = ~0ull, .forced = 1};
    g_assert_cmpint(promise_set(&scene.machines[0], &scene.tenant, &scene.host, &change, &answer),
                    ==, -EDQUOT);
    g_assert_cmpint(scene.tenant.used, ==, 500);
}

/* What a removed machine has mapped is its tenant's, until it is unmapped. */
static void test_close(void)
{
    Scene scene = scene_of(100, 100);
    struct budget_answer answer = {0};

    g_assert_cmpint(promise(&scene, 0, 80, &answer), ==, 0);
    g_assert_cmpint(take(&scene, 0, 50, &answer), ==, 0);
    machine_close(&scene.machines[0], &scene.tenant, &scene.host);
    machine_close(&scene.machines[0], &scene.tenant, &scene.host);
    g_assert_cmpint(scene.tenant.used, ==, 50);
    g_assert_cmpint(take(&scene, 0, 1, &answer), ==, -ENOENT);
    g_assert_cmpint(promise(&scene, 0, 90, &answer), ==, -ENOENT);
    budgets_add(&scene.tenant, &scene.host, (__s64)machine_add(&scene.machines[0], 7));
    g_assert_cmpint(scene.tenant.used, ==, 57);
    give_back(&scene, 0, 57);
    g_assert_cmpint(scene.tenant.used, ==, 0);
    g_assert_cmpint(scene.host.used, ==, 0);
}

/* What was mapped without having been asked for. */
static void test_add(void)
{
    Scene scene = scene_of(100, 100);
    struct budget_answer answer = {0};

    g_assert_cmpint(promise(&scene, 0, 80, &answer), ==, 0);
    budgets_add(&scene.tenant, &scene.host, (__s64)machine_add(&scene.machines[0], 150));
    assert_account(&scene, 0, 80, 70, 150);
    g_assert_cmpint(scene.tenant.used, ==, 150);
    give_back(&scene, 0, 150);
    assert_account(&scene, 0, 80, 0, 0);
    g_assert_cmpint(scene.tenant.used, ==, 80);
}

/* ---- all at once ---- */

#define PROMISE 64u
#define LIMIT 500u

static Scene shared;
static int64_t mapped[N_MACHINES]; /* at the end, by all threads */
static int64_t broken;             /* refusals within a promise, and sums above a limit */
static int64_t refused, lowered;
static int running;

/* Two threads of each machine. Together they never map more than is promised for sure (the half for
 * each), and now and then ask for what nobody can have; those of the last machine, the greedy one,
 * ask for what they sometimes can, with which their machine has mapped more than it was promised.
 */
static gpointer map_within(gpointer data)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(GPOINTER_TO_UINT(data) * 7919 + 1);
    int i = GPOINTER_TO_INT(data) % N_MACHINES;
    bool greedy = i == N_MACHINES - 1;
    uint64_t much = greedy ? 5 * PROMISE : LIMIT + 1;
    struct budget_answer answer;
    uint64_t has = 0;

    for (int round = 0; round < ROUNDS; round++) {
        uint64_t bytes = g_rand_int_range(rand, 1, 9), less;

        if (has + bytes <= PROMISE / 2) {
            if (!take(&shared, i, bytes, &answer))
                has += bytes;
            else if (!greedy)
                __sync_fetch_and_add(&broken, 1);
        } else if (!take(&shared, i, much, &answer)) {
            if (!greedy)
                __sync_fetch_and_add(&broken, 1);
            give_back(&shared, i, much);
        } else {
            __sync_fetch_and_add(&refused, 1);
        }
        if (has && g_rand_boolean(rand)) {
            less = g_rand_int_range(rand, 1, (int)has + 1);
            give_back(&shared, i, less);
            has -= less;
        }
    }
    __sync_fetch_and_add(&mapped[i], (int64_t)has);
    __sync_fetch_and_add(&running, -1);
    return NULL;
}

/* Raises and lowers promises, never below what the threads rely on, and lowers and raises the
 * limit. */
static gpointer change_promises(gpointer data)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(GPOINTER_TO_UINT(data));
    struct budget_answer answer;

    /* Some of it also where the others are faster. */
    for (int round = 0; round < 200 || READ_ONCE(running); round++) {
        int i = g_rand_int_range(rand, 0, N_MACHINES);
        uint64_t sum = 0;

        promise(&shared, i, PROMISE + g_rand_int_range(rand, 0, 300), &answer);
        if (g_rand_int_range(rand, 0, 8))
            continue;
        /* Nobody else makes promises when there is one of this thread. */
        for (int k = 0; k < N_MACHINES; k++)
            sum += READ_ONCE(shared.machines[k].reserved);
        if (GPOINTER_TO_INT(data) == 1 && sum > LIMIT)
            __sync_fetch_and_add(&broken, 1);
        WRITE_ONCE(shared.host.limit, g_rand_boolean(rand) ? 0 : LEDGER_NO_LIMIT);
        __sync_fetch_and_add(&lowered, 1);
    }
    return NULL;
}

static void run_threads(int changers)
{
    GThread *threads[N_THREADS + 2];
    struct budget_answer answer;
    int64_t used = 0;

    shared = scene_of(LIMIT, LEDGER_NO_LIMIT);
    broken = refused = lowered = 0;
    running = N_THREADS;
    for (int i = 0; i < N_MACHINES; i++) {
        mapped[i] = 0;
        g_assert_cmpint(promise(&shared, i, PROMISE, &answer), ==, 0);
    }
    for (int i = 0; i < N_THREADS; i++)
        threads[i] = g_thread_new("map", map_within, GINT_TO_POINTER(i));
    for (int i = 0; i < changers; i++)
        threads[N_THREADS + i] =
            g_thread_new("promise", change_promises, GINT_TO_POINTER(changers + i));
    for (int i = 0; i < N_THREADS + changers; i++)
        g_thread_join(threads[i]);
    g_assert_cmpint(broken, ==, 0);
    g_assert_cmpint(refused, >, 0);
    g_assert_cmpint(lowered, >, 0);
    for (int i = 0; i < N_MACHINES; i++) {
        g_assert_cmpint(machine_mapped(&shared.machines[i]), ==, mapped[i]);
        used += (int64_t)(shared.machines[i].reserved + shared.machines[i].borrowed);
    }
    g_assert_cmpint(shared.tenant.used, ==, used);
    g_assert_cmpint(shared.host.used, ==, used);
    for (int i = 0; i < N_MACHINES; i++) {
        give_back(&shared, i, mapped[i]);
        g_assert_cmpint(promise(&shared, i, 0, &answer), ==, 0);
        g_assert_cmpuint(shared.machines[i].borrowed, ==, 0);
    }
    g_assert_cmpint(shared.tenant.used, ==, 0);
    g_assert_cmpint(shared.host.used, ==, 0);
}

static void test_threads_map(void)
{
    run_threads(1);
}

static void test_threads_promise(void)
{
    run_threads(2);
}

/* Removed in the middle of it: what is counted in the end is what is mapped. */
static gpointer map_anything(gpointer data)
{
    struct budget_answer answer;
    uint64_t has = 0;

    while (READ_ONCE(running)) {
        int r = take(&shared, 0, 3, &answer);

        if (r == -ENOENT)
            break;
        has += r ? 0 : 3;
        if (has > 30) {
            give_back(&shared, 0, 17);
            has -= 17;
        }
    }
    __sync_fetch_and_add(&mapped[0], (int64_t)has);
    return NULL;
}

static void test_threads_close(void)
{
    for (int round = 0; round < 300; round++) {
        GThread *threads[3];
        struct budget_answer answer;

        shared = scene_of(60, LEDGER_NO_LIMIT);
        mapped[0] = 0;
        running = 1;
        g_assert_cmpint(promise(&shared, 0, 40, &answer), ==, 0);
        for (int i = 0; i < 3; i++)
            threads[i] = g_thread_new("map", map_anything, NULL);
        while (shared.machines[0].room == 40)
            g_thread_yield();
        machine_close(&shared.machines[0], &shared.tenant, &shared.host);
        for (int i = 0; i < 3; i++)
            g_thread_join(threads[i]);
        g_assert_cmpint(shared.tenant.used, ==, mapped[0]);
        g_assert_cmpint(shared.host.used, ==, mapped[0]);
    }
}

/* ---- claims ---- */

static void test_claim(void)
{
    struct ledger_unit unit = {0};
    __u32 holder = 0;

    g_assert_cmpint(unit_claim(&unit, 5, 0, &holder), ==, 0);
    g_assert_cmpint(unit_claim(&unit, 5, 0, &holder), ==, 0);
    g_assert_cmpint(unit_claim(&unit, 6, 0, &holder), ==, -EBUSY);
    g_assert_cmpuint(holder, ==, 5);
    unit_release(&unit, 6);
    unit_release(&unit, 5);
    g_assert_cmpint(unit_claim(&unit, 6, 0, &holder), ==, -EBUSY);
    unit_release(&unit, 5);
    g_assert_cmphex(unit.claim, ==, 0);
    unit_release(&unit, 5);
    g_assert_cmphex(unit.claim, ==, 0);
    /* Of one that is removed it is nobody's; its count does not become the next one's. */
    g_assert_cmpint(unit_claim(&unit, 5, 0, &holder), ==, 0);
    g_assert_cmpint(unit_claim(&unit, 5, 0, &holder), ==, 0);
    g_assert_cmpint(unit_claim(&unit, 7, 5, &holder), ==, 0);
    g_assert_cmphex(unit.claim, ==, LEDGER_CLAIM(7, 1));
}

static struct ledger_unit contested;
static int holders; /* machines that have it now */
static int claims;

static gpointer claim_and_release(gpointer data)
{
    uint32_t machine = GPOINTER_TO_UINT(data);
    __u32 holder;

    for (int i = 0; i < ROUNDS; i++) {
        int r = unit_claim(&contested, machine, 0, &holder);

        if (r)
            continue;
        __sync_fetch_and_add(&claims, 1);
        if (__sync_fetch_and_add(&holders, 1) || unit_claim(&contested, machine, 0, &holder))
            __sync_fetch_and_add(&broken, 1);
        __sync_fetch_and_add(&holders, -1);
        unit_release(&contested, machine);
        unit_release(&contested, machine);
    }
    return NULL;
}

static void test_threads_claim(void)
{
    GThread *threads[N_THREADS];

    broken = 0;
    for (int i = 0; i < N_THREADS; i++)
        threads[i] = g_thread_new("claim", claim_and_release, GINT_TO_POINTER(i + 1));
    for (int i = 0; i < N_THREADS; i++)
        g_thread_join(threads[i]);
    g_assert_cmpint(claims, >, 0);
    g_assert_cmpint(broken, ==, 0);
    g_assert_cmphex(contested.claim, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/promise/map", test_map);
    g_test_add_func("/promise/siblings", test_siblings);
    g_test_add_func("/promise/host", test_host);
    g_test_add_func("/promise/lower", test_lower);
    g_test_add_func("/promise/change", test_change);
    g_test_add_func("/promise/close", test_close);
    g_test_add_func("/promise/add", test_add);
    g_test_add_func("/promise/claim", test_claim);
    g_test_add_func("/promise/threads/map", test_threads_map);
    g_test_add_func("/promise/threads/promise", test_threads_promise);
    g_test_add_func("/promise/threads/close", test_threads_close);
    g_test_add_func("/promise/threads/claim", test_threads_claim);
    return g_test_run();
}
