/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What tenants and machines have, by the ledger. */
#include "dbus/accounting/accounting.h"

#include "dbus/accounting/internal.h"
#include "dbus/base/errors.h"

#include <stdlib.h>

/* When somebody asks for figures the ledger is reconciled, if the last time is AUDIT_USEC ago, or
 * UNTRACKED_USEC when it has missed something since; but never so often that reconciliations take
 * more than 1/AUDIT_SHARE of the time. */
#define AUDIT_USEC (10 * G_USEC_PER_SEC)
#define UNTRACKED_USEC G_USEC_PER_SEC
#define AUDIT_SHARE 50
#define LEGACY_USEC G_USEC_PER_SEC

void accounting_refresh_if_older(Accounting *accounting, int64_t age)
{
    if (!accounting_is_active(accounting))
        return;
    if (accounting_untracked(accounting) != accounting->untracked)
        age = MIN(age, UNTRACKED_USEC);
    if (g_get_monotonic_time() - accounting->last_audit >=
        MAX(age, AUDIT_SHARE * accounting->audit_duration))
        accounting_reconcile(accounting);
}

void accounting_refresh(Accounting *accounting)
{
    accounting_refresh_if_older(accounting, AUDIT_USEC);
}

/* ---- of owners, summed up ---- */

/* What a machine or a tenant has. */
typedef struct {
    Usage usage;
    uint64_t twice; /* bytes of usage.pinned that were pinned more than once at the last audit */
} Sum;

static Sum *sum_of(GHashTable *sums, uint32_t id)
{
    Sum *sum = g_hash_table_lookup(sums, GUINT_TO_POINTER(id));
    if (!sum) {
        sum = g_new0(Sum, 1);
        g_hash_table_insert(sums, GUINT_TO_POINTER(id), sum);
    }
    return sum;
}

static void add_usage(Sum *sum, const LedgerUsage *one)
{
    Usage *usage = &sum->usage;
    usage->pinned += one->pinned;
    usage->orphaned += one->alive ? 0 : one->pinned;
    usage->peak += one->peak;
    usage->mapped += one->mapped;
    usage->maps += one->maps;
    usage->unmaps += one->unmaps;
    usage->refusals += one->refused;
}

/* The tenant that an account counts for: that of its IOMMUFD, or, if iommud has not opened that,
 * the machine's. */
static uint32_t tenant_of(const Accounting *accounting, uint32_t of_context, uint32_t machine)
{
    void *tenant = g_hash_table_lookup(accounting->machines, GUINT_TO_POINTER(machine));
    return of_context ? of_context : GPOINTER_TO_UINT(tenant);
}

static void sum_up(Accounting *accounting)
{
    g_hash_table_remove_all(accounting->of_machines);
    g_hash_table_remove_all(accounting->of_tenants);
    for (size_t i = 0; i < accounting->n_usage; i++) {
        const LedgerUsage *one = &accounting->usage[i];
        uint32_t tenant = tenant_of(accounting, one->tenant, one->machine);
        add_usage(sum_of(accounting->of_machines, one->machine), one);
        add_usage(sum_of(accounting->of_tenants, tenant), one);
    }
    for (size_t i = 0; i < accounting->n_measurements; i++) {
        const LedgerMeasurement *one = &accounting->measurements[i];
        uint32_t tenant = tenant_of(accounting, one->tenant, one->machine);
        sum_of(accounting->of_machines, one->machine)->twice += one->pinned - one->unique;
        sum_of(accounting->of_tenants, tenant)->twice += one->pinned - one->unique;
    }
}

bool accounting_read_usage(Accounting *accounting, int64_t age)
{
    Ledger *ledger = accounting_ledger(accounting);
    int64_t now = g_get_monotonic_time();
    LedgerUsage *usage;
    size_t n;
    if (!ledger)
        return false;
    if (accounting->usage_known && now - accounting->usage_read_at < age)
        return true;
    accounting_refresh(accounting);
    now = g_get_monotonic_time();
    if (ledger->ops->usage(ledger, &usage, &n) < 0)
        return false;
    g_free(accounting->usage);
    accounting->usage = usage;
    accounting->n_usage = n;
    accounting->usage_read_at = now;
    accounting->usage_duration = g_get_monotonic_time() - now;
    (void)sd_event_get_iteration(accounting->event, &accounting->usage_turn);
    accounting->usage_known = true;
    sum_up(accounting);
    return true;
}

