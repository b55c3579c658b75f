/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/bus/pending-call.h"

#include "dbus/base/errors.h"

#define WAIT_SECONDS 60

struct PendingCalls {
    Manager *manager;
    GPtrArray *waiting; /* PendingCall, owned, in the order in which they came */
};

typedef struct {
    PendingCalls *calls;
    char *uuid;
    sd_bus_message *call;
    PendingCallAnswer answer;
    void *data;
    sd_bus_track *track;
    sd_event_source *timer;
} PendingCall;

static void pending_call_free(void *data)
{
    PendingCall *pending = data;
    sd_event_source_disable_unref(pending->timer);
    sd_bus_track_unref(pending->track);
    sd_bus_message_unref(pending->call);
    g_free(pending->uuid);
    g_free(pending);
}

static int on_caller_gone(sd_bus_track *track, void *userdata)
{
    PendingCall *pending = userdata;
    g_ptr_array_remove(pending->calls->waiting, pending);
    return 1; /* Not to be called again: pending is freed, and track with it. */
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata)
{
    PendingCall *pending = userdata;
    g_autoptr(GError) error = g_error_new(
        IOMMUD_ERROR, IOMMUD_ERROR_KERNEL_REFUSED,
        "What machine %s left in its tenant's IOMMUFD could not be destroyed within %d seconds, "
        "because somebody still uses it: its bytes stay charged, and the service keeps trying; "
        "'iommuctl status' shows it.",
        pending->uuid, WAIT_SECONDS);
    bus_error_reply(pending->call, error);
    g_ptr_array_remove(pending->calls->waiting, pending);
    return 0;
}

int pending_call_add(PendingCalls *calls, const char *uuid, sd_bus_message *call,
                     PendingCallAnswer answer, void *data)
{
    Manager *manager = calls->manager;
    PendingCall *pending = g_new0(PendingCall, 1);
    pending->calls = calls;
    pending->uuid = g_strdup(uuid);
    pending->call = sd_bus_message_ref(call);
    pending->answer = answer;
    pending->data = data;
    int r = sd_bus_track_new(manager->bus, &pending->track, on_caller_gone, pending);
    if (r >= 0)
        r = sd_bus_track_add_sender(pending->track, call);
    if (r >= 0)
        r = sd_event_add_time_relative(manager->event, &pending->timer, CLOCK_MONOTONIC,
                                       WAIT_SECONDS * G_USEC_PER_SEC, 0, on_timeout, pending);
    if (r < 0) {
        pending_call_free(pending);
        return r;
    }
    g_ptr_array_add(calls->waiting, pending);
    return 0;
}

static void on_gone(const char *uuid, void *data)
{
    PendingCalls *calls = data;
    /* Out of the list first: an answer can let its call wait again. */
    g_autoptr(GPtrArray) ready = g_ptr_array_new_with_free_func(pending_call_free);
    for (unsigned i = 0; i < calls->waiting->len;) {
        PendingCall *pending = g_ptr_array_index(calls->waiting, i);
        if (g_str_equal(pending->uuid, uuid))
            g_ptr_array_add(ready, g_ptr_array_steal_index(calls->waiting, i));
        else
            i++;
    }
    for (unsigned i = 0; i < ready->len; i++) {
        PendingCall *pending = g_ptr_array_index(ready, i);
        (void)sd_bus_message_rewind(pending->call, true);
        pending->answer(pending->data, pending->call);
    }
}

PendingCalls *pending_calls_new(Manager *manager)
{
    PendingCalls *calls = g_new0(PendingCalls, 1);
    calls->manager = manager;
    calls->waiting = g_ptr_array_new_with_free_func(pending_call_free);
    queue_on_gone(manager->queue, on_gone, calls);
    return calls;
}

void pending_calls_free(PendingCalls *calls)
{
    if (!calls)
        return;
    queue_on_gone(calls->manager->queue, NULL, NULL);
    g_ptr_array_unref(calls->waiting);
    g_free(calls);
}
