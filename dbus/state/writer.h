/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The one writer of state: what has changed is marked, and written all together, once, before the
 * reply to the call that changed it leaves and before the kernel hears of it. What changes by
 * itself (a process dies) is written at the end of the event loop's turn.
 */
#pragma once

#include "dbus/base/sd-cleanup.h"

#include <stdbool.h>

typedef struct Writer Writer;
typedef struct WriterItem WriterItem;

/* Something with a record; embedded in what it is of. */
struct WriterItem {
    /* Writes the record as of now. KERNEL_REFUSED. */
    gboolean (*save)(WriterItem *item, GError **error);
    bool dirty; /* the writer's */
};

/* NULL: the event loop can't be had. */
Writer *writer_new(sd_event *event);
/* Writes what is marked, and logs what can't be. Accepts NULL. */
void writer_free(Writer *writer);

void writer_mark(Writer *writer, WriterItem *item);
/* Its record is no longer to be written: it is going away. */
void writer_forget(Writer *writer, WriterItem *item);
/* Writes what is marked. What could not be written stays marked and is tried again at the next
 * commit. KERNEL_REFUSED: of the first that could not. */
gboolean writer_commit(Writer *writer, GError **error);
/* The same where nothing can be taken back: what can't be written is logged. */
void writer_commit_or_log(Writer *writer);
