/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/base/worker.h"

#include "kernel/base/cleanup.h"

#include <poll.h>
#include <sys/eventfd.h>

#define PATIENCE_MS 2000

typedef struct {
    void (*run)(void *data);
    void (*done)(void *data);
    void *data;
} Job;

struct Worker {
    char *name;
    GThread *thread; /* NULL before the first job */
    GAsyncQueue *jobs;
    GAsyncQueue *results;
    int result_event; /* counts what is in results */
    sd_event_source *source;
};

static void *worker_main(void *data)
{
    Worker *worker = data;
    for (;;) {
        Job *job = g_async_queue_pop(worker->jobs);
        bool last = !job->run;
        if (!last)
            job->run(job->data);
        g_async_queue_push(worker->results, job);
        (void)eventfd_write(worker->result_event, 1);
        if (last)
            return NULL;
    }
}

/* Returns whether the thread said goodbye. */
static bool worker_take_results(Worker *worker)
{
    eventfd_t count;
    (void)eventfd_read(worker->result_event, &count);
    bool last = false;
    Job *job;
    while ((job = g_async_queue_try_pop(worker->results))) {
        if (job->done)
            job->done(job->data);
        else
            last = true;
        g_free(job);
    }
    return last;
}

static int on_result(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    (void)worker_take_results(userdata);
    return 0;
}

int worker_new(sd_event *event, const char *name, Worker **ret_worker)
{
    autoclose int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    Worker *worker = g_new0(Worker, 1);
    int r = sd_event_add_io(event, &worker->source, fd, EPOLLIN, on_result, worker);
    if (r < 0) {
        g_free(worker);
        return r;
    }
    worker->name = g_strdup(name);
    worker->jobs = g_async_queue_new();
    worker->results = g_async_queue_new();
    worker->result_event = TAKE_FD(fd);
    *ret_worker = worker;
    return 0;
}

static void worker_push(Worker *worker, void (*run)(void *), void (*done)(void *), void *data)
{
    Job *job = g_new(Job, 1);
    *job = (Job){.run = run, .done = done, .data = data};
    g_async_queue_push(worker->jobs, job);
}

void worker_queue(Worker *worker, void (*run)(void *data), void (*done)(void *data), void *data)
{
    if (!worker->thread)
        worker->thread = g_thread_new(worker->name, worker_main, worker);
    worker_push(worker, run, done, data);
}

/* A job without functions ends the thread. */
static bool worker_stop(Worker *worker)
{
    worker_push(worker, NULL, NULL, NULL);
    struct pollfd pollfd = {.fd = worker->result_event, .events = POLLIN};
    while (!worker_take_results(worker)) {
        if (poll(&pollfd, 1, PATIENCE_MS) == 0)
            return false;
    }
    g_thread_join(worker->thread);
    return true;
}

void worker_free(Worker *worker)
{
    if (!worker)
        return;
    sd_event_source_disable_unref(worker->source);
    if (worker->thread && !worker_stop(worker))
        return; /* It still uses all of this; the process ends soon. */
    g_async_queue_unref(worker->jobs);
    g_async_queue_unref(worker->results);
    close_fd(worker->result_event);
    g_free(worker->name);
    g_free(worker);
}
