/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/libvirt/agent/agent-domains.h"

#include "dbus/base/journal.h"
#include "plugin/libvirt/agent/domain-job.h"
#include "plugin/libvirt/agent/domain-sync.h"

#include <systemd/sd-daemon.h>

/* A start that was lost is given back after one to two of these, and one whose leader could not be
 * named is tried again. */
#define ADMITTED_USEC (20 * CLIENT_USEC_PER_SEC)

/* What each request to a worker begins with. */
typedef struct {
    Agent *agent;
    unsigned generation; /* of the connection that is asked */
    WorkContext *context;
} Request;

static Request request_begin(Agent *agent)
{
    return (Request){
        .agent = agent,
        .generation = agent->generation,
        .context = work_context_new(agent->libvirt, agent->version, agent->bus_address),
    };
}

/* The last thing that is done on the worker. */
static void request_end(Request *request)
{
    g_clear_pointer(&request->context, work_context_free);
}

/* ---- starting what libvirtd could not ---- */

typedef struct {
    Request request;
    char *uuid;
    char *name;
    sd_bus_error error;
} StartRequest;

static void run_start(void *data)
{
    StartRequest *start = data;
    (void)domain_start(start->request.context, start->uuid, &start->error);
    request_end(&start->request);
}

static void on_start_done(void *data)
{
    StartRequest *start = data;

    if (sd_bus_error_is_set(&start->error))
        journal_write(LOG_WARNING, NULL, NULL, "Autostart: %s", start->error.message);
    else
        journal_write(LOG_INFO, NULL, NULL, "Autostart: the domain %s is started.", start->name);
    sd_bus_error_free(&start->error);
    g_free(start->uuid);
    g_free(start->name);
    g_free(start);
}

static void autostart(Agent *agent, const DomainJob *job)
{
    /* Only what runs, or did a moment ago, is synchronized. */
    if (job->result.uses_iommud && job->flags & JOB_SYNC)
        autostart_ran(agent->autostart, job->uuid);
    if (!job->result.associated || !job->result.autostart ||
        !autostart_take(agent->autostart, job->uuid))
        return;
    StartRequest *start = g_new0(StartRequest, 1);
    start->request = request_begin(agent);
    start->uuid = g_strdup(job->uuid);
    start->name = g_strdup(job->result.name);
    worker_queue(agent->starter, run_start, on_start_done, start);
}

/* ---- one domain's job ---- */

typedef struct {
    Request request;
    DomainJob job;
    GPtrArray *callers; /* of the job's association */
    unsigned epoch;     /* of that, when the job began */
} JobRequest;

static void run_job(void *data)
{
    JobRequest *request = data;
    domain_job_run(request->request.context, &request->job);
    request_end(&request->request);
}

static void answer(GPtrArray *callers, const sd_bus_error *error)
{
    for (guint i = 0; i < callers->len; i++) {
        if (sd_bus_error_is_set(error))
            (void)sd_bus_reply_method_error(callers->pdata[i], error);
        else
            (void)sd_bus_reply_method_return(callers->pdata[i], NULL);
    }
}

/* A caller is told; what nobody asked for is logged when a domain that uses iommud was left without
 * its IOMMUFD. */
static void report(const JobRequest *request)
{
    const DomainJob *job = &request->job;
    const JobResult *result = &job->result;

    if (!(job->flags & JOB_ASSOCIATE) || !result->uses_iommud)
        return;
    if (!result->associated && request->callers->len == 0) {
        g_autofree char *why = client_error_text(&job->error, 0);
        journal_write(LOG_WARNING, NULL, NULL,
                      "The domain %s is not associated, so that it can't be started: %s",
                      result->name, why);
    } else if (result->associated && !g_str_equal(job->tenant, result->desired_tenant)) {
        journal_write(LOG_INFO, NULL, NULL, "The domain %s has the IOMMUFD of the tenant %s.",
                      result->name, result->desired_tenant);
    }
}

static void end_job(JobRequest *request)
{
    Agent *agent = request->request.agent;
    DomainJob *job = &request->job;
    bool associated = job->result.associated;
    /* Not NULL: busy entries are never removed. */
    Association *association = associations_find(agent->associations, job->uuid);

    job->result.why = job->error.message;
    associations_done(agent->associations, association, job->flags, &job->result);
    if (associated && !job->result.associated)
        (void)sd_bus_error_setf(&job->error, LIBVIRT_FAILED,
                                "The domain %s was defined anew, or the connection to libvirt was "
                                "lost, while it was given its IOMMUFD: try again.",
                                job->result.name);
    report(request);
    answer(request->callers, &job->error);
    if (job->flags & JOB_ASSOCIATE) {
        agent->changed(agent, "Domains");
        autostart(agent, job);
    }
    domain_job_clear(job);
    g_ptr_array_unref(request->callers);
    g_free(request);
    agent_dispatch(agent);
}

static void run_give(void *data)
{
    JobRequest *request = data;
    domain_job_give(request->request.context, &request->job);
    request_end(&request->request);
}

static void on_given(void *data)
{
    end_job(data);
}

