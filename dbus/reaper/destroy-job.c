/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/reaper/destroy-job.h"

#include "kernel/base/cleanup.h"

Sweep *sweep_new(Host *host)
{
    Sweep *sweep = g_new0(Sweep, 1);
    sweep->host = host;
    sweep->fd = -EBADF;
    sweep->candidates = g_array_new(FALSE, FALSE, sizeof(SweepCandidate));
    sweep->destroyed = g_array_new(FALSE, FALSE, sizeof(SweepCandidate));
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

void sweep_add(Sweep *sweep, SweepCandidate candidate)
{
    g_assert_cmpuint(candidate.layer, <, SWEEP_LAYERS);
    g_array_append_val(sweep->candidates, candidate);
}

bool sweep_is_empty(const Sweep *sweep)
{
    return sweep->candidates->len == 0;
}

/* Whether the id still names the object that was decided on. Ids are given out anew, but who made
 * it is dead: only what the kernel itself frees late (a page table, with the VFIO descriptor) can
 * have made room for somebody else's object, and that one has another owner. */
static bool is_still(const Sweep *sweep, const SweepCandidate *candidate)
{
    LedgerObject object;
    if (sweep->ledger)
        return sweep->ledger->ops->object(sweep->ledger, sweep->context, candidate->id, &object) >=
                   0 &&
               object.owner == candidate->owner;
    for (size_t i = 0; i < sweep->n_left; i++) {
        if (sweep->left[i].id == candidate->id)
            return sweep->left[i].type == candidate->type;
    }
    return false;
}

/* Gives back all pages at once, also those of a page table that is still attached. */
static void sweep_unmap(Sweep *sweep)
{
    for (unsigned i = 0; i < sweep->candidates->len; i++) {
        SweepCandidate *candidate = &g_array_index(sweep->candidates, SweepCandidate, i);
        if (candidate->unmap && is_still(sweep, candidate))
            (void)sweep->host->ops->ioas_unmap(sweep->host, sweep->fd, candidate->id, 0, UINT64_MAX,
                                               &candidate->unmapped);
        sweep->freed += candidate->unmapped;
    }
}

/* Candidates of one layer, the youngest id first. Returns how many were destroyed. A candidate that
 * is gone, or whose id is another object's by now, is one no longer. */
static unsigned sweep_layer(Sweep *sweep, unsigned layer)
{
    const HostOps *ops = sweep->host->ops;
    unsigned destroyed = 0;
    for (unsigned i = sweep->candidates->len; i-- > 0;) {
        SweepCandidate candidate = g_array_index(sweep->candidates, SweepCandidate, i);
        if (candidate.layer != layer)
            continue;
        int r = is_still(sweep, &candidate)
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
    if (sweep->ledger)
        return 0;
    return sweep->host->ops->objects(sweep->host, sweep->fd, &sweep->left, &sweep->n_left);
}

void sweep_run(void *data)
{
    Sweep *sweep = data;
    const HostOps *ops = sweep->host->ops;
    uint64_t before = 0;
    uint64_t after = 0;
    if (!sweep->ledger)
        (void)ops->memory_pinned(sweep->host, &before);
    sweep_unmap(sweep);
    for (unsigned destroyed = 1; destroyed > 0;) {
        sweep->result = sweep_look(sweep);
        if (sweep->result < 0)
            return;
        destroyed = 0;
        for (unsigned layer = 0; layer < SWEEP_LAYERS; layer++)
            destroyed += sweep_layer(sweep, layer);
    }
    /* Not all of it was unmapped, and nobody knows whose the rest was. */
    if (!sweep->ledger && ops->memory_pinned(sweep->host, &after) >= 0 && before > after)
        sweep->freed = before - after;
}
