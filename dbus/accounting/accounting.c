/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/accounting/accounting.h"

#include "dbus/accounting/internal.h"
#include "config.h"
#include "dbus/base/errors.h"
#include "dbus/base/journal.h"
#include "dbus/state/records.h"

#include <inttypes.h>

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

/* What the loader (iommud --load) has recorded comes first: it had the privileges to load, and this
 * process has none. */
static void set_reasons(Accounting *accounting, const AccountingSetup *setup)
{
    const LedgerStatus *status = accounting->ledger ? &accounting->ledger->status : NULL;
    const char *ledger = status
                             ? status->reason
                             : "There is no memory for the ledger: free some, and restart iommud.";
    const char *guard = status ? status->guard_reason : ledger;
    g_autofree char *loader_ledger = NULL;
    g_autofree char *loader_guard = NULL;
    if (loader_record_load(setup->runtime_dir, &loader_ledger, &loader_guard)) {
        ledger = *loader_ledger ? loader_ledger : ledger;
        guard = *loader_guard ? loader_guard : guard;
    }
    bool active = accounting_is_active(accounting);
    bool guarding = accounting_guard_is_active(accounting);
    accounting->ledger_reason = g_strdup(active ? "" : ledger);
    /* Also set when the guard is active: then it says what the guard does not hold against. */
    accounting->guard_reason = g_strdup(guard);
    accounting->guard_state = guarding                            ? "enforcing"
                              : setup->config->guard == GUARD_OFF ? "off"
                                                                  : "unavailable";
}

static void log_states(const Accounting *accounting)
{
    if (!accounting_is_active(accounting))
        journal_write(
            LOG_WARNING, MESSAGE_DEGRADED, NULL,
            "The ledger is not active, so that nothing is shared: each start of a machine "
            "gets an IOMMUFD of its own, and pinned memory is known from /proc only. %s",
            accounting->ledger_reason);
    else if (!accounting_guard_is_active(accounting) && accounting->require_guard)
        journal_write(LOG_WARNING, MESSAGE_DEGRADED, NULL,
                      "The guard is not active, so that nothing is shared (RequireGuard=yes): each "
                      "start of a machine gets an IOMMUFD of its own. %s",
                      accounting->guard_reason);
    else if (!accounting_guard_is_active(accounting))
        journal_write(LOG_WARNING, MESSAGE_DEGRADED, NULL,
                      "The guard is not active, and machines share IOMMUFDs all the same "
                      "(RequireGuard=no): a machine may access the memory of another of its "
                      "tenant. %s",
                      accounting->guard_reason);
}

const char *accounting_ledger_state(const Accounting *accounting)
{
    return accounting_is_active(accounting) ? "active" : "unavailable";
}

const char *accounting_ledger_reason(const Accounting *accounting)
{
    return accounting->ledger_reason;
}

const char *accounting_guard_state(const Accounting *accounting)
{
    return accounting->guard_state;
}

const char *accounting_guard_reason(const Accounting *accounting)
{
    return accounting->guard_reason;
}

bool accounting_is_active(const Accounting *accounting)
{
    return accounting->ledger && accounting->ledger->status.counting;
}

bool accounting_guard_is_active(const Accounting *accounting)
{
    return accounting_is_active(accounting) && accounting->ledger->status.guarding;
}

bool accounting_guard_rechecks(const Accounting *accounting)
{
    return accounting_guard_is_active(accounting) && accounting->ledger->status.rechecking;
}

bool accounting_allows_sharing(const Accounting *accounting)
{
    return accounting_is_active(accounting) &&
           (!accounting->require_guard || accounting_guard_is_active(accounting));
}

const char *accounting_sharing_reason(const Accounting *accounting)
{
    if (!accounting_is_active(accounting))
        return accounting->ledger_reason;
    return *accounting->guard_reason
               ? accounting->guard_reason
               : "The guard is switched off: remove Guard=off from iommud.conf "
                 "and restart iommud.";
}

bool accounting_requires_guard(const Accounting *accounting)
{
    return accounting->require_guard;
}

