/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Whether books and accounts are the sums of their entries. They are when every program has run to
 * its end; what can come between is a book for which there was no room, and books that were copied
 * from another version's while ranges came and went.
 */
#include "kernel/ledger/snapshot.h"

#include <string.h>

static guint hash_balance(gconstpointer key)
{
    const Balance *balance = key;

    return balance->key.owner * 31 + balance->key.context * 17 + balance->tenant;
}

static gboolean same_balance(gconstpointer a, gconstpointer b)
{
    const Balance *x = a, *y = b;

    return x->key.owner == y->key.owner && x->key.context == y->key.context &&
           x->tenant == y->tenant;
}

static int read_book(const void *key, const void *value, void *data)
{
    const struct ledger_account *book = value;
    Balance balance = {
        .key = *(const struct ledger_account_key *)key,
        .moves = book->moves,
        .pinned_said = book->pinned,
        .mapped_said = book->mapped,
    };

    g_hash_table_add(data, g_memdup2(&balance, sizeof(balance)));
    return 0;
}

static int read_account(const void *key, const void *value, void *data)
{
    const struct ledger_tenant *account = value;
    Balance balance = {
        .tenant = *(const uint32_t *)key,
        .moves = account->moves,
        .pinned_said = account->pinned,
    };

    g_hash_table_add(data, g_memdup2(&balance, sizeof(balance)));
    return 0;
}

int view_read_balances(Ledger *ledger, View *view)
{
    int r;

    view->balances = g_hash_table_new_full(hash_balance, same_balance, g_free, NULL);
    r = ledger_each(ledger, MAP_ACCOUNTS, read_book, view->balances);
    return r ? r : ledger_each(ledger, MAP_TENANTS, read_account, view->balances);
}

/* A book that there should be, and is not, says nothing. */
static Balance *book_of(View *view, const struct ledger_pages *range)
{
    const Balance wanted = {.key = {.context = range->context, .owner = range->owner}};
    Balance *balance = g_hash_table_lookup(view->balances, &wanted);

    if (!balance) {
        balance = g_memdup2(&wanted, sizeof(wanted));
        g_hash_table_add(view->balances, balance);
    }
    return balance;
}

void view_add_up(View *view)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, view->known_pages);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const struct ledger_pages *range = value;
        const Balance wanted = {.tenant = range->tenant};
        Balance *book = book_of(view, range), *account = NULL;

        if (range->tenant)
            account = g_hash_table_lookup(view->balances, &wanted);
        book->pinned += LEDGER_CHARGED(range->charge);
        book->mapped += range->bytes;
        if (account)
            account->pinned += LEDGER_CHARGED(range->charge);
    }
}

static bool is_balanced(const Balance *balance)
{
    return balance->pinned == balance->pinned_said && balance->mapped == balance->mapped_said;
}

bool view_is_balanced(const View *view)
{
    GHashTableIter iter;
    gpointer key;

    g_hash_table_iter_init(&iter, view->balances);
    while (g_hash_table_iter_next(&iter, &key, NULL))
        if (!is_balanced(key))
            return false;
    return true;
}

static bool says_the_same(const Balance *a, const Balance *b)
{
    return a->moves == b->moves && a->pinned_said == b->pinned_said && a->pinned == b->pinned &&
           a->mapped_said == b->mapped_said && a->mapped == b->mapped;
}

void view_balance(Ledger *ledger, const View *first, const View *second, LedgerDrift *drift)
{
    GHashTableIter iter;
    gpointer key;

    g_hash_table_iter_init(&iter, second->balances);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        const Balance *balance = key, *before = g_hash_table_lookup(first->balances, balance);
        struct control_set_totals args = {
            .expected_moves = balance->moves,
            .expected_pinned = balance->pinned_said,
            .pinned = balance->pinned,
            .expected_mapped = balance->mapped_said,
            .mapped = balance->mapped,
            .context = balance->key.context,
            .owner = balance->key.owner,
            .tenant = balance->tenant,
        };

        if (is_balanced(balance))
            continue;
        /* What moves all the time is right all the time: it is not even a difference. */
        if (!before || !says_the_same(before, balance) ||
            ledger_run(ledger, CONTROL_SET_TOTALS, &args, sizeof(args)))
            continue;
        drift->repaired++;
        if (!balance->tenant)
            drift->drift += (uint64_t)ABS(balance->pinned - balance->pinned_said)
                            << LEDGER_PAGE_SHIFT;
    }
}
