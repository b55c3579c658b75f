/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/libvirt/agent/agent.h"
#include "plugin/libvirt/agent/log.h"

#include <string.h>

/* A start that was lost is given back after one to two of these. */
#define SWEEP_USEC (60 * 1000 * 1000)

/* What a worker is sent out with and comes back with. */
typedef struct {
    Agent *agent;
    unsigned generation;
    WorkContext *context;

    DomainWork domain;
    GPtrArray *callers; /* of domain's association */

    bool just_connected;
    GArray *states;

    GHashTable *seen;
    sd_bus_error error;
} Errand;

static Errand *errand_new(Agent *agent)
{
    Errand *errand = g_new0(Errand, 1);

    errand->agent = agent;
    errand->generation = agent->generation;
    errand->context = agent_context_new(agent);
    return errand;
}

static void errand_free(Errand *errand)
{
    domain_work_clear(&errand->domain);
    g_clear_pointer(&errand->callers, g_ptr_array_unref);
    g_clear_pointer(&errand->states, g_array_unref);
    sd_bus_error_free(&errand->error);
    g_free(errand);
}

/* The last reference to a connection says good-bye to libvirtd: not on the loop. */
static void errand_end(Errand *errand)
{
    g_clear_pointer(&errand->context, agent_context_free);
}

/* ---- starting what libvirtd could not ---- */

static void run_start(void *data)
{
    Errand *errand = data;
    (void)domain_start(errand->context, errand->domain.uuid, &errand->error);
    errand_end(errand);
}

static void on_start_done(void *data)
{
    Errand *errand = data;

    if (sd_bus_error_is_set(&errand->error))
        log_warning("Autostart: %s", errand->error.message);
    else
        log_info("Autostart: the domain %s is started.", errand->domain.name);
    errand_free(errand);
}

static void autostart(Agent *agent, const DomainWork *work)
{
    if (!work->ours)
        autostart_drop(agent->autostart, work->uuid);
    /* Only what runs, or did a moment ago, is followed. */
    else if (work->work & WORK_FOLLOW)
        autostart_ran(agent->autostart, work->uuid);
    if (!work->associated || !autostart_take(agent->autostart, work->uuid))
        return;
    Errand *errand = errand_new(agent);
    errand->domain.uuid = g_strdup(work->uuid);
    errand->domain.name = g_strdup(work->name);
    worker_queue(agent->starter, run_start, on_start_done, errand);
}

/* ---- one domain's work ---- */

static void run_domain(void *data)
{
    Errand *errand = data;
    domain_work(errand->context, &errand->domain);
    errand_end(errand);
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

/* A caller is told; what nobody asked for is worth a line when one of our domains was left without
 * its IOMMUFD. */
static void report(const Errand *errand, const Association *before)
{
    const DomainWork *work = &errand->domain;

    if (!(work->work & WORK_ASSOCIATE) || !work->ours)
        return;
    if (!work->associated && errand->callers->len == 0) {
        g_autofree char *why = client_error_text(&work->error, 0);
        log_warning("The domain %s is not associated: %s", work->name, why);
    } else if (work->associated && !g_str_equal(before->tenant, work->wanted)) {
        log_info("The domain %s has the IOMMUFD of the tenant %s.", work->name, work->wanted);
    }
}

static void on_domain_done(void *data)
{
    Errand *errand = data;
    Agent *agent = errand->agent;
    DomainWork *work = &errand->domain;

    /* A connection that was lost meanwhile has taken it along. */
    if (work->associated && (errand->generation != agent->generation || !agent->libvirt)) {
        work->associated = false;
        (void)sd_bus_error_setf(&work->error, LIBVIRT_FAILED,
                                "The connection to libvirt is lost: try again.");
    }
    Finding finding = {
        .found = work->found,
        .ours = work->ours,
        .associated = work->associated,
        .name = work->name,
        .wanted = work->wanted ? work->wanted : "",
        .running = work->running,
    };
    /* Busy entries are never forgotten: it is there. */
    Association *association = associations_find(agent->associations, work->uuid);

    report(errand, association);
    associations_done(agent->associations, association, work->work, &finding);
    answer(errand->callers, &work->error);
    if (work->work & WORK_ASSOCIATE) {
        agent_bus_changed(agent, "Domains");
        autostart(agent, work);
    }
    errand_free(errand);
    agent_dispatch(agent);
}

void agent_dispatch(Agent *agent)
{
    Association *association;

    while (agent->libvirt && (association = associations_next(agent->associations))) {
        Errand *errand = errand_new(agent);
        errand->domain.uuid = g_strdup(association->uuid);
        errand->domain.pinned = g_strdup(association->running);
        errand->domain.work =
            associations_begin(agent->associations, association, &errand->callers);
        worker_queue(agent->worker, run_domain, on_domain_done, errand);
    }
}

void agent_want(Agent *agent, const char *uuid, unsigned work, sd_bus_message *caller)
{
    associations_want(agent->associations, uuid, work, caller);
    agent_dispatch(agent);
}

/* ---- all domains ---- */

static void run_list(void *data)
{
    Errand *errand = data;
    (void)domain_list(errand->context, &errand->states, &errand->error);
    errand_end(errand);
}

static void sync_domain(Agent *agent, const DomainState *state, bool just_connected)
{
    if (state->autostart && just_connected)
        autostart_offer(agent->autostart, state->uuid);
    associations_want(agent->associations, state->uuid,
                      WORK_ASSOCIATE | (state->active ? WORK_FOLLOW : 0), NULL);
}

static void on_list_done(void *data)
{
    Errand *errand = data;
    Agent *agent = errand->agent;

    if (errand->states && errand->generation == agent->generation) {
        for (guint i = 0; i < errand->states->len; i++)
            sync_domain(agent, &g_array_index(errand->states, DomainState, i),
                        errand->just_connected);
        agent_dispatch(agent);
    } else if (!errand->states) {
        log_warning("%s", errand->error.message);
    }
    errand_free(errand);
}

void agent_sync(Agent *agent, bool just_connected)
{
    if (!agent->libvirt)
        return;
    Errand *errand = errand_new(agent);
    errand->just_connected = just_connected;
    worker_queue(agent->worker, run_list, on_list_done, errand);
}

/* ---- lost starts ---- */

static void run_sweep(void *data)
{
    Errand *errand = data;
    GHashTable *now = domain_sweep(errand->context, errand->seen);

    g_clear_pointer(&errand->seen, g_hash_table_unref);
    errand->seen = now;
    errand_end(errand);
}

static void on_sweep_done(void *data)
{
    Errand *errand = data;

    errand->agent->admitted = errand->seen;
    errand->agent->sweeping = false;
    errand_free(errand);
}

static int on_sweep_time(sd_event_source *source, uint64_t usec, void *userdata)
{
    Agent *agent = userdata;

    if (agent->libvirt && !agent->sweeping) {
        Errand *errand = errand_new(agent);
        errand->seen = g_steal_pointer(&agent->admitted);
        agent->sweeping = true;
        worker_queue(agent->worker, run_sweep, on_sweep_done, errand);
    }
    (void)sd_event_source_set_time_relative(source, SWEEP_USEC);
    return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

int agent_sweep_start(Agent *agent)
{
    return sd_event_add_time_relative(agent->event, NULL, CLOCK_MONOTONIC, SWEEP_USEC, 0,
                                      on_sweep_time, agent);
}