Ledger *accounting_ledger(const Accounting *accounting)
{
    return accounting_is_active(accounting) ? accounting->ledger : NULL;
}

int accounting_descriptor(Accounting *accounting)
{
    Ledger *ledger = accounting_ledger(accounting);
    return ledger ? ledger->ops->descriptor(ledger) : -EBADF;
}

/* ---- counters ---- */

static bool read_counters(const Accounting *accounting, LedgerCounters *ret_counters)
{
    Ledger *ledger = accounting_ledger(accounting);
    return ledger && ledger->ops->counters(ledger, ret_counters) >= 0;
}

uint64_t accounting_corrected_bytes(const Accounting *accounting)
{
    return accounting->corrected;
}

uint64_t accounting_untracked(Accounting *accounting)
{
    LedgerCounters counters;
    if (!read_counters(accounting, &counters))
        return 0;
    return counters.skipped + counters.lost_contexts + counters.lost_objects +
           counters.lost_ranges + counters.lost_usage + counters.lost_owners;
}

uint64_t accounting_unknown_ioctls(Accounting *accounting)
{
    LedgerCounters counters;
    return read_counters(accounting, &counters) ? counters.unknown_ioctls : 0;
}

/* ---- reconciliation ---- */

/* Events are lost when an owner causes too many in a second, and when the ring has no room. */
static void log_lost_events(Accounting *accounting, const LedgerCounters *counters)
{
    if (counters->lost_events > accounting->lost_events)
        journal_write(LOG_WARNING, MESSAGE_EVENTS_LOST, NULL,
                      "%" PRIu64 " refusals were not logged one by one, because there were too "
                      "many in a second; 'iommuctl status' counts them all, by machine.",
                      counters->lost_events - accounting->lost_events);
    accounting->lost_events = counters->lost_events;
}

/* Logged once, until a reconciliation succeeds. */
static void log_failing(Accounting *accounting, int error)
{
    if (!accounting->reconcile_failing)
        journal_write(LOG_WARNING, MESSAGE_LEDGER_NOT_COMPARED, NULL,
                      "The ledger could not be compared with the kernel's own structures (%s): "
                      "figures may be off until that works again, which is tried every minute. If "
                      "it lasts, restart iommud.",
                      g_strerror(-error));
    accounting->reconcile_failing = true;
}

static void log_corrected(Accounting *accounting, const LedgerCounters *counters)
{
    uint64_t off = counters->corrected - accounting->corrected;
    accounting->corrected = counters->corrected;
    if (off > 0)
        journal_write(LOG_NOTICE, MESSAGE_LEDGER_CORRECTED, &(JournalFields){.bytes = &off},
                      "The ledger was off by %" PRIu64
                      " bytes against the kernel's own structures, and "
                      "was repaired. This is usual when its programs have just been loaded; if it "
                      "goes on, 'iommuctl doctor' says more.",
                      off);
}

