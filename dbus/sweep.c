/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/sweep.h"

#include "kernel/cleanup.h"

/* The highest layer first: each of these uses those after it. */
static const HostObjectType layers[] = {HOST_OBJECT_OTHER, HOST_OBJECT_HWPT, HOST_OBJECT_IOAS};

Sweep *sweep_new(Host *host)
{
    Sweep *sweep = g_new0(Sweep, 1);
    sweep->host = host;
    sweep->fd = -EBADF;
    sweep->candidates = g_array_new(FALSE, FALSE, sizeof(HostObject));
    sweep->destroyed = g_array_new(FALSE, FALSE, sizeof(HostObject));
    return sweep;
}

void sweep_free(Sweep *sweep)
{
    close_fd(sweep->fd);
    if (sweep->calls)
        g_ptr_array_unref(sweep->calls);
    g_array_unref(sweep->candidates);
    g_array_unref(sweep->destroyed);
    g_free(sweep->left);
    g_free(sweep);
}

void sweep_add(Sweep *sweep, HostObject object)
{
    g_array_append_val(sweep->candidates, object);
}

bool sweep_is_empty(const Sweep *sweep)
{
    return sweep->candidates->len == 0;
}

static bool contains(const HostObject *objects, size_t n, HostObject object)
{
    for (size_t i = 0; i < n; i++) {
        if (objects[i].id == object.id)
            return objects[i].type == object.type;
    }
    return false;
}

/* Candidates of one layer, the youngest id first. Returns how many were destroyed. A candidate that
 * is gone, or whose id is another object's by now, is one no longer. */
static unsigned sweep_layer(Sweep *sweep, HostObjectType layer, const HostObject *objects, size_t n)
{
    const HostOps *ops = sweep->host->ops;
    unsigned destroyed = 0;
    for (unsigned i = sweep->candidates->len; i-- > 0;) {
        HostObject candidate = g_array_index(sweep->candidates, HostObject, i);
        if (candidate.type != layer)
            continue;
        int r = contains(objects, n, candidate)
                    ? ops->object_destroy(sweep->host, sweep->fd, candidate.id)
                    : -ENOENT;
        if (r == 0) {
            g_array_append_val(sweep->destroyed, candidate);
            destroyed++;
        }
        if (r == 0 || r == -ENOENT)
            g_array_remove_index(sweep->candidates, i);
    }
    return destroyed;
}

static int sweep_look(Sweep *sweep)
{
    g_clear_pointer(&sweep->left, g_free);
    sweep->n_left = 0;
    return sweep->host->ops->objects(sweep->host, sweep->fd, &sweep->left, &sweep->n_left);
}

void sweep_run(void *data)
{
    Sweep *sweep = data;
    const HostOps *ops = sweep->host->ops;
    uint64_t before = 0;
    uint64_t after = 0;
    (void)ops->memory_pinned(sweep->host, &before);
    for (unsigned destroyed = 1; destroyed > 0;) {
        sweep->result = sweep_look(sweep);
        if (sweep->result < 0)
            return;
        destroyed = 0;
        for (size_t i = 0; i < G_N_ELEMENTS(layers); i++)
            destroyed += sweep_layer(sweep, layers[i], sweep->left, sweep->n_left);
    }
    if (ops->memory_pinned(sweep->host, &after) >= 0 && before > after)
        sweep->unpinned = before - after;
}