/* One reading serves all that is asked in one turn of the event loop. */
static bool read_usage(Accounting *accounting)
{
    uint64_t turn = 0;
    (void)sd_event_get_iteration(accounting->event, &turn);
    return (accounting_is_active(accounting) && accounting->usage_known &&
            accounting->usage_turn == turn) ||
           accounting_read_usage(accounting, 0);
}

static bool find_usage(Accounting *accounting, GHashTable *sums, uint32_t id, Usage *ret_usage)
{
    *ret_usage = (Usage){0};
    if (id == 0 || !read_usage(accounting))
        return false;
    const Sum *sum = g_hash_table_lookup(sums, GUINT_TO_POINTER(id));
    if (sum) {
        *ret_usage = sum->usage;
        /* Pages may have been given back since the audit: never below 0. */
        ret_usage->unique = sum->usage.pinned - MIN(sum->twice, sum->usage.pinned);
    }
    return true;
}

bool accounting_machine_usage(Accounting *accounting, uint32_t machine, Usage *ret_usage)
{
    return find_usage(accounting, accounting->of_machines, machine, ret_usage);
}

bool accounting_tenant_usage(Accounting *accounting, uint32_t tenant, Usage *ret_usage)
{
    Ledger *ledger = accounting_ledger(accounting);
    LedgerTenantUsage whole;
    if (!find_usage(accounting, accounting->of_tenants, tenant, ret_usage))
        return false;
    /* The sum of peaks is not the peak of the sum. */
    if (ledger->ops->tenant_usage(ledger, tenant, &whole) >= 0) {
        ret_usage->peak = MAX(whole.peak, ret_usage->pinned);
        ret_usage->maps += whole.maps;
        ret_usage->unmaps += whole.unmaps;
        ret_usage->refusals += whole.refused;
    }
    return true;
}

/* The order of LedgerOps.usage(). */
static int compare_owners(const void *a, const void *b)
{
    const LedgerUsage *left = a;
    const LedgerUsage *right = b;
    if (left->context != right->context)
        return left->context < right->context ? -1 : 1;
    return (left->owner > right->owner) - (left->owner < right->owner);
}

uint64_t accounting_owner_pinned(Accounting *accounting, uint32_t context, uint32_t owner)
{
    const LedgerUsage key = {.context = context, .owner = owner};
    if (!read_usage(accounting) || accounting->n_usage == 0)
        return 0;
    const LedgerUsage *found =
        bsearch(&key, accounting->usage, accounting->n_usage, sizeof(key), compare_owners);
    return found ? found->pinned : 0;
}

/* Reading VFIO's own containers goes through all open files of the host: one reading serves for
 * LEGACY_USEC. */
static bool read_legacy(Accounting *accounting)
{
    Ledger *ledger = accounting_ledger(accounting);
    int64_t now = g_get_monotonic_time();
    if (!ledger)
        return false;
    if (accounting->legacy_read_at && now - accounting->legacy_read_at < LEGACY_USEC)
        return accounting->legacy_known;
    g_clear_pointer(&accounting->legacy, g_free);
    accounting->n_legacy = 0;
    accounting->legacy_read_at = now;
    accounting->legacy_known =
        ledger->ops->legacy(ledger, &accounting->legacy, &accounting->n_legacy) >= 0;
    return accounting->legacy_known;
}

bool accounting_legacy_usage(Accounting *accounting, pid_t pid, Usage *ret_usage)
{
    Usage usage = {0};
    bool known = read_legacy(accounting);
    for (size_t i = 0; known && i < accounting->n_legacy; i++) {
        const LedgerLegacy *legacy = &accounting->legacy[i];
        if (legacy->pid != pid)
            continue;
        usage.pinned = usage.unique = legacy->pinned;
        usage.mapped = legacy->mapped;
        usage.maps = legacy->maps;
    }
    *ret_usage = usage;
    return known;
}

gboolean accounting_objects(Accounting *accounting, uint32_t context, LedgerObject **ret_objects,
                            size_t *ret_n, GError **error)
{
    Ledger *ledger = accounting_ledger(accounting);
    if (!ledger) {
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_NOT_SUPPORTED,
                    "Only the ledger knows what is in an IOMMUFD, and it is not active: %s",
                    accounting->ledger_reason);
        return FALSE;
    }
    int r = ledger->ops->objects(ledger, context, ret_objects, ret_n);
    if (r < 0)
        error_set_kernel(error, r, "The ledger's objects of an IOMMUFD could not be read");
    return r >= 0;
}
