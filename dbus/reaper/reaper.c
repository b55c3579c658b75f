/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/reaper/reaper.h"

#include "dbus/base/journal.h"
#include "dbus/reaper/orphans.h"
#include "dbus/core/machine.h"
#include "dbus/reaper/destroy-job.h"
#include "dbus/core/tenant.h"
#include "dbus/base/worker.h"
#include "kernel/base/cleanup.h"
#include "policy/size.h"

#include <fcntl.h>

/* A VFIO descriptor may close a little after its process has died; its page table is busy until
 * then. */
#define RETRY_USEC (200 * 1000)
#define RETRY_STUCK_USEC (10 * G_USEC_PER_SEC)
#define STUCK_USEC (60 * G_USEC_PER_SEC)
/* After this time, objects that answer EBUSY are taken for those of a machine that lives. */
#define GRACE_USEC G_USEC_PER_SEC

/* What is in an IOMMUFD: as the ledger says, or as probes say. */
typedef struct {
    bool known; /* by the ledger */
    LedgerObject *owned;
    size_t n_owned;
    HostObject *objects;
    size_t n;
} Look;

static void look_clear(Look *look)
{
    g_free(look->owned);
    g_free(look->objects);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Look, look_clear)

static gboolean look_at(TenantLife *life, Look *look)
{
    look->known = leftovers_known(life);
    if (look->known)
        return books_objects(life->manager->books, life, &look->owned, &look->n_owned, NULL);
    return tenant_life_objects(life, &look->objects, &look->n, NULL);
}

static void reaper_sweep(TenantLife *life);

/* ---- what may go ---- */

static bool is_live(const MachineLife *machine)
{
    return machine->machine->state != MACHINE_REAPING;
}

/* A machine in the shared IOMMUFD, other than but, that lives or is just starting. */
static bool has_live(TenantLife *life, const MachineLife *but)
{
    g_autoptr(GPtrArray) machines = tenant_life_machines(life);
    for (unsigned i = 0; i < machines->len; i++) {
        const MachineLife *machine = g_ptr_array_index(machines, i);
        if (machine != but && is_live(machine) && machine->shares)
            return true;
    }
    return false;
}

/* The rules (a) to (d) of reaper.h. *spared: the window is the only reason why not. */
static bool may_go(TenantLife *life, HostObject object, bool live, bool *spared)
{
    if (object.type == HOST_OBJECT_DEVICE || tenant_life_made(life, object))
        return false;
    const MachineLife *owner = tenant_life_owner(life, object);
    if (owner)
        return !is_live(owner);
    if (object.type == HOST_OBJECT_OTHER && live)
        return false;
    if (life->inside == 0 || object_set_has(life->settled, object))
        return true;
    *spared = true;
    return false;
}

/* The highest layer first: each of these uses those after it. */
static unsigned layer_of(HostObjectType type)
{
    return type == HOST_OBJECT_OTHER ? 0 : type == HOST_OBJECT_HWPT ? 1 : 2;
}

static Sweep *choose(TenantLife *life, const Look *look)
{
    bool live = has_live(life, NULL);
    life->spared = false;
    if (look->known)
        return leftovers_choose(life, live, look->owned, look->n_owned);
    Sweep *sweep = sweep_new(life->manager->host);
    for (size_t i = 0; i < look->n; i++) {
        HostObject object = look->objects[i];
        if (may_go(life, object, live, &life->spared))
            sweep_add(sweep, (SweepCandidate){.id = object.id,
                                              .layer = layer_of(object.type),
                                              .type = object.type});
    }
    return sweep;
}

/* ---- who is reaped ---- */

/* Whether anything is left that could be the machine's, of which nothing is known. */
static bool anything_left(TenantLife *life, const HostObject *objects, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (tenant_life_made(life, objects[i]) || tenant_life_owner(life, objects[i]))
            continue;
        if (life->inside == 0 || object_set_has(life->settled, objects[i]))
            return true;
    }
    return false;
}

/* Its objects can't be told from those of a machine that is still starting. */
static bool waits_for_window(const MachineLife *machine)
{
    const TenantLife *life = machine->tenant;
    return !machine->known && life->inside > 0 && machine->window == life->window;
}

