/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/reaper/reaper.h"

#include "dbus/base/journal.h"
#include "dbus/core/machine-end.h"
#include "dbus/reaper/orphans.h"
#include "kernel/base/cleanup.h"
#include "policy/size.h"

#include <fcntl.h>

/* A VFIO descriptor may close a little after its process has died; its page table is busy until
 * then. */
#define RETRY_USEC (200 * 1000)
#define RETRY_STUCK_USEC (10 * G_USEC_PER_SEC)
#define STUCK_USEC (60 * G_USEC_PER_SEC)

/* Of one tenant. */
typedef struct {
    Reaper *reaper;
    char *tenant;
    const DestroyJob *job; /* with the worker; NULL: none */
    bool again;            /* something has happened meanwhile */
    bool busy_left;        /* the last job left something that was in use */
    GPtrArray *calls;
    sd_event_source *retry;
} Reap;

struct Reaper {
    Manager *manager;
    GHashTable *reaps; /* tenant -> Reap, owned */
};

typedef struct {
    ReaperDone done;
    void *data;
} Call;

/* ---- calls ---- */

static void answer_calls(GPtrArray *calls, uint32_t objects, uint64_t bytes)
{
    for (unsigned i = 0; i < calls->len; i++) {
        const Call *call = g_ptr_array_index(calls, i);
        call->done(objects, bytes, call->data);
    }
    g_ptr_array_set_size(calls, 0);
}

static GPtrArray *calls_new(void)
{
    return g_ptr_array_new_with_free_func(g_free);
}

static void reap_free(void *data)
{
    Reap *reap = data;
    answer_calls(reap->calls, 0, 0);
    g_ptr_array_unref(reap->calls);
    sd_event_source_disable_unref(reap->retry);
    g_free(reap->tenant);
    g_free(reap);
}

static Reap *reap_of(Reaper *reaper, const char *tenant)
{
    Reap *reap = g_hash_table_lookup(reaper->reaps, tenant);
    if (!reap) {
        reap = g_new0(Reap, 1);
        reap->reaper = reaper;
        reap->tenant = g_strdup(tenant);
        reap->calls = calls_new();
        g_hash_table_insert(reaper->reaps, reap->tenant, reap);
    }
    return reap;
}

/* ---- machines ---- */

/* In no order: of thousands that die together each has a turn of the queue. */
static GPtrArray *reaping_machines(const Tenant *tenant)
{
    GPtrArray *machines = g_ptr_array_new();
    GHashTableIter iter;
    void *machine;
    g_hash_table_iter_init(&iter, tenant->policy.machines);
    while (g_hash_table_iter_next(&iter, NULL, &machine)) {
        if (!machine_is_live(machine))
            g_ptr_array_add(machines, machine);
    }
    return machines;
}

static void log_stuck(Machine *machine)
{
    g_autofree char *size = size_format(machine->last_pinned);
    machine->stuck_logged = true;
    journal_write(LOG_WARNING, MESSAGE_REAP_STUCK,
                  &(JournalFields){JOURNAL_MACHINE(machine), .bytes = &machine->last_pinned},
                  "Machine %s (%s) of tenant %s died, but what it left in the tenant's IOMMUFD is "
                  "still in use after %d seconds: up to %s stay orphaned. This is tried again and "
                  "again; look for a process that holds its VFIO devices.",
                  machine->policy.name, machine_uuid(machine), tenant_id(machine_tenant(machine)),
                  (int)(STUCK_USEC / G_USEC_PER_SEC), size);
}

/* ---- again later ---- */

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata)
{
    Reap *reap = userdata;
    Manager *manager = reap->reaper->manager;
    reap->retry = sd_event_source_disable_unref(reap->retry);
    /* Objects may be gone, and the ledger have missed it: a reconciliation finds that. */
    accounting_refresh(manager->accounting);
    queue_reap(manager->queue, reap->tenant);
    return 0;
}

