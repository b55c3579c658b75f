/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From one version to the next. The earlier version's programs are at work until ledger_commit();
 * its books are copied before the new programs are attached, and a reconciliation mends what has
 * happened in between. Who is whose is in the books alone: no walk could find it.
 */
#include "kernel/ledger/internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "kernel/base/process.h"

/* The ranges before the tenants; the last says how many numbers the others use. */
static const enum ledger_map_id copied[] = {
    MAP_CONTEXTS, MAP_OBJECTS,  MAP_PAGES,   MAP_PROCESSES, MAP_OWNERS, MAP_ACCOUNTS,
    MAP_TENANTS,  MAP_MACHINES, MAP_CGROUPS, MAP_DEVICES,   MAP_STATE,
};

typedef struct {
    const Ledger *to;
    enum ledger_map_id map;
    GHashTable *mapped; /* tenant -> bytes of its ranges */
} Copy;

static uint64_t *mapped_by(GHashTable *mapped, uint32_t tenant)
{
    uint64_t *bytes = g_hash_table_lookup(mapped, GUINT_TO_POINTER(tenant));

    if (!bytes) {
        bytes = g_new0(uint64_t, 1);
        g_hash_table_insert(mapped, GUINT_TO_POINTER(tenant), bytes);
    }
    return bytes;
}

/*
 * Who holds a place may change before the copy is at work: each range counts for itself, until the
 * next walk finds anew what is the same memory. A tenant has what the copied ranges count, not what
 * was added up while they were copied: what came or went in between the reconciliation adds, or
 * takes away.
 */
static int copy_entry(const void *key, const void *value, void *data)
{
    Copy *copy = data;
    struct ledger_tenant tenant;
    struct ledger_pages range;

    if (copy->map == MAP_PAGES) {
        range = *(const struct ledger_pages *)value;
        if (LEDGER_IS_TAKEN(range.charge))
            return 0;
        range.extent = 0;
        value = &range;
    } else if (copy->map == MAP_TENANTS) {
        tenant = *(const struct ledger_tenant *)value;
        tenant.mapped =
            (int64_t)*mapped_by(copy->mapped, *(const uint32_t *)key) + tenant.unmatched;
        value = &tenant;
    }
    /* What finds no room is as if it had been missed. */
    ledger_put(copy->to, copy->map, key, value);
    return 0;
}

static int count_range(const void *key, const void *value, void *data)
{
    const struct ledger_pages *range = value;
    Copy *copy = data;

    *mapped_by(copy->mapped, range->tenant) += range->bytes;
    return 0;
}

static int count_one(const void *key, const void *value, void *data)
{
    (*(int64_t *)data)++;
    return 0;
}

static int copy_books(const Ledger *from, const Ledger *to)
{
    g_autoptr(GHashTable) mapped = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    const uint32_t zero = 0;
    struct ledger_state state;
    int r = 0;

    for (size_t i = 0; !r && i < G_N_ELEMENTS(copied); i++) {
        Copy copy = {.to = to, .map = copied[i], .mapped = mapped};

        r = ledger_each(from, copied[i], copy_entry, &copy);
        /* The earlier version's map changes all the time, and shows some entries twice; not so the
         * copy. */
        if (!r && copied[i] == MAP_PAGES)
            r = ledger_each(to, MAP_PAGES, count_range, &copy);
    }
    if (!r)
        r = ledger_get(to, MAP_STATE, &zero, &state);
    if (r)
        return r;
    state.pages = state.objects = 0;
    r = ledger_each(to, MAP_PAGES, count_one, &state.pages);
    if (!r)
        r = ledger_each(to, MAP_OBJECTS, count_one, &state.objects);
    return r ? r : ledger_put(to, MAP_STATE, &zero, &state);
}

typedef int (*Visitor)(BpfLedger *other, BpfLedger *ledger);

/* Opens the other versions that have the same books, one after another, until one wants no more. */
static int visit_others(BpfLedger *ledger, const char *folder, const char *version, Visitor visit)
{
    g_autofree char *prefix = g_strdup_printf("v%d-", LEDGER_LAYOUT);
    g_autoptr(GDir) versions = g_dir_open(folder, 0, NULL);
    const char *name;
    int r = 0;

    while (!r && versions && (name = g_dir_read_name(versions))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        BpfLedger *other;

        if (!g_str_has_prefix(name, prefix) || !strcmp(path, version))
            continue;
        other = ledger_alloc();
        if (!ledger_take_over(other, path))
            r = visit(other, ledger);
        bpf_ledger_free(&other->base);
    }
    return r;
}

static int adopt(BpfLedger *other, BpfLedger *ledger)
{
    int r;

    if (!other->report.tables_used)
        return 0;
    r = copy_books(&other->base, &ledger->base);
    ledger->report.tables_used = !r;
    return r ? r : 1;
}

int ledger_adopt(BpfLedger *ledger, const LedgerOptions *options)
{
    g_autofree char *version = ledger_version(options);

    return MIN(visit_others(ledger, options->folder, version, adopt), 0);
}

static int trust(BpfLedger *other, BpfLedger *ledger)
{
    uint64_t start;

    if (!process_start_time(getpid(), &start))
        ledger_trust_process(&other->base, getpid(), start, LEDGER_ROLE_SERVICE);
    return 0;
}

void ledger_trust_others(BpfLedger *ledger)
{
    visit_others(ledger, ledger->folder, ledger->version, trust);
}
