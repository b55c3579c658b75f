/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Jobs on threads, and what comes of them on the event loop. */
#include "dbus/base/worker.h"

#include <string.h>

typedef struct {
    sd_event *event;
    Worker *worker;
    GMutex mutex;
    GCond cond;
    unsigned running, most; /* jobs that run, and the most that ever did at once */
    unsigned left;          /* jobs and posts until the loop ends */
    GString *order;         /* of results, on the loop */
} Fixture;

static void fixture_set_up(Fixture *fixture, gconstpointer n_threads)
{
    g_assert_cmpint(sd_event_new(&fixture->event), >=, 0);
    g_assert_cmpint(
        worker_new(fixture->event, "test", GPOINTER_TO_UINT(n_threads), &fixture->worker), ==, 0);
    fixture->order = g_string_new(NULL);
}

static void fixture_tear_down(Fixture *fixture, gconstpointer n_threads)
{
    worker_free(fixture->worker);
    sd_event_unref(fixture->event);
    g_string_free(fixture->order, TRUE);
}

typedef struct {
    Fixture *fixture;
    unsigned wait_for; /* how many must run at once before it ends */
    char letter;
    GThread *ran_in, *done_in;
} Task;

static void run_task(void *data)
{
    Task *task = data;
    Fixture *fixture = task->fixture;
    task->ran_in = g_thread_self();
    g_mutex_lock(&fixture->mutex);
    fixture->running++;
    fixture->most = MAX(fixture->most, fixture->running);
    g_cond_broadcast(&fixture->cond);
    while (fixture->most < task->wait_for)
        g_cond_wait(&fixture->cond, &fixture->mutex);
    fixture->running--;
    g_mutex_unlock(&fixture->mutex);
}

static void on_task(void *data)
{
    Task *task = data;
    task->done_in = g_thread_self();
    if (task->letter)
        g_string_append_c(task->fixture->order, task->letter);
    if (--task->fixture->left == 0)
        sd_event_exit(task->fixture->event, 0);
}

/* Four calls that wait for each other end only when none of them waits for a thread; a fifth does.
 */
static void test_at_once(Fixture *fixture, gconstpointer n_threads)
{
    Task tasks[50] = {0};
    fixture->left = G_N_ELEMENTS(tasks);
    for (size_t i = 0; i < G_N_ELEMENTS(tasks); i++) {
        tasks[i] = (Task){.fixture = fixture, .wait_for = GPOINTER_TO_UINT(n_threads)};
        worker_queue(fixture->worker, run_task, on_task, &tasks[i]);
    }
    g_assert_cmpint(sd_event_loop(fixture->event), ==, 0);
    g_assert_cmpuint(fixture->most, ==, GPOINTER_TO_UINT(n_threads));
    for (size_t i = 0; i < G_N_ELEMENTS(tasks); i++) {
        g_assert_true(tasks[i].done_in == g_thread_self());
        g_assert_true(tasks[i].ran_in != g_thread_self());
    }
}

static void test_in_order(Fixture *fixture, gconstpointer n_threads)
{
    Task tasks[26];
    fixture->left = G_N_ELEMENTS(tasks);
    for (size_t i = 0; i < G_N_ELEMENTS(tasks); i++) {
        tasks[i] = (Task){.fixture = fixture, .letter = (char)('a' + i)};
        worker_queue(fixture->worker, run_task, on_task, &tasks[i]);
    }
    g_assert_cmpint(sd_event_loop(fixture->event), ==, 0);
    g_assert_cmpstr(fixture->order->str, ==, "abcdefghijklmnopqrstuvwxyz");
    g_assert_cmpuint(fixture->most, ==, 1);
}

static void *post_all(void *data)
{
    Task *tasks = data;
    for (size_t i = 0; i < 26; i++)
        worker_post(tasks[0].fixture->worker, on_task, &tasks[i]);
    return NULL;
}

static void test_post(Fixture *fixture, gconstpointer n_threads)
{
    Task tasks[26];
    fixture->left = G_N_ELEMENTS(tasks);
    for (size_t i = 0; i < G_N_ELEMENTS(tasks); i++)
        tasks[i] = (Task){.fixture = fixture, .letter = (char)('a' + i)};
    GThread *thread = g_thread_new("poster", post_all, tasks);
    g_assert_cmpint(sd_event_loop(fixture->event), ==, 0);
    g_thread_join(thread);
    g_assert_cmpstr(fixture->order->str, ==, "abcdefghijklmnopqrstuvwxyz");
    g_assert_true(tasks[25].done_in == g_thread_self());
}

/* Without a loop: results are handed in by worker_free(), of a job that another one queued, too. */
static void on_first(void *data)
{
    Task *tasks = data;
    on_task(&tasks[0]);
    worker_queue(tasks[0].fixture->worker, run_task, on_task, &tasks[1]);
}

static void test_free(Fixture *fixture, gconstpointer n_threads)
{
    Task tasks[] = {{.fixture = fixture, .letter = 'a'},
                    {.fixture = fixture, .letter = 'b'},
                    {.fixture = fixture, .letter = 'p'}};
    fixture->left = G_MAXUINT;
    worker_queue(fixture->worker, run_task, on_first, tasks);
    worker_post(fixture->worker, on_task, &tasks[2]);
    worker_free(fixture->worker);
    fixture->worker = NULL;
    g_assert_cmpuint(fixture->order->len, ==, 3);
    g_assert_nonnull(strstr(fixture->order->str, "a"));
    g_assert_nonnull(strstr(fixture->order->str, "b"));
}

/* One that hangs is left behind: a service that is told to end does. Last: it stays. */
static void test_free_hanging(void)
{
    Fixture *fixture = g_new0(Fixture, 1);
    Task *task = g_new0(Task, 1);
    fixture_set_up(fixture, GUINT_TO_POINTER(1));
    *task = (Task){.fixture = fixture, .wait_for = 2};
    worker_queue(fixture->worker, run_task, on_task, task);
    gint64 begin = g_get_monotonic_time();
    worker_free(fixture->worker);
    g_assert_cmpint(g_get_monotonic_time() - begin, >=, 2 * G_USEC_PER_SEC - 100 * 1000);
    g_assert_null(task->done_in);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, n_threads, function)                                                             \
    g_test_add(path, Fixture, GUINT_TO_POINTER(n_threads), fixture_set_up, function,               \
               fixture_tear_down)
    ADD("/worker/at-once", 4, test_at_once);
    ADD("/worker/in-order", 1, test_in_order);
    ADD("/worker/post", 1, test_post);
    ADD("/worker/free", 1, test_free);
    g_test_add_func("/worker/free-hanging", test_free_hanging);
    return g_test_run();
}
