/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * VFIO's own containers. The kernel keeps what it has charged with every mapping, so that nothing
 * has to be watched: a walk tells it all, whenever it is asked for.
 */
#include "kernel/ledger/snapshot.h"

#include <errno.h>

#define MAX_CALLS 100000

static int compare(const void *a, const void *b)
{
    const LedgerLegacy *x = a, *y = b;

    if (x->pid != y->pid)
        return x->pid < y->pid ? -1 : 1;
    return x->start < y->start ? -1 : x->start > y->start;
}

static void add_row(GArray *sums, const struct ledger_record *row)
{
    LedgerLegacy new = {.pid = row->tgid, .start = row->start}, *sum = NULL;

    for (guint i = 0; i < sums->len && !sum; i++)
        if (!compare(&g_array_index(sums, LedgerLegacy, i), &new))
            sum = &g_array_index(sums, LedgerLegacy, i);
    if (!sum) {
        g_array_append_val(sums, new);
        sum = &g_array_index(sums, LedgerLegacy, sums->len - 1);
    }
    sum->maps++;
    sum->mapped += row->npages << LEDGER_PAGE_SHIFT;
    sum->pinned += row->charged << LEDGER_PAGE_SHIFT;
}

static int walk(Ledger *ledger, uint64_t container, GArray *sums)
{
    struct ledger_walk args = {.context = container};
    int r;

    for (int calls = 0; !args.ret_done; calls++) {
        if (calls == MAX_CALLS)
            return -ELOOP;
        args.ret_records = 0;
        r = ledger_run(ledger, WALK_CONTAINER, &args, sizeof(args));
        if (r)
            return r;
        for (uint32_t i = 0; i < args.ret_records && i < LEDGER_WALK_RECORDS; i++)
            add_row(sums, &bpf_ledger(ledger)->rows[i]);
    }
    return 0;
}

int ledger_legacy(Ledger *ledger, LedgerLegacy **ret_legacy, size_t *ret_n)
{
    g_autoptr(GArray) opened = g_array_new(FALSE, FALSE, sizeof(struct ledger_opened));
    g_autoptr(GArray) sums = g_array_new(FALSE, TRUE, sizeof(LedgerLegacy));
    g_autoptr(GHashTable) seen = g_hash_table_new(g_int64_hash, g_int64_equal);
    int r;

    if (!ledger->status.counting)
        return -EOPNOTSUPP;
    r = view_find_opened(ledger, opened);
    for (guint i = 0; !r && i < opened->len; i++) {
        struct ledger_opened *file = &g_array_index(opened, struct ledger_opened, i);

        if (file->rdev == LEDGER_CONTAINER_RDEV && g_hash_table_add(seen, &file->context))
            r = walk(ledger, file->context, sums);
    }
    if (r)
        return r;
    g_array_sort(sums, compare);
    *ret_n = sums->len;
    *ret_legacy = (LedgerLegacy *)g_array_free(g_steal_pointer(&sums), FALSE);
    return 0;
}