/* For what is not reaped yet; and, now and then, for what dead processes that were no machine have
 * left in use. */
static void schedule_retry(Reap *reap, const Tenant *tenant)
{
    int64_t now = g_get_monotonic_time();
    uint64_t delay = reap->busy_left ? RETRY_STUCK_USEC : 0;
    g_autoptr(GPtrArray) machines = reaping_machines(tenant);
    for (unsigned i = 0; i < machines->len; i++) {
        Machine *machine = g_ptr_array_index(machines, i);
        bool stuck = now - machine->since >= STUCK_USEC;
        if (stuck && !machine->stuck_logged)
            log_stuck(machine);
        if (!stuck)
            delay = RETRY_USEC;
        else if (delay == 0)
            delay = RETRY_STUCK_USEC;
    }
    reap->retry = sd_event_source_disable_unref(reap->retry);
    if (delay > 0)
        (void)sd_event_add_time_relative(tenant->manager->event, &reap->retry, CLOCK_MONOTONIC,
                                         delay, 0, on_retry, reap);
}

/* ---- who is gone ---- */

static void finish_own(const Tenant *tenant)
{
    g_autoptr(GPtrArray) machines = reaping_machines(tenant);
    for (unsigned i = 0; i < machines->len; i++) {
        Machine *machine = g_ptr_array_index(machines, i);
        if (!machine->shares)
            machine_finish(machine);
    }
}

static void finish_reaped(const Tenant *tenant, const LedgerObject *objects, size_t n)
{
    g_autoptr(GPtrArray) machines = reaping_machines(tenant);
    g_autoptr(GHashTable) owners = orphans_owners(objects, n);
    for (unsigned i = 0; i < machines->len; i++) {
        Machine *machine = g_ptr_array_index(machines, i);
        if (!g_hash_table_contains(owners, GUINT_TO_POINTER(machine->ledger_id)))
            machine_finish(machine);
    }
}

/* Without the ledger no object has a known owner: the IOMMUFD is closed, with all that is in it,
 * when no machine lives that shares it and AllocateIoas has made nothing in it. */
static void reap_without_ledger(Tenant *tenant)
{
    if (tenant->iommufd >= 0 && (orphans_has_live(tenant) || g_hash_table_size(tenant->ioases) > 0))
        return;
    if (tenant->iommufd >= 0)
        tenant_close(tenant);
    finish_reaped(tenant, NULL, 0);
}

/* ---- jobs ---- */

/* Adds what was destroyed to the figures of its machine, or of the first that is being reaped. */
static void note_outcome(const Tenant *tenant, const DestroyJob *job)
{
    Manager *manager = tenant->manager;
    g_autoptr(GPtrArray) reaping = reaping_machines(tenant);
    for (unsigned i = 0; i < job->destroyed->len; i++) {
        const DestroyCandidate *object = &g_array_index(job->destroyed, DestroyCandidate, i);
        Machine *owner = manager_find_machine_by_id(manager, object->machine);
        if (!owner && reaping->len > 0)
            owner = g_ptr_array_index(reaping, 0);
        if (!owner)
            continue;
        owner->reaped_objects++;
        owner->reaped_bytes += object->unmapped;
    }
    for (unsigned i = 0; i < job->candidates->len; i++) {
        const DestroyCandidate *object = &g_array_index(job->candidates, DestroyCandidate, i);
        Machine *owner = manager_find_machine_by_id(manager, object->machine);
        if (owner)
            owner->reaped_bytes += object->unmapped;
    }
}

static void reap_ended(Reap *reap, Tenant *tenant)
{
    if (reap->again)
        queue_reap(tenant->manager->queue, reap->tenant);
    else
        schedule_retry(reap, tenant);
    reap->again = false;
}

