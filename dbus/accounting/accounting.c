/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/accounting/internal.h"

#include "config.h"
#include "dbus/base/errors.h"
#include "dbus/base/journal.h"
#include "dbus/state/records.h"
#include "dbus/core/tenant.h"
#include "kernel/base/cleanup.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>

#define RECONCILE_USEC (60 * G_USEC_PER_SEC)

static LedgerOptions options_of(const Config *config)
{
    static const LedgerGuardMode modes[] = {
        [GUARD_OFF] = LEDGER_GUARD_MODE_OFF,
        [GUARD_KNOWN] = LEDGER_GUARD_MODE_KNOWN,
        [GUARD_STRICT] = LEDGER_GUARD_MODE_STRICT,
    };
    return (LedgerOptions){
        .folder = BPF_DIR,
        .descriptor = -EBADF,
        .guard = modes[config->guard],
        .forbid_open = !config->direct_open,
        .max_contexts = config->max_iommufds,
        .max_objects = config->max_objects,
        .max_ranges = config->max_mappings,
        .max_owners = config->max_processes,
    };
}

/* ---- states ---- */

/* The loader had the privileges that the service lacks: what it could not do is the reason. */
static void set_reasons(Books *books, const Config *config)
{
    const char *why = books->ledger ? books->ledger->status.reason : "There is no memory for it.";
    const char *guard_why = books->ledger ? books->ledger->status.guard_reason : why;
    g_autofree char *loader_why = NULL;
    g_autofree char *loader_guard_why = NULL;
    if (!books->manager->simulated &&
        state_load_loader(books->manager->runtime_dir, &loader_why, &loader_guard_why)) {
        why = *loader_why ? loader_why : why;
        guard_why = *loader_guard_why ? loader_guard_why : guard_why;
    }
    books->guard_off = config->guard == GUARD_OFF;
    books->ledger_reason = g_strdup(books_count(books) ? "" : why);
    books->guard_reason = g_strdup(books_guard(books) || books->guard_off ? "" : guard_why);
}

static void log_states(const Books *books)
{
    if (!books_count(books))
        journal_write(LOG_WARNING, MESSAGE_DEGRADED, NULL,
                      "The kernel does not say which machine has pinned what, and the reaper has "
                      "to find it out by probes; 'iommuctl doctor' says what to do. The ledger is "
                      "unavailable: %s",
                      books->ledger_reason);
    if (!books_guard(books))
        journal_write(LOG_WARNING, MESSAGE_DEGRADED, NULL,
                      "Machines that share an IOMMUFD are not kept apart in it for certain; "
                      "'iommuctl doctor' "
                      "says what to do. The guard is %s%s%s",
                      books_guard_state(books), books->guard_off ? "." : ": ", books->guard_reason);
}

const char *books_ledger_state(const Books *books)
{
    return books_count(books) ? "active" : "unavailable";
}

const char *books_guard_state(const Books *books)
{
    return books_guard(books) ? "enforcing" : books->guard_off ? "off" : "unavailable";
}

const char *books_ledger_reason(const Books *books)
{
    return books->ledger_reason;
}

const char *books_guard_reason(const Books *books)
{
    return books->guard_reason;
}

bool books_count(const Books *books)
{
    return books->ledger && books->ledger->status.counting;
}

bool books_guard(const Books *books)
{
    return books->ledger && books->ledger->status.guarding;
}

bool books_guard_is_exact(const Books *books)
{
    return books->ledger && books->ledger->status.rechecking;
}

bool books_may_share(const Books *books)
{
    return !books->require_guard || books_guard(books);
}

bool books_require_guard(const Books *books)
{
    return books->require_guard;
}

Ledger *books_ledger(const Books *books)
{
    return books->ledger;
}

uint64_t books_drift(const Books *books)
{
    return books->drift;
}

bool books_counters(Books *books, LedgerCounters *ret_counters)
{
    return books_count(books) && books->ledger->ops->counters(books->ledger, ret_counters) >= 0;
}

uint64_t books_missed(Books *books)
{
    LedgerCounters counters;
    if (!books_counters(books, &counters))
        return 0;
    return counters.skipped + counters.lost_contexts + counters.lost_objects +
           counters.lost_ranges + counters.lost_usage + counters.lost_owners;
}

uint64_t books_unknown_ioctls(Books *books)
{
    LedgerCounters counters;
    return books_counters(books, &counters) ? counters.unknown_ioctls : 0;
}

/* ---- looks ---- */

/* Who causes many events in a second is not heard for the rest of it; and some may find no room. */
static void say_unheard(Books *books, const LedgerCounters *counters)
{
    if (counters->lost_events > books->unheard)
        journal_write(LOG_WARNING, MESSAGE_REFUSED_UNHEARD, NULL,
                      "%" PRIu64
                      " refusals were not logged one by one, because there were too many in a "
                      "second; Refusals of each machine counts them all.",
                      counters->lost_events - books->unheard);
    books->unheard = counters->lost_events;
}

/* Once, until it can be done again. */
static void say_failing(Books *books, int error)
{
    if (!books->failing)
        journal_write(LOG_WARNING, MESSAGE_LEDGER_NOT_COMPARED, NULL,
                      "The ledger can't be compared with the kernel's own structures (%s): figures "
                      "may be off until it can.",
                      g_strerror(-error));
    books->failing = true;
}