static bool is_reaped(MachineLife *machine, const Look *look)
{
    TenantLife *life = machine->tenant;
    if (look->known)
        return leftovers_is_reaped(machine, look->owned, look->n_owned);
    if (machine->known || object_set_size(machine->objects) > 0)
        return object_set_size(machine->objects) == 0;
    if (waits_for_window(machine))
        return false;
    if (!anything_left(life, look->objects, look->n))
        return true;
    return has_live(life, machine) &&
           g_get_monotonic_time() - machine->machine->since >= GRACE_USEC;
}

static GPtrArray *reaping_machines(TenantLife *life)
{
    GPtrArray *machines = tenant_life_machines(life);
    for (unsigned i = 0; i < machines->len;) {
        if (is_live(g_ptr_array_index(machines, i)))
            g_ptr_array_remove_index(machines, i);
        else
            i++;
    }
    return machines;
}

static void log_stuck(MachineLife *machine)
{
    uint64_t bytes = machine->machine->last_pinned;
    g_autofree char *size = size_format(bytes);
    machine->stuck = true;
    journal_write(
        LOG_WARNING, MESSAGE_REAP_STUCK,
        &(JournalAbout){.tenant = machine->tenant->id, .machine = machine->uuid, .bytes = &bytes},
        "Machine %s (%s) of tenant %s died, but what it left in the tenant's IOMMUFD is "
        "still in use after %d seconds: %s stay orphaned; trying on. Look for a process "
        "that holds its VFIO devices.",
        machine->machine->name, machine->uuid, machine->tenant->id,
        (int)(STUCK_USEC / G_USEC_PER_SEC), size);
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata)
{
    TenantLife *life = userdata;
    life->retry = sd_event_source_disable_unref(life->retry);
    /* What is said to be left may be what the ledger has missed the end of. */
    books_refresh(life->manager->books);
    reaper_sweep(life);
    return 0;
}

/* For what is not reaped yet and does not wait for the window; and, now and then, for what dead
 * processes that were no machine have left in use. */
static void schedule_retry(TenantLife *life)
{
    int64_t now = g_get_monotonic_time();
    uint64_t delay = life->unfinished ? RETRY_STUCK_USEC : 0;
    g_autoptr(GPtrArray) machines = reaping_machines(life);
    for (unsigned i = 0; i < machines->len; i++) {
        MachineLife *machine = g_ptr_array_index(machines, i);
        bool stuck = now - machine->machine->since >= STUCK_USEC;
        if (waits_for_window(machine))
            continue;
        if (stuck && !machine->stuck)
            log_stuck(machine);
        if (!stuck)
            delay = RETRY_USEC;
        else if (delay == 0)
            delay = RETRY_STUCK_USEC;
    }
    life->retry = sd_event_source_disable_unref(life->retry);
    if (delay > 0)
        (void)sd_event_add_time_relative(life->manager->event, &life->retry, CLOCK_MONOTONIC, delay,
                                         0, on_retry, life);
}

/* Lets go of the machines that are reaped, by what is in the IOMMUFD now. */
static void judge(TenantLife *life, const Look *look)
{
    g_autoptr(GPtrArray) machines = reaping_machines(life);
    for (unsigned i = 0; i < machines->len;) {
        if (is_reaped(g_ptr_array_index(machines, i), look))
            i++;
        else
            g_ptr_array_remove_index(machines, i);
    }
    /* Who waited for one of them is answered, and may be admitted and open or close the window: no
     * sweep must come in between and let go of one that is still to come here. */
    life->judging = true;
    for (unsigned i = 0; i < machines->len; i++)
        machine_life_finish(g_ptr_array_index(machines, i));
    life->judging = false;
}

/* ---- sweeps ---- */

static void answer_calls(GPtrArray *calls, uint32_t objects, uint64_t bytes)
{
    for (unsigned i = 0; i < calls->len; i++)
        (void)sd_bus_reply_method_return(g_ptr_array_index(calls, i), "ut", objects, bytes);
}

/* A destroyed object counts for the machine it is known to be of, else for the first that is being
 * reaped. */
