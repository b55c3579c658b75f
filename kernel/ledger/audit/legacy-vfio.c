/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/ledger/audit/legacy-vfio.h"

#include <errno.h>

#include "kernel/ledger/audit/walk.h"

static int compare(const void *a, const void *b)
{
    const LedgerLegacy *x = a, *y = b;

    if (x->pid != y->pid)
        return x->pid < y->pid ? -1 : 1;
    return x->start < y->start ? -1 : x->start > y->start;
}

static void add_record(const struct ledger_record *record, void *data)
{
    GArray *sums = data;
    LedgerLegacy new = {.pid = record->tgid, .start = record->start}, *sum = NULL;

    for (guint i = 0; i < sums->len && !sum; i++)
        if (!compare(&g_array_index(sums, LedgerLegacy, i), &new))
            sum = &g_array_index(sums, LedgerLegacy, i);
    if (!sum) {
        g_array_append_val(sums, new);
        sum = &g_array_index(sums, LedgerLegacy, sums->len - 1);
    }
    sum->maps++;
    sum->mapped += record->npages << LEDGER_PAGE_SHIFT;
    sum->pinned += record->charged << LEDGER_PAGE_SHIFT;
}

int ledger_legacy(Ledger *ledger, LedgerLegacy **ret_legacy, size_t *ret_n)
{
    g_autoptr(GArray) opened = g_array_new(FALSE, FALSE, sizeof(struct ledger_opened));
    g_autoptr(GArray) sums = g_array_new(FALSE, TRUE, sizeof(LedgerLegacy));
    g_autoptr(GHashTable) seen = g_hash_table_new(g_int64_hash, g_int64_equal);

    if (!ledger->status.counting)
        return -EOPNOTSUPP;
    int r = walk_files(bpf_ledger(ledger), opened);
    for (guint i = 0; r >= 0 && i < opened->len; i++) {
        struct ledger_opened *file = &g_array_index(opened, struct ledger_opened, i);

        if (file->rdev == LEDGER_CONTAINER_RDEV && g_hash_table_add(seen, &file->context))
            r = walk_records(bpf_ledger(ledger), WALK_CONTAINER, file->context, add_record, sums);
    }
    if (r < 0)
        return r;
    g_array_sort(sums, compare);
    *ret_n = sums->len;
    *ret_legacy = (LedgerLegacy *)g_array_free(g_steal_pointer(&sums), FALSE);
    return 0;
}
