/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/libvirt/agent/workers.h"

#include <errno.h>
#include <glib.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct Workers {
    GThreadPool *threads;
    GAsyncQueue *letters; /* for the loop */
    int eventfd;          /* readable when there are letters */
};

typedef struct {
    Work work;
    Work done;
    void *data;
} Letter;

void workers_post(Workers *workers, Work done, void *data)
{
    Letter *letter = g_new0(Letter, 1);

    letter->done = done;
    letter->data = data;
    g_async_queue_push(workers->letters, letter);
    (void)eventfd_write(workers->eventfd, 1);
}

static void on_thread(void *data, void *user_data)
{
    g_autofree Letter *letter = data;
    Workers *workers = user_data;

    letter->work(letter->data);
    workers_post(workers, letter->done, letter->data);
}

static int on_letters(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
    Workers *workers = userdata;
    eventfd_t count;
    Letter *letter;

    /* Read first: a letter that comes after it makes the descriptor readable again. */
    (void)eventfd_read(fd, &count);
    while ((letter = g_async_queue_try_pop(workers->letters))) {
        letter->done(letter->data);
        g_free(letter);
    }
    return 0;
}

int workers_new(sd_event *event, unsigned n_threads, Workers **ret_workers)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (fd < 0)
        return -errno;
    Workers *workers = g_new0(Workers, 1);
    workers->eventfd = fd;
    workers->letters = g_async_queue_new();
    workers->threads = g_thread_pool_new(on_thread, workers, (int)n_threads, FALSE, NULL);
    *ret_workers = workers;
    return sd_event_add_io(event, NULL, fd, EPOLLIN, on_letters, workers);
}

void workers_run(Workers *workers, Work work, Work done, void *data)
{
    Letter *letter = g_new0(Letter, 1);

    letter->work = work;
    letter->done = done;
    letter->data = data;
    /* Fails only when no thread can be made; the letter is then queued for the ones there are. */
    (void)g_thread_pool_push(workers->threads, letter, NULL);
}
