/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/accounting/internal.h"

#include "config.h"
#include "dbus/base/errors.h"
#include "dbus/base/journal.h"
#include "dbus/state/records.h"
#include "dbus/core/tenant.h"
#include "kernel/base/process.h"

#include <inttypes.h>

#define RECONCILE_USEC (60 * G_USEC_PER_SEC)
#define PAGE LEDGER_PAGE_SIZE

static LedgerOptions options_of(const Config *config)
{
    static const enum ledger_guard_mode modes[] = {
        [GUARD_OFF] = LEDGER_GUARD_OFF,
        [GUARD_KNOWN] = LEDGER_GUARD_KNOWN,
        [GUARD_STRICT] = LEDGER_GUARD_STRICT,
    };
    return (LedgerOptions){
        .folder = BPF_DIR,
        .guard = modes[config->guard],
        .flags = config->direct_open ? 0 : LEDGER_CONFIG_NO_OPEN,
        .max_contexts = config->max_iommufds,
        .max_objects = config->max_objects,
        .max_pages = config->max_mappings,
        .max_owners = config->max_processes,
    };
}

/* ---- states ---- */

/* The loader had the privileges that the service lacks: what it could not do is the reason. */
static void set_states(Books *books, const Config *config)
{
    const char *why = books->ledger ? ledger_reason(books->ledger) : "there is no memory for it.";
    const char *guard_why = books->ledger ? ledger_guard_reason(books->ledger) : why;
    g_autofree char *loader_why = NULL;
    g_autofree char *loader_guard_why = NULL;
    if (books->manager->simulated)
        why = guard_why = "the host is simulated, and with it what runs in its kernel.";
    else if (state_load_loader(books->manager->runtime_dir, &loader_why, &loader_guard_why)) {
        why = *loader_why ? loader_why : why;
        guard_why = *loader_guard_why ? loader_guard_why : guard_why;
    }
    books->ledger_state =
        books_count(books) ? g_strdup("active") : g_strconcat("unavailable: ", why, NULL);
    if (books_guard(books))
        books->guard_state = g_strdup("enforcing");
    else if (config->guard == GUARD_OFF)
        books->guard_state = g_strdup("off");
    else
        books->guard_state = g_strconcat("unavailable: ", guard_why, NULL);
}

static void log_states(const Books *books)
{
    if (books->manager->simulated)
        return;
    if (!books_count(books))
        journal_write(
            LOG_WARNING, MESSAGE_DEGRADED, NULL,
            "The kernel does not say which machine has pinned what, and the reaper has "
            "to find it out by probes; 'iommuctl doctor' says what to do. The ledger is %s",
            books->ledger_state);
    if (!books_guard(books))
        journal_write(LOG_WARNING, MESSAGE_DEGRADED, NULL,
                      "Machines that share an IOMMUFD are not kept apart in it for certain; "
                      "'iommuctl doctor' "
                      "says what to do. The guard is %s%s",
                      books->guard_state, g_str_has_suffix(books->guard_state, ".") ? "" : ".");
}

const char *books_ledger_state(const Books *books)
{
    return books->ledger_state;
}

const char *books_guard_state(const Books *books)
{
    return books->guard_state;
}

bool books_count(const Books *books)
{
    return books->ledger && ledger_is_active(books->ledger);
}

bool books_guard(const Books *books)
{
    return books->ledger && ledger_guard_is_active(books->ledger);
}

bool books_guard_is_exact(const Books *books)
{
    return books->ledger && ledger_guard_is_exact(books->ledger);
}

bool books_may_share(const Books *books)
{
    return !books->require_guard || books_guard(books);
}

bool books_require_guard(const Books *books)
{
    return books->require_guard;
}

const Ledger *books_ledger(const Books *books)
{
    return books->ledger;
}

uint64_t books_drift(const Books *books)
{
    return books->drift;
}

uint64_t books_missed(Books *books)
{
    uint64_t missed = 0;
    struct ledger_state state;
    if (!books_count(books))
        return 0;
    (void)ledger_missed(books->ledger, &missed);
    if (ledger_state(books->ledger, &state) >= 0)
        missed += state.lost_contexts + state.lost_objects + state.lost_pages + state.lost_books +
                  state.lost_owners;
    return missed;
}

uint64_t books_unknown_ioctls(Books *books)
{
    struct ledger_state state;
    return books_count(books) && ledger_state(books->ledger, &state) >= 0 ? state.unknown_ioctls
                                                                          : 0;
}