/* With the connection that was asked libvirt has dropped what it associated, and the job with it.
 */
static bool is_current(const Request *request)
{
    return request->agent->libvirt && request->generation == request->agent->generation;
}

static void on_job_done(void *data)
{
    JobRequest *request = data;
    Agent *agent = request->request.agent;
    DomainJob *job = &request->job;
    Association *association = associations_find(agent->associations, job->uuid);

    if (job->fd >= 0 && is_current(&request->request)) {
        job->result.epoch = associations_give(association);
        request->request = request_begin(agent);
        worker_queue(agent->worker, run_give, on_given, request);
        return;
    }
    if (job->fd >= 0)
        (void)sd_bus_error_setf(&job->error, LIBVIRT_FAILED,
                                "The connection to libvirt is lost: try again.");
    /* What libvirt was known to have stood there when the job began. */
    job->result.epoch = request->epoch;
    end_job(request);
}

void agent_ready(Agent *agent)
{
    if (agent->ready)
        return;
    agent->ready = true;
    sd_notify(0, "READY=1");
}

void agent_dispatch(Agent *agent)
{
    Association *association;

    /* Guests that others start at boot come after that (libvirt-guests.service). */
    if (agent->listed && associations_idle(agent->associations))
        agent_ready(agent);
    while (agent->libvirt && (association = associations_next(agent->associations))) {
        JobRequest *request = g_new0(JobRequest, 1);
        request->request = request_begin(agent);
        request->job.uuid = g_strdup(association->uuid);
        request->job.pinned_tenant = g_strdup(association->pinned_tenant);
        request->job.tenant = g_strdup(association->tenant);
        request->job.iommufd = association->iommufd;
        request->job.live = domain_live_copy(association->live);
        request->job.fd = -EBADF;
        request->job.forced = association->callers->len > 0;
        request->epoch = association->epoch;
        request->job.flags =
            associations_begin(agent->associations, association, &request->callers);
        worker_queue(agent->worker, run_job, on_job_done, request);
    }
}

void agent_request_job(Agent *agent, const char *uuid, unsigned flags, sd_bus_message *caller)
{
    associations_request(agent->associations, uuid, flags, caller);
    agent_dispatch(agent);
}

/* ---- all domains ---- */

typedef struct {
    Request request;
    GArray *states;
    sd_bus_error error;
} ListRequest;

static void run_list(void *data)
{
    ListRequest *list = data;
    (void)domain_list(list->request.context, &list->states, &list->error);
    request_end(&list->request);
}

static void request_listed(Agent *agent, const DomainState *state)
{
    associations_request(agent->associations, state->uuid,
                         JOB_ASSOCIATE | (state->active ? JOB_SYNC : 0), NULL);
}

static void on_list_done(void *data)
{
    ListRequest *list = data;
    Agent *agent = list->request.agent;

    if (list->states && list->request.generation == agent->generation) {
        for (guint i = 0; i < list->states->len; i++)
            request_listed(agent, &g_array_index(list->states, DomainState, i));
        agent->listed = true;
        agent_dispatch(agent);
    } else if (!list->states) {
        journal_write(LOG_WARNING, NULL, NULL, "%s", list->error.message);
    }
    if (!list->states)
        agent_ready(agent);
    g_clear_pointer(&list->states, g_array_unref);
    sd_bus_error_free(&list->error);
    g_free(list);
}

void agent_sync_all(Agent *agent)
{
    if (!agent->libvirt)
        return;
    ListRequest *list = g_new0(ListRequest, 1);
    list->request = request_begin(agent);
    worker_queue(agent->worker, run_list, on_list_done, list);
}

/* ---- what is admitted only ---- */

typedef struct {
    Request request;
    GHashTable *seen; /* UUIDs that were admitted the last time, and then those that are now */
} AdmittedRequest;

static void run_settle(void *data)
{
    AdmittedRequest *admitted = data;
    GHashTable *now = domain_settle_admitted(admitted->request.context, admitted->seen);

    g_clear_pointer(&admitted->seen, g_hash_table_unref);
    admitted->seen = now;
    request_end(&admitted->request);
}

static void on_settled(void *data)
{
    g_autofree AdmittedRequest *admitted = data;
    Agent *agent = admitted->request.agent;

    agent->admitted = admitted->seen;
    agent->looking = false;
}

static int on_admitted_time(sd_event_source *source, uint64_t usec, void *userdata)
{
    Agent *agent = userdata;

    if (agent->libvirt && !agent->looking) {
        AdmittedRequest *admitted = g_new0(AdmittedRequest, 1);
        admitted->request = request_begin(agent);
        admitted->seen = g_steal_pointer(&agent->admitted);
        agent->looking = true;
        worker_queue(agent->worker, run_settle, on_settled, admitted);
    }
    (void)sd_event_source_set_time_relative(source, ADMITTED_USEC);
    return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

int agent_watch_admitted(Agent *agent)
{
    return sd_event_add_time_relative(agent->event, NULL, CLOCK_MONOTONIC, ADMITTED_USEC, 0,
                                      on_admitted_time, agent);
}