static void note_destroyed(TenantLife *life, const SweepCandidate *object)
{
    HostObject probed = {.id = object->id, .type = object->type};
    MachineLife *owner = object->machine ? books_find_machine(life->manager->books, object->machine)
                                         : tenant_life_owner(life, probed);
    if (life->settled)
        object_set_remove(life->settled, object->id);
    if (owner) {
        object_set_remove(owner->objects, object->id);
        owner->reaped++;
        return;
    }
    g_autoptr(GPtrArray) machines = reaping_machines(life);
    if (machines->len > 0)
        ((MachineLife *)g_ptr_array_index(machines, 0))->reaped++;
}

static void note_unmapped(TenantLife *life, const GArray *candidates)
{
    for (unsigned i = 0; i < candidates->len; i++) {
        const SweepCandidate *object = &g_array_index(candidates, SweepCandidate, i);
        MachineLife *owner = books_find_machine(life->manager->books, object->machine);
        if (owner)
            owner->reaped_bytes += object->unmapped;
    }
}

static void reaper_go_on(TenantLife *life)
{
    if (life->sweep_again)
        reaper_sweep(life);
    else
        schedule_retry(life);
}

/* By what is there now; or by what the sweep has seen last, which was as late as can be. */
static void judge_swept(TenantLife *life, Sweep *sweep)
{
    g_auto(Look) look = {0};
    if (sweep->ledger) {
        if (look_at(life, &look))
            judge(life, &look);
        return;
    }
    look.objects = g_steal_pointer(&sweep->left);
    look.n = sweep->n_left;
    tenant_life_note_objects(life, look.objects, look.n);
    judge(life, &look);
}

static void on_swept(void *data)
{
    Sweep *sweep = data;
    TenantLife *life = sweep->life;
    if (life) {
        life->sweep = NULL;
        life->unfinished = sweep->ledger && !sweep_is_empty(sweep);
        note_unmapped(life, sweep->destroyed);
        note_unmapped(life, sweep->candidates);
        for (unsigned i = 0; i < sweep->destroyed->len; i++)
            note_destroyed(life, &g_array_index(sweep->destroyed, SweepCandidate, i));
        if (sweep->result >= 0)
            judge_swept(life, sweep);
        reaper_go_on(life);
    }
    answer_calls(sweep->calls, sweep->destroyed->len, sweep->freed);
    sweep_free(sweep);
}

static void reaper_sweep(TenantLife *life)
{
    g_auto(Look) look = {0};
    life->sweep_again = life->sweep || life->judging;
    if (life->sweep_again)
        return;
    if (!look_at(life, &look)) {
        answer_calls(life->reap_calls, 0, 0);
        g_ptr_array_set_size(life->reap_calls, 0);
        schedule_retry(life);
        return;
    }
    Sweep *sweep = choose(life, &look);
    sweep->calls = g_ptr_array_ref(life->reap_calls);
    g_ptr_array_unref(life->reap_calls);
    life->reap_calls = g_ptr_array_new_with_free_func(sd_auto_free_message);
    int fd = sweep_is_empty(sweep) ? -EBADF : fcntl(life->tenant->iommufd, F_DUPFD_CLOEXEC, 3);
    if (fd < 0) {
        /* Nothing to do for the worker, or out of descriptors: then it is tried again. */
        judge(life, &look);
        answer_calls(sweep->calls, 0, 0);
        sweep_free(sweep);
        reaper_go_on(life);
        return;
    }
    sweep->fd = fd;
    sweep->life = life;
    life->sweep = sweep;
    worker_queue(life->manager->worker, sweep_run, on_swept, sweep);
}

void reaper_wake(TenantLife *life)
{
    reaper_sweep(life);
}

void reaper_window_closed(TenantLife *life)
{
    g_autoptr(GPtrArray) machines = reaping_machines(life);
    if (life->spared || machines->len > 0)
        reaper_sweep(life);
}

int reaper_call(TenantLife *life, sd_bus_message *call)
{
    g_ptr_array_add(life->reap_calls, sd_bus_message_ref(call));
    reaper_sweep(life);
    return 1;
}

void reaper_detach(TenantLife *life)
{
    if (life->sweep)
        life->sweep->life = NULL;
    answer_calls(life->reap_calls, 0, 0);
}