/* ---- looks ---- */

/* Who causes many events in a second is not heard for the rest of it; and some may find no room. */
static void say_unheard(Books *books)
{
    struct ledger_state state;
    if (ledger_state(books->ledger, &state) < 0)
        return;
    if (state.lost_events > books->unheard)
        journal_write(LOG_WARNING, MESSAGE_REFUSED_UNHEARD, NULL,
                      "%" PRIu64
                      " refusals were not logged one by one, because there were too many in a "
                      "second; Refusals of each machine counts them all.",
                      (uint64_t)state.lost_events - books->unheard);
    books->unheard = state.lost_events;
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

static void say_drift(Books *books)
{
    uint64_t all = ledger_drift(books->ledger) * PAGE, off = all - books->drift;
    books->drift = all;
    if (off > 0)
        journal_write(LOG_NOTICE, MESSAGE_DRIFT, &(JournalAbout){.bytes = &off},
                      "The ledger was off by %" PRIu64 " bytes and is right again.", off);
}

void books_reconcile(Books *books)
{
    LedgerTruth *truths;
    size_t n;
    int64_t began = g_get_monotonic_time();
    uint64_t missed = books_missed(books);
    int r = ledger_reconcile(books->ledger, NULL, &truths, &n);
    books->looked = g_get_monotonic_time();
    books->look_cost = books->looked - began;
    if (r < 0) {
        say_failing(books, r);
        return;
    }
    g_free(books->truths);
    books->truths = truths;
    books->n_truths = n;
    books->missed = missed;
    books->failing = false;
    say_drift(books);
    say_unheard(books);
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
    int r = sd_event_add_io(event, &books->events, ledger_event_fd(books->ledger), EPOLLIN,
                            on_events, books);
    return r < 0 ? r
                 : sd_event_add_time_relative(event, &books->timer, CLOCK_MONOTONIC, RECONCILE_USEC,
                                              0, on_timer, books);
}

/* The service manager keeps the IOMMUFDs, and gives them back to the next run. */
static void trust_init(Books *books)
{
    uint64_t start;
    if (process_start_time(1, &start) >= 0)
        (void)ledger_trust_process(books->ledger, 1, start, LEDGER_ROLE_CARRIER);
}

Books *books_new(Manager *manager, const Config *config)
{
    Books *books = g_new0(Books, 1);
    LedgerOptions options = options_of(config);
    struct ledger_state state;
    books->manager = manager;
    books->require_guard = config->require_guard;
    books->tenants = g_hash_table_new(NULL, NULL);
    books->machines = g_hash_table_new(NULL, NULL);
    books->units = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    state_load_numbers(manager, &books->last_tenant, &books->last_machine);
    if (!manager->simulated && ledger_new(&options, &books->ledger) < 0)
        books->ledger = NULL;
    if (books_count(books) && watch(books) < 0)
        g_clear_pointer(&books->ledger, ledger_free);
    set_states(books, config);
    log_states(books);
    if (books_count(books)) {
        trust_init(books);
        /* What an earlier run has not told of is not told now. */
        if (ledger_state(books->ledger, &state) >= 0)
            books->unheard = state.lost_events;
    }
    return books;
}

void books_settle(Books *books)
{
    if (!books_count(books))
        return;
    int r = ledger_commit(books->ledger);
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
    g_hash_table_unref(books->units);
    g_strfreev(books->carriers);
    g_free(books->ledger_state);
    g_free(books->guard_state);
    g_free(books->rows);
    g_free(books->truths);
    g_free(books->legacy);
    g_free(books);
}

gboolean books_load(const Config *config, const char *runtime_dir, GError **error)
{
    LedgerOptions options = options_of(config);
    LedgerReport report = {0};
    int r = ledger_load(&options, &report);
    if (r < 0) {
        error_set_kernel(error, r, "The ledger and the guard could not be loaded");
        return FALSE;
    }
    return state_save_loader(runtime_dir, report.reason, report.guard_reason, error);
}

gboolean books_unload(GError **error)
{
    int r = ledger_unload(BPF_DIR);
    if (r == -EBUSY)
        error_set_kernel_advice(error, r, "stop iommud first (systemctl stop iommud)",
                                "The ledger and the guard can't be removed");
    else if (r < 0)
        error_set_kernel(error, r, "The folder %s could not be removed", BPF_DIR);
    return r >= 0;
}