static void on_job_done(void *data)
{
    DestroyJob *job = data;
    Reaper *reaper = job->reaper;
    Reap *reap = g_hash_table_lookup(reaper->reaps, job->tenant);
    Tenant *tenant = manager_find_tenant(reaper->manager, job->tenant);
    g_autofree LedgerObject *objects = NULL;
    size_t n;
    /* A tenant that came back under the same name has another IOMMUFD, and may have another job. */
    bool current = reap && reap->job == job;
    if (current)
        reap->job = NULL;
    if (current && tenant && tenant->context_id == job->context) {
        reap->busy_left = !destroy_job_is_empty(job);
        note_outcome(tenant, job);
        if (accounting_objects(reaper->manager->accounting, job->context, &objects, &n, NULL))
            finish_reaped(tenant, objects, n);
        reap_ended(reap, tenant);
    } else if (current) {
        reap->again = false;
        queue_reap(reaper->manager->queue, job->tenant);
    }
    answer_calls(job->calls, job->destroyed->len, job->freed);
    destroy_job_free(job);
}

/* Nothing for the worker to do, or no descriptor left to do it with: then it is tried again. */
static void reap_nothing(Reap *reap, Tenant *tenant, const LedgerObject *objects, size_t n)
{
    reap->busy_left = false;
    finish_reaped(tenant, objects, n);
    answer_calls(reap->calls, 0, 0);
    schedule_retry(reap, tenant);
}

static void reap_shared(Reap *reap, Tenant *tenant)
{
    Manager *manager = tenant->manager;
    g_autofree LedgerObject *objects = NULL;
    size_t n;
    if (!accounting_objects(manager->accounting, tenant->context_id, &objects, &n, NULL)) {
        answer_calls(reap->calls, 0, 0);
        schedule_retry(reap, tenant);
        return;
    }
    DestroyJob *job = destroy_job_new(reap->tenant, manager->host,
                                      accounting_ledger(manager->accounting), tenant->context_id);
    orphans_choose(tenant, objects, n, job);
    if (!destroy_job_is_empty(job))
        job->fd = fcntl(tenant->iommufd, F_DUPFD_CLOEXEC, 3);
    if (job->fd < 0) {
        reap_nothing(reap, tenant, objects, n);
        destroy_job_free(job);
        return;
    }
    job->reaper = reap->reaper;
    job->calls = g_steal_pointer(&reap->calls);
    reap->calls = calls_new();
    reap->job = job;
    worker_queue(manager->worker, destroy_job_run, on_job_done, job);
}

/* ---- the queue ---- */

static void on_queue(const char *name, void *data)
{
    Reaper *reaper = data;
    Reap *reap = reap_of(reaper, name);
    Tenant *tenant = manager_find_tenant(reaper->manager, name);
    if (!tenant) {
        g_hash_table_remove(reaper->reaps, name);
        return;
    }
    finish_own(tenant);
    if (reap->job) {
        reap->again = true;
    } else if (accounting_ledger(reaper->manager->accounting) && tenant->context_id != 0) {
        reap_shared(reap, tenant);
    } else {
        reap_without_ledger(tenant);
        answer_calls(reap->calls, 0, 0);
    }
}

void reaper_call(Reaper *reaper, const char *tenant, ReaperDone done, void *data)
{
    const Call call = {.done = done, .data = data};
    g_ptr_array_add(reap_of(reaper, tenant)->calls, g_memdup2(&call, sizeof(call)));
    queue_reap(reaper->manager->queue, tenant);
}

Reaper *reaper_new(Manager *manager)
{
    Reaper *reaper = g_new0(Reaper, 1);
    reaper->manager = manager;
    reaper->reaps = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, reap_free);
    queue_on_reap(manager->queue, on_queue, reaper);
    return reaper;
}

void reaper_free(Reaper *reaper)
{
    if (!reaper)
        return;
    queue_on_reap(reaper->manager->queue, NULL, NULL);
    g_hash_table_unref(reaper->reaps);
    g_free(reaper);
}
