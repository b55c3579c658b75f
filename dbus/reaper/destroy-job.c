/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/reaper/destroy-job.h"

#include "kernel/base/cleanup.h"

DestroyJob *destroy_job_new(const char *tenant, Host *host, Ledger *ledger, uint32_t context)
{
    DestroyJob *job = g_new0(DestroyJob, 1);
    job->tenant = g_strdup(tenant);
    job->host = host;
    job->ledger = ledger;
    job->context = context;
    job->fd = -EBADF;
    job->candidates = g_array_new(FALSE, FALSE, sizeof(DestroyCandidate));
    job->destroyed = g_array_new(FALSE, FALSE, sizeof(DestroyCandidate));
    return job;
}

void destroy_job_free(DestroyJob *job)
{
    close_fd(job->fd);
    if (job->calls)
        g_ptr_array_unref(job->calls);
    g_array_unref(job->candidates);
    g_array_unref(job->destroyed);
    g_free(job->tenant);
    g_free(job);
}

void destroy_job_add(DestroyJob *job, DestroyCandidate candidate)
{
    g_assert_cmpuint(candidate.layer, <, DESTROY_LAYERS);
    g_array_append_val(job->candidates, candidate);
}

bool destroy_job_is_empty(const DestroyJob *job)
{
    return job->candidates->len == 0;
}

/* Whether the id still names the object that was decided on, and nobody lives who has it. Ids are
 * given out anew, but who made it is dead: only what the kernel itself frees late (a page table,
 * with the VFIO descriptor) can have made room for somebody else's object, and that one has another
 * owner. */
static bool is_still(const DestroyJob *job, const DestroyCandidate *candidate)
{
    LedgerObject object;
    return job->ledger->ops->object(job->ledger, job->context, candidate->id, &object) >= 0 &&
           object.owner == candidate->owner && (candidate->of_dead_machine || !object.alive);
}

/* Gives back all pages at once, also those of a page table that is still attached. */
static void unmap_all(DestroyJob *job)
{
    for (unsigned i = 0; i < job->candidates->len; i++) {
        DestroyCandidate *candidate = &g_array_index(job->candidates, DestroyCandidate, i);
        if (candidate->unmap && is_still(job, candidate))
            (void)job->host->ops->ioas_unmap(job->host, job->fd, candidate->id, 0, UINT64_MAX,
                                             &candidate->unmapped);
        job->freed += candidate->unmapped;
    }
}

/* Candidates of one layer, the youngest id first. Returns how many were destroyed. A candidate that
 * is gone, or whose id is another object's by now, is one no longer. */
static unsigned destroy_layer(DestroyJob *job, unsigned layer)
{
    unsigned destroyed = 0;
    for (unsigned i = job->candidates->len; i-- > 0;) {
        DestroyCandidate candidate = g_array_index(job->candidates, DestroyCandidate, i);
        if (candidate.layer != layer)
            continue;
        int r = is_still(job, &candidate)
                    ? job->host->ops->object_destroy(job->host, job->fd, candidate.id)
                    : -ENOENT;
        if (r == 0) {
            g_array_append_val(job->destroyed, candidate);
            destroyed++;
        }
        if (r == 0 || r == -ENOENT)
            g_array_remove_index(job->candidates, i);
    }
    return destroyed;
}

void destroy_job_run(void *data)
{
    DestroyJob *job = data;
    unmap_all(job);
    for (unsigned destroyed = 1; destroyed > 0;) {
        destroyed = 0;
        for (unsigned layer = 0; layer < DESTROY_LAYERS; layer++)
            destroyed += destroy_layer(job, layer);
    }
}
