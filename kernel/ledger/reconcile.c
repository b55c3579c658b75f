/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reconciling the books with the kernel's own structures. */
#include "kernel/ledger/snapshot.h"

#include <errno.h>
#include <string.h>

/* Books of owners and contexts that are gone, in which nothing is left. */
typedef struct {
    Ledger *ledger;
    GHashTable *contexts; /* serial -> tenant */
    GArray *idle;         /* struct control_close_account */
} Sweep;

static int find_idle_book(const void *key, const void *value, void *data)
{
    const struct ledger_account_key *place = key;
    const struct ledger_account *book = value;
    struct control_close_account retire = {.account = *place, .tenant = book->tenant};
    struct ledger_owner owner;
    Sweep *sweep = data;
    gpointer tenant;
    bool open = g_hash_table_lookup_extended(sweep->contexts, GUINT_TO_POINTER(place->context),
                                             NULL, &tenant);

    if (book->pinned || book->mapped)
        return 0;
    if (open && GPOINTER_TO_UINT(tenant))
        retire.tenant = GPOINTER_TO_UINT(tenant);
    if (!open || ledger_get(sweep->ledger, MAP_OWNERS, &place->owner, &owner))
        g_array_append_val(sweep->idle, retire);
    return 0;
}

static void sweep_books(Ledger *ledger, const View *view)
{
    g_autoptr(GHashTable) contexts = g_hash_table_new(NULL, NULL);
    g_autoptr(GArray) idle = g_array_new(FALSE, FALSE, sizeof(struct control_close_account));
    Sweep sweep = {ledger, contexts, idle};

    for (guint i = 0; i < view->contexts->len; i++) {
        const struct ledger_context *context = &g_array_index(view->contexts, Context, i).context;

        g_hash_table_insert(contexts, GUINT_TO_POINTER(context->id),
                            GUINT_TO_POINTER(context->tenant));
    }
    ledger_each(ledger, MAP_ACCOUNTS, find_idle_book, &sweep);
    for (guint i = 0; i < idle->len; i++)
        ledger_run(ledger, CONTROL_CLOSE_ACCOUNT,
                   &g_array_index(idle, struct control_close_account, i),
                   sizeof(struct control_close_account));
}

/* Tenants to whom something was lost, with the number of losses: before the first look. */
static int note_loss(const void *key, const void *value, void *data)
{
    const struct ledger_tenant *tenant = value;
    struct control_drop_unmatched loss = {.tenant = *(const uint32_t *)key,
                                          .expected_leaks = tenant->leaks};

    if (tenant->unmatched)
        g_array_append_val((GArray *)data, loss);
    return 0;
}

/* What no range has turned up for is given back; not while ranges are moving. */
static void settle_losses(Ledger *ledger, GArray *losses, const LedgerDrift *drift)
{
    for (guint i = 0; i < losses->len && !drift->unstable; i++)
        ledger_run(ledger, CONTROL_DROP_UNMATCHED,
                   &g_array_index(losses, struct control_drop_unmatched, i),
                   sizeof(struct control_drop_unmatched));
}

int ledger_reconcile(Ledger *ledger, LedgerDrift *ret_drift, LedgerMeasurement **ret_measurements,
                     size_t *ret_n)
{
    g_autoptr(GArray) losses = g_array_new(FALSE, FALSE, sizeof(struct control_drop_unmatched));
    g_autoptr(View) first = NULL, second = NULL;
    LedgerDrift drift = {0};
    const View *view;
    int r;

    if (!ledger->status.counting)
        return -EOPNOTSUPP;
    r = ledger_each(ledger, MAP_TENANTS, note_loss, losses);
    if (!r)
        r = view_take(ledger, &first);
    if (!r && view_differs(first)) {
        r = view_take(ledger, &second);
        if (r)
            return r;
        view_mend(ledger, first, second, &drift);
        bpf_ledger(ledger)->drift += drift.drift; /* it is repaired, also if the next look fails */
        g_clear_pointer(&first, view_free);
        r = view_take(ledger, &first);
    }
    if (r)
        return r;
    view = first;
    settle_losses(ledger, losses, &drift);
    sweep_books(ledger, view);
    view_give_credit(view, ledger);
    drift.contexts = view->contexts->len;
    drift.ranges = g_hash_table_size(view->ranges);
    if (ret_drift)
        *ret_drift = drift;
    if (ret_measurements) {
        GArray *measurements = view_sum_up(view, ledger);

        *ret_n = measurements->len;
        *ret_measurements = (LedgerMeasurement *)g_array_free(measurements, FALSE);
    }
    return 0;
}
