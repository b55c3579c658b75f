/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/ledger/upgrade.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "kernel/base/process.h"
#include "kernel/ledger/identities.h"
#include "kernel/ledger/pins.h"

/* The ranges before the machines, these before the tenants, and these before the host; the last
 * says how many numbers the others use. */
static const MapId copied[] = {
    MAP_CONTEXTS, MAP_OBJECTS, MAP_PAGES,   MAP_PROCESSES, MAP_OWNERS, MAP_ACCOUNTS, MAP_MACHINES,
    MAP_TENANTS,  MAP_HOST,    MAP_CGROUPS, MAP_DEVICES,   MAP_UNITS,  MAP_STATE,
};

typedef struct {
    const BpfLedger *from, *to;
    MapId map;
    GHashTable *mapped; /* machine -> bytes of its ranges */
    GHashTable *used; /* tenant -> bytes of its ranges that are no machine's, and of its machines */
    int64_t host;     /* of all tenants together */
} Copy;

static int64_t *bytes_of(GHashTable *sums, uint32_t id)
{
    int64_t *bytes = g_hash_table_lookup(sums, GUINT_TO_POINTER(id));

    if (!bytes) {
        bytes = g_new0(int64_t, 1);
        g_hash_table_insert(sums, GUINT_TO_POINTER(id), bytes);
    }
    return bytes;
}

/* What the machine has mapped follows from the copied ranges, and from that what it has borrowed.
 */
static void copy_machine(Copy *copy, uint32_t id, struct ledger_machine *machine)
{
    int64_t mapped = *bytes_of(copy->mapped, id) + machine->leaks.unmatched;
    int64_t reserved = (int64_t)machine->reserved;

    if (LEDGER_IS_CLOSED(machine->room)) {
        *bytes_of(copy->used, machine->tenant) += mapped;
        return;
    }
    machine->borrowed = (uint64_t)MAX(mapped - reserved, 0);
    machine->room = MAX(reserved - mapped, 0);
    *bytes_of(copy->used, machine->tenant) += MAX(mapped, reserved);
}

static void copy_tenant(Copy *copy, uint32_t id, struct ledger_tenant *tenant)
{
    tenant->budget.used = *bytes_of(copy->used, id) + tenant->leaks.unmatched;
    copy->host += tenant->budget.used;
}

/*
 * References to extents may change before the copy is at work: each range counts for itself, until
 * the next reconciliation finds anew what is the same memory. Machines, tenants and the host get
 * what the copied ranges count and not their sums, which have changed while they were copied: what
 * came or went meanwhile the reconciliation adds, or takes away.
 */
static int copy_entry(const void *key, const void *value, void *data)
{
    uint32_t id = *(const uint32_t *)key;
    Copy *copy = data;
    struct ledger_machine machine;
    struct ledger_tenant tenant;
    struct ledger_budget host;
    struct ledger_pages range;

    if (copy->map == MAP_PAGES) {
        range = *(const struct ledger_pages *)value;
        if (LEDGER_IS_TAKEN(range.charge))
            return 0;
        range.share = LEDGER_SHARE(LEDGER_SHARE_MACHINE(range.share), 0);
        value = &range;
    } else if (copy->map == MAP_MACHINES) {
        machine = *(const struct ledger_machine *)value;
        copy_machine(copy, id, &machine);
        value = &machine;
    } else if (copy->map == MAP_TENANTS) {
        tenant = *(const struct ledger_tenant *)value;
        copy_tenant(copy, id, &tenant);
        value = &tenant;
    } else if (copy->map == MAP_HOST) {
        host = *(const struct ledger_budget *)value;
        host.used = copy->host;
        value = &host;
    }
    /* What finds no room the reconciliation finds missing. */
    map_put(copy->to, copy->map, key, value);
    return 0;
}

static int count_range(const void *key, const void *value, void *data)
{
    const struct ledger_pages *range = value;
    Copy *copy = data;
    uint32_t machine = LEDGER_SHARE_MACHINE(range->share);
    struct ledger_machine entry;
    int64_t *bytes;

    /* Of a machine that is removed it is the tenant's. */
    if (machine && map_get(copy->from, MAP_MACHINES, &machine, &entry) >= 0 &&
        !LEDGER_IS_CLOSED(entry.room))
        bytes = bytes_of(copy->mapped, machine);
    else
        bytes = bytes_of(copy->used, range->tenant);
    *bytes += (int64_t)range->bytes;
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
    g_autoptr(GHashTable) used = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    Copy copy = {.from = from, .to = to, .mapped = mapped, .used = used};
    const uint32_t zero = 0;
    struct ledger_state state;
    int r = 0;

    for (size_t i = 0; r >= 0 && i < G_N_ELEMENTS(copied); i++) {
        copy.map = copied[i];
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
