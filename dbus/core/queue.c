/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/core/queue.h"

typedef struct {
    GPtrArray *names; /* owned */
    GHashTable *set;  /* the same, not owned */
    QueueHandler handler;
    void *data;
} Line;

struct Queue {
    sd_event_source *turn;
    Line reap;
    Line gone;
};

static void line_init(Line *line)
{
    line->names = g_ptr_array_new_with_free_func(g_free);
    line->set = g_hash_table_new(g_str_hash, g_str_equal);
}

static void line_clear(Line *line)
{
    g_hash_table_unref(line->set);
    g_ptr_array_unref(line->names);
}

static void line_run(Line *line)
{
    g_autoptr(GPtrArray) names = g_steal_pointer(&line->names);
    line->names = g_ptr_array_new_with_free_func(g_free);
    g_hash_table_remove_all(line->set);
    for (unsigned i = 0; line->handler && i < names->len; i++)
        line->handler(g_ptr_array_index(names, i), line->data);
}

static int on_turn(sd_event_source *source, void *userdata)
{
    Queue *queue = userdata;
    line_run(&queue->reap);
    line_run(&queue->gone);
    return 0;
}

Queue *queue_new(sd_event *event)
{
    Queue *queue = g_new0(Queue, 1);
    line_init(&queue->reap);
    line_init(&queue->gone);
    /* Of the bus's own priority: neither keeps the other waiting for more than a turn. */
    int r = sd_event_add_defer(event, &queue->turn, on_turn, queue);
    if (r >= 0)
        r = sd_event_source_set_enabled(queue->turn, SD_EVENT_OFF);
    if (r >= 0)
        return queue;
    queue_free(queue);
    return NULL;
}

void queue_free(Queue *queue)
{
    if (!queue)
        return;
    sd_event_source_disable_unref(queue->turn);
    line_clear(&queue->reap);
    line_clear(&queue->gone);
    g_free(queue);
}

void queue_on_reap(Queue *queue, QueueHandler handler, void *data)
{
    queue->reap.handler = handler;
    queue->reap.data = data;
}

void queue_on_gone(Queue *queue, QueueHandler handler, void *data)
{
    queue->gone.handler = handler;
    queue->gone.data = data;
}

static void add(Queue *queue, Line *line, const char *name)
{
    if (g_hash_table_contains(line->set, name))
        return;
    char *copy = g_strdup(name);
    g_ptr_array_add(line->names, copy);
    g_hash_table_add(line->set, copy);
    (void)sd_event_source_set_enabled(queue->turn, SD_EVENT_ONESHOT);
}

void queue_reap(Queue *queue, const char *tenant)
{
    add(queue, &queue->reap, tenant);
}

void queue_gone(Queue *queue, const char *uuid)
{
    add(queue, &queue->gone, uuid);
}
