/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/ledger/upgrade.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "kernel/base/process.h"
#include "kernel/ledger/identities.h"
#include "kernel/ledger/pins.h"

/* The ranges before the tenants; the last says how many numbers the others use. */
static const MapId copied[] = {
    MAP_CONTEXTS, MAP_OBJECTS,  MAP_PAGES,   MAP_PROCESSES, MAP_OWNERS, MAP_ACCOUNTS,
    MAP_TENANTS,  MAP_MACHINES, MAP_CGROUPS, MAP_DEVICES,   MAP_STATE,
};

typedef struct {
    const BpfLedger *to;
    MapId map;
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
 * References to extents may change before the copy is at work: each range counts for itself, until
 * the next reconciliation finds anew what is the same memory. A tenant gets what the copied ranges
 * count and not its sum, which has changed while they were copied: what came or went meanwhile the
 * reconciliation adds, or takes away.
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
    /* What finds no room the reconciliation finds missing. */
    map_put(copy->to, copy->map, key, value);
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

static int copy_tables(const BpfLedger *from, const BpfLedger *to)
{
    g_autoptr(GHashTable) mapped = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    const uint32_t zero = 0;
    struct ledger_state state;
    int r = 0;

    for (size_t i = 0; r >= 0 && i < G_N_ELEMENTS(copied); i++) {
        Copy copy = {.to = to, .map = copied[i], .mapped = mapped};

        r = map_each(from, copied[i], copy_entry, &copy);
        /* By the copy, which does not change: the earlier version's map may show an entry twice. */
        if (r >= 0 && copied[i] == MAP_PAGES)
            r = map_each(to, MAP_PAGES, count_range, &copy);
    }
    if (r >= 0)
        r = map_get(to, MAP_STATE, &zero, &state);
    if (r < 0)
        return r;
    state.pages = state.objects = 0;
    r = map_each(to, MAP_PAGES, count_one, &state.pages);
    if (r >= 0)
        r = map_each(to, MAP_OBJECTS, count_one, &state.objects);
    return r < 0 ? r : map_put(to, MAP_STATE, &zero, &state);
}

typedef int (*Visitor)(BpfLedger *other, BpfLedger *ledger);

/* Opens the other versions that have the same layout, one after another, until visit returns not 0.
 */
static int visit_others(BpfLedger *ledger, const char *folder, const char *version, Visitor visit)
{
    g_autofree char *prefix = g_strdup_printf("v%d-", LEDGER_LAYOUT);
    g_autoptr(GDir) versions = g_dir_open(folder, 0, NULL);
    const char *name;
    int r = 0;

    while (r == 0 && versions && (name = g_dir_read_name(versions))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_autoptr(BpfLedger) other = bpf_ledger_alloc();

        if (g_str_has_prefix(name, prefix) && strcmp(path, version) && pins_open(other, path) >= 0)
            r = visit(other, ledger);
    }
    return r;
}

static int copy_from(BpfLedger *other, BpfLedger *ledger)
{
    if (!other->report.tables_used)
        return 0;

    int r = copy_tables(other, ledger);
    ledger->report.tables_used = r >= 0;
    return r < 0 ? r : 1;
}

int upgrade_copy_tables(BpfLedger *ledger, const char *folder, const char *version)
{
    return MIN(visit_others(ledger, folder, version, copy_from), 0);
}

static int trust(BpfLedger *other, BpfLedger *ledger)
{
    uint64_t start;

    if (process_start_time(getpid(), &start) >= 0)
        ledger_trust_process(&other->base, getpid(), start, LEDGER_ROLE_SERVICE);
    return 0;
}

void upgrade_trust_service(BpfLedger *ledger)
{
    visit_others(ledger, ledger->folder, ledger->version, trust);
}