void accounting_reconcile(Accounting *accounting)
{
    Ledger *ledger = accounting->ledger;
    LedgerMeasurement *measurements;
    LedgerCounters counters;
    size_t n;
    int64_t began = g_get_monotonic_time();
    uint64_t untracked = accounting_untracked(accounting);
    int r = ledger->ops->reconcile(ledger, NULL, &measurements, &n);
    accounting->last_audit = g_get_monotonic_time();
    accounting->audit_duration = accounting->last_audit - began;
    if (r < 0) {
        log_failing(accounting, r);
        return;
    }
    g_free(accounting->measurements);
    accounting->measurements = measurements;
    accounting->n_measurements = n;
    accounting->untracked = untracked;
    accounting->reconcile_failing = false;
    if (read_counters(accounting, &counters)) {
        log_corrected(accounting, &counters);
        log_lost_events(accounting, &counters);
    }
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    accounting_reconcile(userdata);
    (void)sd_event_source_set_time_relative(source, RECONCILE_USEC);
    return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* ---- events ---- */

static void on_event(const LedgerEvent *event, void *data)
{
    Accounting *accounting = data;
    if (accounting->handler)
        accounting->handler(event, accounting->handler_data);
}

static void dispatch(Accounting *accounting)
{
    (void)accounting->ledger->ops->dispatch(accounting->ledger, on_event, accounting);
}

static int on_events(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
    dispatch(userdata);
    return 0;
}

void accounting_set_handler(Accounting *accounting, LedgerEventHandler handler, void *data)
{
    accounting->handler = handler;
    accounting->handler_data = data;
}

/* ---- begin and end ---- */

static int watch(Accounting *accounting)
{
    Ledger *ledger = accounting->ledger;
    int r = sd_event_add_io(accounting->event, &accounting->events, ledger->ops->event_fd(ledger),
                            EPOLLIN, on_events, accounting);
    if (r < 0)
        return r;
    return sd_event_add_time_relative(accounting->event, &accounting->timer, CLOCK_MONOTONIC,
                                      RECONCILE_USEC, 0, on_timer, accounting);
}

Accounting *accounting_new(const AccountingSetup *setup)
{
    Accounting *accounting = g_new0(Accounting, 1);
    LedgerOptions options = options_of(setup->config);
    LedgerCounters counters;
    options.descriptor = setup->descriptor;
    accounting->event = sd_event_ref(setup->event);
    accounting->require_guard = setup->config->require_guard;
    accounting->machines = g_hash_table_new(NULL, NULL);
    accounting->of_machines = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    accounting->of_tenants = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    if (setup->host->ops->ledger_open(setup->host, &options, &accounting->ledger) < 0)
        accounting->ledger = NULL;
    if (accounting_is_active(accounting) && watch(accounting) < 0)
        g_clear_pointer(&accounting->ledger, ledger_free);
    set_reasons(accounting, setup);
    log_states(accounting);
    /* What was lost before this run began is not logged by it. */
    if (read_counters(accounting, &counters))
        accounting->lost_events = counters.lost_events;
    return accounting;
}

void accounting_finish_start(Accounting *accounting)
{
    Ledger *ledger = accounting_ledger(accounting);
    if (!ledger)
        return;
    int r = ledger->ops->finish_upgrade(ledger);
    if (r < 0)
        journal_write(LOG_WARNING, MESSAGE_UPGRADE_UNFINISHED, NULL,
                      "Programs of an earlier version could not be removed from the kernel (%s): "
                      "they go on beside the new ones and cost time at each ioctl. Restart iommud.",
                      g_strerror(-r));
    accounting_reconcile(accounting);
    dispatch(accounting);
}

void accounting_free(Accounting *accounting)
{
    if (!accounting)
        return;
    sd_event_source_disable_unref(accounting->events);
    sd_event_source_disable_unref(accounting->timer);
    ledger_free(accounting->ledger);
    sd_event_unref(accounting->event);
    g_hash_table_unref(accounting->machines);
    g_hash_table_unref(accounting->of_machines);
    g_hash_table_unref(accounting->of_tenants);
    g_free(accounting->ledger_reason);
    g_free(accounting->guard_reason);
    g_free(accounting->usage);
    g_free(accounting->measurements);
    g_free(accounting->legacy);
    g_free(accounting);
}

gboolean accounting_load(Host *host, const Config *config, const char *runtime_dir, GError **error)
{
    LedgerOptions options = options_of(config);
    LedgerStatus status = {0};
    int r = host->ops->ledger_load(host, &options, &status);
    if (r < 0) {
        error_set_kernel(error, r, "The ledger and the guard could not be loaded");
        return FALSE;
    }
    return loader_record_save(runtime_dir, status.reason, status.guard_reason, error);
}

gboolean accounting_unload(Host *host, GError **error)
{
    int r = host->ops->ledger_unload(host, BPF_DIR);
    if (r == -EBUSY)
        error_set_kernel_advice(error, r, "stop iommud first (systemctl stop iommud)",
                                "The ledger and the guard can't be removed");
    else if (r < 0)
        error_set_kernel(error, r, "The folder %s could not be removed", BPF_DIR);
    return r >= 0;
}
