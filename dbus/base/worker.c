/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/base/worker.h"

#include "kernel/base/cleanup.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

#define PATIENCE_MS 2000

typedef struct {
    void (*run)(void *data); /* NULL: only posted */
    void (*done)(void *data);
    void *data;
} Job;

struct Worker {
    const char *name;
    GThreadPool *threads;
    unsigned n_queued; /* jobs whose results are not handed in yet; the loop's thread only */
    GAsyncQueue *results;
    int result_event; /* readable when there may be results */
    sd_event_source *source;
};

static void worker_push(Worker *worker, Job *job)
{
    g_async_queue_push(worker->results, job);
    (void)eventfd_write(worker->result_event, 1);
}

static void on_job(void *data, void *userdata)
{
    Job *job = data;
    Worker *worker = userdata;
    /* GLib lends one thread to several pools, and calls it as it likes. */
    (void)pthread_setname_np(pthread_self(), worker->name);
    job->run(job->data);
    worker_push(worker, job);
}

static void worker_take_results(Worker *worker)
{
    /* Read first: a result that comes after it makes the descriptor readable again. */
    eventfd_t count;
    (void)eventfd_read(worker->result_event, &count);
    Job *job;
    while ((job = g_async_queue_try_pop(worker->results))) {
        if (job->run)
            worker->n_queued--;
        job->done(job->data);
        g_free(job);
    }
}

static int on_result(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    worker_take_results(userdata);
    return 0;
}

int worker_new(sd_event *event, const char *name, unsigned n_threads, Worker **ret_worker)
{
    autoclose int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    g_autofree Worker *worker = g_new0(Worker, 1);
    int r = sd_event_add_io(event, &worker->source, fd, EPOLLIN, on_result, worker);
    if (r < 0)
        return r;
    worker->name = name;
    worker->threads = g_thread_pool_new(on_job, worker, (int)n_threads, FALSE, NULL);
    worker->results = g_async_queue_new();
    worker->result_event = TAKE_FD(fd);
    *ret_worker = g_steal_pointer(&worker);
    return 0;
}

static Job *job_new(void (*run)(void *data), void (*done)(void *data), void *data)
{
    Job *job = g_new(Job, 1);
    *job = (Job){.run = run, .done = done, .data = data};
    return job;
}

void worker_queue(Worker *worker, void (*run)(void *data), void (*done)(void *data), void *data)
{
    worker->n_queued++;
    /* Fails only when no thread can be made; the job is then queued for those there are. */
    (void)g_thread_pool_push(worker->threads, job_new(run, done, data), NULL);
}

void worker_post(Worker *worker, void (*done)(void *data), void *data)
{
    worker_push(worker, job_new(NULL, done, data));
}

/* Whether all jobs came to their end. */
static bool worker_drain(Worker *worker)
{
    struct pollfd pollfd = {.fd = worker->result_event, .events = POLLIN};
    while (worker->n_queued > 0) {
        if (poll(&pollfd, 1, PATIENCE_MS) == 0)
            return false;
        worker_take_results(worker);
    }
    worker_take_results(worker); /* what was posted */
    return true;
}

bool worker_free(Worker *worker)
{
    if (!worker)
        return true;
    sd_event_source_disable_unref(worker->source);
    if (!worker_drain(worker))
        return false;
    g_thread_pool_free(worker->threads, FALSE, TRUE);
    g_async_queue_unref(worker->results);
    close_fd(worker->result_event);
    g_free(worker);
    return true;
}
