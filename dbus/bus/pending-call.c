/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/bus/pending-call.h"

#include "dbus/base/errors.h"

#define WAIT_SECONDS 60

struct Waiting {
    Manager *manager;
    char *uuid;
    sd_bus_message *call;
    WaitingAnswer answer;
    sd_bus_track *track;
    sd_event_source *timer;
};

void waiting_free(Waiting *waiting)
{
    sd_event_source_disable_unref(waiting->timer);
    sd_bus_track_unref(waiting->track);
    sd_bus_message_unref(waiting->call);
    g_free(waiting->uuid);
    g_free(waiting);
}

static int on_caller_gone(sd_bus_track *track, void *userdata)
{
    Waiting *waiting = userdata;
    g_ptr_array_remove(waiting->manager->waiting, waiting);
    return 1; /* Not to be called again: waiting is freed, and track with it. */
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata)
{
    Waiting *waiting = userdata;
    g_autoptr(GError) error = g_error_new(
        IOMMUD_ERROR, IOMMUD_ERROR_KERNEL_REFUSED,
        "What machine %s left in its tenant's IOMMUFD could not be destroyed within %d seconds, "
        "because somebody uses it or another machine of the tenant is still starting: its bytes "
        "stay charged, and the service keeps trying; 'iommuctl status' shows it.",
        waiting->uuid, WAIT_SECONDS);
    bus_error_reply(waiting->call, error);
    g_ptr_array_remove(waiting->manager->waiting, waiting);
    return 0;
}

int waiting_add(Manager *manager, const char *uuid, sd_bus_message *call, WaitingAnswer answer)
{
    Waiting *waiting = g_new0(Waiting, 1);
    waiting->manager = manager;
    waiting->uuid = g_strdup(uuid);
    waiting->call = sd_bus_message_ref(call);
    waiting->answer = answer;
    int r = sd_bus_track_new(manager->bus, &waiting->track, on_caller_gone, waiting);
    if (r >= 0)
        r = sd_bus_track_add_sender(waiting->track, call);
    if (r >= 0)
        r = sd_event_add_time_relative(manager->event, &waiting->timer, CLOCK_MONOTONIC,
                                       WAIT_SECONDS * G_USEC_PER_SEC, 0, on_timeout, waiting);
    if (r < 0) {
        waiting_free(waiting);
        return r;
    }
    g_ptr_array_add(manager->waiting, waiting);
    return 0;
}

void waiting_answer(Manager *manager, const char *uuid)
{
    /* Out of the list first: an answer can admit the machine anew and release it again. */
    g_autoptr(GPtrArray) ready = g_ptr_array_new_with_free_func((GDestroyNotify)waiting_free);
    for (unsigned i = 0; i < manager->waiting->len;) {
        Waiting *waiting = g_ptr_array_index(manager->waiting, i);
        if (g_str_equal(waiting->uuid, uuid))
            g_ptr_array_add(ready, g_ptr_array_steal_index(manager->waiting, i));
        else
            i++;
    }
    for (unsigned i = 0; i < ready->len; i++) {
        Waiting *waiting = g_ptr_array_index(ready, i);
        (void)sd_bus_message_rewind(waiting->call, true);
        waiting->answer(manager, waiting->call);
    }
}
