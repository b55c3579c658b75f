/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/libvirt/agent/agent-starts.h"

#include "plugin/libvirt/agent/agent-domains.h"
#include "plugin/libvirt/agent/work-context.h"

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#define NOT_ASSOCIATED BUS_ERROR_PREFIX "NotAssociated"
#define PROOF_SECONDS 5
#define PROOF_USEC (PROOF_SECONDS * CLIENT_USEC_PER_SEC)
/* An event that libvirtd has queued is sent before it reads what came after: in that turn of its
 * loop, but perhaps after a call that it reads in the same turn. The second call comes in a later
 * one. */
#define PROOF_CALLS 2
/* Here, too: what was received is handed out in a turn of libvirt's event loop, perhaps after us.
 */
#define PROOF_TURNS 2

typedef struct {
    char *uuid;
    sd_bus_message *call;
} Start;

/* One is on its way at a time, for all who asked before it began. */
struct Proof {
    Agent *agent;
    unsigned generation;
    WorkContext *context;
    char *error; /* NULL: libvirt has answered */
    unsigned turns;
    sd_event_source *timer;
    bool late; /* nobody waits for it any more */
};

static void start_free(void *data)
{
    Start *start = data;

    g_free(start->uuid);
    sd_bus_message_unref(start->call);
    g_free(start);
}

/* ---- answers ---- */

static void refuse_unknown(sd_bus_message *call, const char *uuid)
{
    (void)sd_bus_reply_method_errorf(
        call, NOT_ASSOCIATED,
        "The domain %s can't be started: libvirt has no IOMMUFD for it, as it never has for one "
        "that is created and started in one call. Define it ('virsh define'), then run 'iommuctl "
        "libvirt associate %s', which says when it can be started.",
        uuid, uuid);
}

static void refuse(Agent *agent, sd_bus_message *call, const Association *association)
{
    const char *name = *association->name ? association->name : association->uuid;

    if (association->busy || association->pending)
        (void)sd_bus_reply_method_errorf(call, NOT_ASSOCIATED,
                                         "The domain %s can't be started yet: libvirt is being "
                                         "given its IOMMUFD. Start it again.",
                                         name);
    else
        (void)sd_bus_reply_method_errorf(call, NOT_ASSOCIATED,
                                         "The domain %s can't be started: libvirt has no IOMMUFD "
                                         "for it. %s",
                                         name, association->why ? association->why : "");
    agent_request_job(agent, association->uuid, JOB_ASSOCIATE, NULL);
}

static void answer(Agent *agent, const Start *start)
{
    Association *association = associations_find(agent->associations, start->uuid);

    if (!association) {
        refuse_unknown(start->call, start->uuid);
    } else if (!*association->tenant) {
        refuse(agent, start->call, association);
    } else {
        association->given = true;
        (void)sd_bus_reply_method_return(start->call, "stt", association->tenant,
                                         association->iommufd, agent->socket);
    }
}

static void answer_all(Agent *agent, GQueue *starts, const char *error)
{
    Start *start;

    while ((start = g_queue_pop_head(starts))) {
        if (error)
            (void)sd_bus_reply_method_errorf(start->call, LIBVIRT_FAILED,
                                             "The domain %s can't be started, for it is not known "
                                             "whether libvirt has its IOMMUFD: %s. See 'iommuctl "
                                             "libvirt status', and start it again.",
                                             start->uuid, error);
        else
            answer(agent, start);
        start_free(start);
    }
}

/* ---- the proof ---- */

static void begin_proof(Agent *agent);

static void proof_free(Proof *proof)
{
    sd_event_source_disable_unref(proof->timer);
    g_free(proof->error);
    g_free(proof);
}

static void end_proof(Proof *proof)
{
    Agent *agent = proof->agent;
    bool current = agent->libvirt && proof->generation == agent->generation;

    agent->proof = NULL;
    if (!proof->late)
        answer_all(agent, &agent->proven, current ? proof->error : "the connection is lost");
    proof_free(proof);
    if (!agent->libvirt)
        answer_all(agent, &agent->starts, agent->state);
    else if (!g_queue_is_empty(&agent->starts))
        begin_proof(agent);
}

static void on_flushed(void *data)
{
    end_proof(data);
}

/* On libvirt's thread, which has posted by now what it was given to do before. */
static void on_turn(int timer, void *data)
{
    Proof *proof = data;

    if (++proof->turns < PROOF_TURNS)
        return;
    (void)virEventRemoveTimeout(timer);
    worker_post(proof->agent->worker, on_flushed, proof);
}

static void on_proof_run(void *data)
{
    Proof *proof = data;

    if (!proof->error && virEventAddTimeout(0, on_turn, proof, NULL) >= 0)
        return;
    if (!proof->error)
        proof->error = g_strdup(virGetLastErrorMessage());
    end_proof(proof);
}

static void run_proof(void *data)
{
    Proof *proof = data;
    unsigned long version;

    for (unsigned i = 0; i < PROOF_CALLS && !proof->error; i++)
        if (virConnectGetLibVersion(proof->context->libvirt, &version) < 0)
            proof->error = g_strdup(virGetLastErrorMessage());
    g_clear_pointer(&proof->context, work_context_free);
}

static int on_proof_late(sd_event_source *source, uint64_t usec, void *userdata)
{
    Proof *proof = userdata;

    proof->late = true;
    answer_all(proof->agent, &proof->agent->proven, "it does not answer");
    answer_all(proof->agent, &proof->agent->starts, "it does not answer");
    return 0;
}

static void begin_proof(Agent *agent)
{
    Proof *proof = g_new0(Proof, 1);

    if (sd_event_add_time_relative(agent->event, &proof->timer, CLOCK_MONOTONIC, PROOF_USEC, 0,
                                   on_proof_late, proof) < 0)
        g_error("Out of memory");
    proof->agent = agent;
    proof->generation = agent->generation;
    proof->context = work_context_new(agent->libvirt, agent->version, agent->bus_address);
    agent->proof = proof;
    agent->proven = agent->starts;
    g_queue_init(&agent->starts);
    worker_queue(agent->prover, run_proof, on_proof_run, proof);
}

void agent_begin_start(Agent *agent, const char *uuid, sd_bus_message *call)
{
    Start *start = g_new0(Start, 1);

    start->uuid = g_strdup(uuid);
    start->call = call;
    g_queue_push_tail(&agent->starts, start);
    if (!agent->libvirt)
        answer_all(agent, &agent->starts, agent->state);
    else if (!agent->proof)
        begin_proof(agent);
    else if (agent->proof->late)
        answer_all(agent, &agent->starts, "it does not answer");
}