static void say_drift(Books *books, const LedgerCounters *counters)
{
    uint64_t off = counters->corrected - books->drift;
    books->drift = counters->corrected;
    if (off > 0)
        journal_write(LOG_NOTICE, MESSAGE_DRIFT, &(JournalAbout){.bytes = &off},
                      "The ledger was off by %" PRIu64 " bytes and is right again.", off);
}

void books_reconcile(Books *books)
{
    LedgerMeasurement *measurements;
    LedgerCounters counters;
    size_t n;
    int64_t began = g_get_monotonic_time();
    uint64_t missed = books_missed(books);
    int r = books->ledger->ops->reconcile(books->ledger, NULL, &measurements, &n);
    books->looked = g_get_monotonic_time();
    books->look_cost = books->looked - began;
    if (r < 0) {
        say_failing(books, r);
        return;
    }
    g_free(books->measurements);
    books->measurements = measurements;
    books->n_measurements = n;
    books->missed = missed;
    books->failing = false;
    if (!books_counters(books, &counters))
        return;
    say_drift(books, &counters);
    say_unheard(books, &counters);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    books_reconcile(userdata);
    (void)sd_event_source_set_time_relative(source, RECONCILE_USEC);
    return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static int on_events(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    books_dispatch(userdata);
    return 0;
}

/* ---- begin and end ---- */

static int watch(Books *books)
{
    sd_event *event = books->manager->event;
    int r = sd_event_add_io(event, &books->events, books->ledger->ops->event_fd(books->ledger),
                            EPOLLIN, on_events, books);
    return r < 0 ? r
                 : sd_event_add_time_relative(event, &books->timer, CLOCK_MONOTONIC, RECONCILE_USEC,
                                              0, on_timer, books);
}

static bool is_same_file(int a, int b)
{
    struct stat one, other;
    return a >= 0 && b >= 0 && fstat(a, &one) == 0 && fstat(b, &other) == 0 &&
           one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

/* What it lives in outlives the service in the service manager, if it needs that. */
static Ledger *open_ledger(Host *host, LedgerOptions *options, FdStore *store)
{
    autoclose int kept = fd_store_claim(store, FD_STORE_LEDGER);
    Ledger *ledger;
    options->descriptor = kept;
    if (host->ops->ledger_open(host, options, &ledger) < 0)
        return NULL;
    int descriptor = ledger->ops->descriptor(ledger);
    if (descriptor >= 0 && !is_same_file(descriptor, kept))
        fd_store_push(FD_STORE_LEDGER, descriptor);
    return ledger;
}

Books *books_new(Manager *manager, const Config *config, FdStore *store)
{
    Books *books = g_new0(Books, 1);
    LedgerOptions options = options_of(config);
    LedgerCounters counters;
    books->manager = manager;
    books->require_guard = config->require_guard;
    books->tenants = g_hash_table_new(NULL, NULL);
    books->machines = g_hash_table_new(NULL, NULL);
    state_load_numbers(manager, &books->last_tenant, &books->last_machine);
    books->ledger = open_ledger(manager->host, &options, store);
    if (books_count(books) && watch(books) < 0)
        g_clear_pointer(&books->ledger, ledger_free);
    set_reasons(books, config);
    log_states(books);
    /* What an earlier run has not told of is not told now. */
    if (books_counters(books, &counters))
        books->unheard = counters.lost_events;
    return books;
}

void books_settle(Books *books)
{
    if (!books_count(books))
        return;
    int r = books->ledger->ops->finish_upgrade(books->ledger);
    if (r < 0)
        journal_write(LOG_WARNING, MESSAGE_UPGRADE_UNFINISHED, NULL,
                      "Programs of another version could not be removed from the kernel: %s.",
                      g_strerror(-r));
    books_reconcile(books);
    books_dispatch(books);
}

void books_free(Books *books)
{
    if (!books)
        return;
    sd_event_source_disable_unref(books->events);
    sd_event_source_disable_unref(books->timer);
    ledger_free(books->ledger);
    g_hash_table_unref(books->tenants);
    g_hash_table_unref(books->machines);
    g_free(books->ledger_reason);
    g_free(books->guard_reason);
    g_free(books->usage);
    g_free(books->measurements);
    g_free(books->legacy);
    g_free(books);
}

gboolean books_load(Host *host, const Config *config, const char *runtime_dir, GError **error)
{
    LedgerOptions options = options_of(config);
    LedgerStatus status;
    int r = host->ops->ledger_load(host, &options, &status);
    if (r < 0) {
        error_set_kernel(error, r, "The ledger and the guard could not be loaded");
        return FALSE;
    }
    return state_save_loader(runtime_dir, status.reason, status.guard_reason, error);
}

gboolean books_unload(Host *host, GError **error)
{
    int r = host->ops->ledger_unload(host, BPF_DIR);
    if (r == -EBUSY)
        error_set_kernel_advice(error, r, "stop iommud first (systemctl stop iommud)",
                                "The ledger and the guard can't be removed");
    else if (r < 0)
        error_set_kernel(error, r, "The folder %s could not be removed", BPF_DIR);
    return r >= 0;
}
