/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/state/writer.h"

#include "dbus/base/journal.h"

struct Writer {
    GPtrArray *dirty; /* WriterItem, not owned, in the order in which they were marked */
    sd_event_source *turn;
};

static int on_turn(sd_event_source *source, void *userdata)
{
    writer_commit_or_log(userdata);
    return 0;
}

Writer *writer_new(sd_event *event)
{
    Writer *writer = g_new0(Writer, 1);
    writer->dirty = g_ptr_array_new();
    int r = sd_event_add_defer(event, &writer->turn, on_turn, writer);
    if (r >= 0)
        r = sd_event_source_set_enabled(writer->turn, SD_EVENT_OFF);
    if (r >= 0)
        return writer;
    writer_free(writer);
    return NULL;
}

void writer_free(Writer *writer)
{
    if (!writer)
        return;
    writer_commit_or_log(writer);
    sd_event_source_disable_unref(writer->turn);
    g_ptr_array_unref(writer->dirty);
    g_free(writer);
}

void writer_mark(Writer *writer, WriterItem *item)
{
    if (!item->dirty)
        g_ptr_array_add(writer->dirty, item);
    item->dirty = true;
    (void)sd_event_source_set_enabled(writer->turn, SD_EVENT_ONESHOT);
}

void writer_forget(Writer *writer, WriterItem *item)
{
    if (item->dirty)
        (void)g_ptr_array_remove(writer->dirty, item);
    item->dirty = false;
}

gboolean writer_commit(Writer *writer, GError **error)
{
    gboolean all = TRUE;
    for (unsigned i = 0; i < writer->dirty->len;) {
        WriterItem *item = g_ptr_array_index(writer->dirty, i);
        if (item->save(item, all ? error : NULL)) {
            item->dirty = false;
            (void)g_ptr_array_remove_index(writer->dirty, i);
        } else {
            all = FALSE;
            i++;
        }
    }
    /* All has been tried: the turn has nothing to add. */
    (void)sd_event_source_set_enabled(writer->turn, SD_EVENT_OFF);
    return all;
}

void writer_commit_or_log(Writer *writer)
{
    g_autoptr(GError) error = NULL;
    if (!writer_commit(writer, &error))
        journal_write(LOG_WARNING, MESSAGE_STATE_NOT_WRITTEN, NULL, "%s", error->message);
}
