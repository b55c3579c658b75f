/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Threads for calls that block, and the way back to the event loop.
 *
 * Every call to libvirt can block for as long as somebody holds a domain's lock, and that somebody
 * can be a start that waits for our own hook. The loop never makes one.
 */
#pragma once

#include <systemd/sd-event.h>

typedef struct Workers Workers;

/* Runs in a worker's thread, or on the loop. */
typedef void (*Work)(void *data);

/* 0 or negative errno. They live as long as the process: what a thread waits for may never come. */
int workers_new(sd_event *event, unsigned n_threads, Workers **ret_workers);
/* Runs work in a thread, and then done on the loop. */
void workers_run(Workers *workers, Work work, Work done, void *data);
/* Runs done on the loop, in the order of the calls; from any thread. */
void workers_post(Workers *workers, Work done, void *data);
