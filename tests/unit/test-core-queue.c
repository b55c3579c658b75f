/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What follows from an event: once, in order, and never from within. */
#include "dbus/core/queue.h"

#include <stdbool.h>
#include <string.h>

typedef struct {
    sd_event *event;
    Queue *queue;
    GString *seen; /* "r:NAME g:NAME ", in the order in which they came */
} Fixture;

static void on_reap(const char *name, void *data)
{
    Fixture *fixture = data;
    g_string_append_printf(fixture->seen, "r:%s ", name);
    if (g_str_equal(name, "again")) {
        queue_reap(fixture->queue, "again");
        queue_reap(fixture->queue, "later");
        queue_gone(fixture->queue, "its-machine");
        /* Once, also from here. */
        queue_reap(fixture->queue, "later");
    }
}

static void on_gone(const char *name, void *data)
{
    Fixture *fixture = data;
    g_string_append_printf(fixture->seen, "g:%s ", name);
    if (g_str_equal(name, "waits-again"))
        queue_gone(fixture->queue, "waits-again");
    if (g_str_equal(name, "unwatches"))
        queue_on_gone(fixture->queue, NULL, NULL);
}

static void set_up(Fixture *fixture, gconstpointer unused)
{
    g_assert_cmpint(sd_event_new(&fixture->event), >=, 0);
    fixture->queue = queue_new(fixture->event);
    fixture->seen = g_string_new(NULL);
    queue_on_reap(fixture->queue, on_reap, fixture);
    queue_on_gone(fixture->queue, on_gone, fixture);
}

static void tear_down(Fixture *fixture, gconstpointer unused)
{
    queue_free(fixture->queue);
    sd_event_unref(fixture->event);
    g_string_free(fixture->seen, TRUE);
}

/* One turn of the loop, which does not wait; whether there was something to do. */
static bool turn(const Fixture *fixture)
{
    g_string_truncate(fixture->seen, 0);
    int r = sd_event_run(fixture->event, 0);
    g_assert_cmpint(r, >=, 0);
    return r > 0;
}

static void test_nothing_from_within(Fixture *fixture, gconstpointer unused)
{
    queue_reap(fixture->queue, "acme");
    queue_gone(fixture->queue, "vm");
    g_assert_cmpstr(fixture->seen->str, ==, "");
    g_assert_true(turn(fixture));
    g_assert_cmpstr(fixture->seen->str, ==, "r:acme g:vm ");
    g_assert_false(turn(fixture));
}

static void test_reaps_first(Fixture *fixture, gconstpointer unused)
{
    queue_gone(fixture->queue, "vm-2");
    queue_reap(fixture->queue, "globex");
    queue_gone(fixture->queue, "vm-1");
    queue_reap(fixture->queue, "acme");
    turn(fixture);
    g_assert_cmpstr(fixture->seen->str, ==, "r:globex r:acme g:vm-2 g:vm-1 ");
}

static void test_once(Fixture *fixture, gconstpointer unused)
{
    for (int i = 0; i < 3; i++) {
        char name[] = "acme"; /* the queue keeps its own copy */
        queue_reap(fixture->queue, name);
        queue_gone(fixture->queue, name);
        name[0] = '!';
    }
    turn(fixture);
    g_assert_cmpstr(fixture->seen->str, ==, "r:acme g:acme ");
    queue_reap(fixture->queue, "acme");
    g_assert_true(turn(fixture));
    g_assert_cmpstr(fixture->seen->str, ==, "r:acme ");
}

/* A reap that a reap queues is the next turn's; who is gone by it is told at once. */
static void test_queued_meanwhile(Fixture *fixture, gconstpointer unused)
{
    queue_reap(fixture->queue, "again");
    queue_reap(fixture->queue, "other");
    turn(fixture);
    g_assert_cmpstr(fixture->seen->str, ==, "r:again r:other g:its-machine ");
    turn(fixture);
    g_assert_cmpstr(fixture->seen->str, ==, "r:again r:later g:its-machine ");
}

static void test_waits_again(Fixture *fixture, gconstpointer unused)
{
    queue_gone(fixture->queue, "waits-again");
    queue_gone(fixture->queue, "other");
    for (int i = 0; i < 3; i++) {
        g_assert_true(turn(fixture));
        g_assert_true(g_str_has_prefix(fixture->seen->str, "g:waits-again "));
        g_assert_cmpint(strstr(fixture->seen->str, "g:other") != NULL, ==, i == 0);
    }
}

/* Who has left hears nothing any more, not even of what was queued before. */
static void test_nobody_listens(Fixture *fixture, gconstpointer unused)
{
    queue_gone(fixture->queue, "unwatches");
    queue_gone(fixture->queue, "unheard");
    queue_reap(fixture->queue, "acme");
    queue_on_reap(fixture->queue, NULL, NULL);
    turn(fixture);
    g_assert_cmpstr(fixture->seen->str, ==, "g:unwatches ");
    g_assert_false(turn(fixture));
}

static void test_freed_with_all_in_it(Fixture *fixture, gconstpointer unused)
{
    queue_reap(fixture->queue, "acme");
    queue_gone(fixture->queue, "vm");
    g_clear_pointer(&fixture->queue, queue_free);
    g_assert_false(turn(fixture));
    g_assert_cmpstr(fixture->seen->str, ==, "");
}

int main(int argc, char *argv[])
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, function) g_test_add(path, Fixture, NULL, set_up, function, tear_down)
    ADD("/queue/nothing-from-within", test_nothing_from_within);
    ADD("/queue/reaps-first", test_reaps_first);
    ADD("/queue/once", test_once);
    ADD("/queue/queued-meanwhile", test_queued_meanwhile);
    ADD("/queue/waits-again", test_waits_again);
    ADD("/queue/nobody-listens", test_nobody_listens);
    ADD("/queue/freed-with-all-in-it", test_freed_with_all_in_it);
    return g_test_run();
}
