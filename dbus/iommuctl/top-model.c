/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/iommuctl/top-model.h"

#include <string.h>

/* A rate or a share that can't be told. */
#define UNKNOWN (-1)

static const struct {
    const char *name;
    char letter;
} keys[] = {
    [TOP_NAME] = {"name", 'n'},       [TOP_PINNED] = {"pinned", 'p'},
    [TOP_LIMIT] = {"limit", 'l'},     [TOP_SHARE] = {"share", 's'},
    [TOP_MAPS] = {"maps", 'm'},       [TOP_UNMAPS] = {"unmaps", 'u'},
    [TOP_REFUSED] = {"refused", 'r'}, [TOP_PEAK] = {"peak", 'k'},
};

typedef struct {
    const Properties *properties;
    char *tenant; /* its id; owned */
    char *name;   /* tenant, or tenant/machine; owned */
    uint64_t limit;
    uint64_t pinned;
    uint64_t refused;
    uint64_t peak;
    int64_t share;  /* percent of the limit */
    int64_t maps;   /* per second */
    int64_t unmaps; /* per second */
} Row;

const char *top_key_name(TopKey key)
{
    return keys[key].name;
}

char top_key_letter(TopKey key)
{
    return keys[key].letter;
}

/* ---- samples ---- */

int top_sample(TopSample *sample, sd_bus *bus, sd_bus_error *error)
{
    Managed managed;
    int64_t now;
    int r = managed_get(bus, error, &managed);

    if (r < 0)
        return r;
    now = g_get_monotonic_time();
    managed_clear(&sample->before);
    sample->before = sample->now;
    sample->now = managed;
    sample->elapsed = now - sample->when;
    sample->when = now;
    return 0;
}

void top_sample_clear(TopSample *sample)
{
    managed_clear(&sample->before);
    managed_clear(&sample->now);
}

/* ---- figures ---- */

/* Per second, rounded. A counter that went backwards is that of another run. */
static int64_t rate_of(const TopSample *sample, const Properties *now, const Properties *before,
                       const char *counter)
{
    uint64_t a = before ? properties_number(before, counter) : 0;
    uint64_t b = properties_number(now, counter);

    if (!before || b < a || sample->elapsed <= 0)
        return UNKNOWN;
    return (int64_t)((double)(b - a) * G_USEC_PER_SEC / (double)sample->elapsed + 0.5);
}

static int64_t share_of(uint64_t pinned, uint64_t limit)
{
    if (limit == 0 || limit == UINT64_MAX)
        return UNKNOWN;
    return (int64_t)((double)pinned * 100 / (double)limit + 0.5);
}

static void row_free(void *data)
{
    Row *row = data;

    g_free(row->tenant);
    g_free(row->name);
    g_free(row);
}

static Row *row_new(const TopSample *sample, const char *path, const Properties *now, bool tenant)
{
    GHashTable *earlier = tenant ? sample->before.tenants : sample->before.machines;
    const Properties *before = earlier ? g_hash_table_lookup(earlier, path) : NULL;
    Row *row = g_new0(Row, 1);

    row->properties = now;
    row->tenant = tenant ? g_strdup(properties_string(now, "Id"))
                         : bus_path_tenant(properties_string(now, "Tenant"));
    row->name = tenant ? g_strdup(row->tenant)
                       : g_strdup_printf("%s/%s", row->tenant, properties_string(now, "Name"));
    row->limit = properties_number(now, tenant ? "LimitBytes" : "ReservedBytes");
    row->pinned = properties_number(now, "PinnedBytes");
    row->refused = properties_number(now, "Refusals");
    row->peak = properties_number(now, "PeakBytes");
    row->share = share_of(row->pinned, row->limit);
    row->maps = rate_of(sample, now, before, "Maps");
    row->unmaps = rate_of(sample, now, before, "Unmaps");
    return row;
}

/* ---- order ---- */

static int compare_u64(uint64_t a, uint64_t b)
{
    return a < b ? 1 : a > b ? -1 : 0;
}

static int compare_i64(int64_t a, int64_t b)
{
    return a < b ? 1 : a > b ? -1 : 0;
}

static int compare_by(const Row *a, const Row *b, TopKey key)
{
    switch (key) {
    case TOP_PINNED:
        return compare_u64(a->pinned, b->pinned);
    case TOP_LIMIT:
        return compare_u64(a->limit, b->limit);
    case TOP_SHARE:
        return compare_i64(a->share, b->share);
    case TOP_MAPS:
        return compare_i64(a->maps, b->maps);
    case TOP_UNMAPS:
        return compare_i64(a->unmaps, b->unmaps);
    case TOP_REFUSED:
        return compare_u64(a->refused, b->refused);
    case TOP_PEAK:
        return compare_u64(a->peak, b->peak);
    default:
        return 0;
    }
}

/* The largest first; equals, and names, by the alphabet. */
static gint compare_rows(gconstpointer a, gconstpointer b, gpointer data)
{
    const Row *one = *(Row *const *)a;
    const Row *other = *(Row *const *)b;
    int order = compare_by(one, other, GPOINTER_TO_INT(data));

    return order != 0 ? order : strcmp(one->name, other->name);
}

static GPtrArray *make_rows(const TopSample *sample, bool tenants, TopKey sort)
{
    GPtrArray *rows = g_ptr_array_new_with_free_func(row_free);
    GHashTableIter iter;
    void *path;
    void *properties;

    g_hash_table_iter_init(&iter, tenants ? sample->now.tenants : sample->now.machines);
    while (g_hash_table_iter_next(&iter, &path, &properties))
        g_ptr_array_add(rows, row_new(sample, path, properties, tenants));
    g_ptr_array_sort_with_data(rows, compare_rows, GINT_TO_POINTER(sort));
    return rows;
}

/* ---- the table ---- */

static void add_columns(Table *table, bool tenants)
{
    table_add_column(table, tenants ? "TENANT" : "TENANT/MACHINE", NULL, TABLE_LEFT);
    table_add_column(table, NULL, tenants ? "id" : "tenant", TABLE_LEFT);
    if (!tenants) {
        table_add_column(table, NULL, "name", TABLE_LEFT);
        table_add_column(table, NULL, "uuid", TABLE_LEFT);
        table_add_column(table, NULL, "state", TABLE_LEFT);
    }
    table_add_column(table, "PINNED", "pinned_bytes", TABLE_RIGHT);
    if (tenants)
        table_add_column(table, "LIMIT", "limit_bytes", TABLE_RIGHT);
    else
        table_add_column(table, "RESERVED", "reserved_bytes", TABLE_RIGHT);
    table_add_column(table, "%", "percent", TABLE_RIGHT);
    table_add_column(table, "MAPS/S", "maps_per_second", TABLE_RIGHT);
    table_add_column(table, "UNMAPS/S", "unmaps_per_second", TABLE_RIGHT);
    table_add_column(table, "REFUSED", "refusals", TABLE_RIGHT);
    table_add_column(table, "PEAK", "peak_bytes", TABLE_RIGHT);
}

static void add_figure(Table *table, int64_t value)
{
    if (value == UNKNOWN)
        table_add_string(table, "");
    else
        table_add_number(table, value);
}

static void add_name(Table *table, const char *name, unsigned width)
{
    g_autofree char *valid = g_utf8_make_valid(name, -1);
    g_autofree char *cut = NULL;

    if (width == 0 || g_utf8_strlen(valid, -1) <= (glong)width) {
        table_add_string(table, valid);
        return;
    }
    cut = g_utf8_substring(valid, 0, (glong)width - 3);
    g_free(valid);
    valid = g_strconcat(cut, "...", NULL);
    table_add_string(table, valid);
}

static void add_row(Table *table, const Row *row, bool tenants, unsigned width)
{
    add_name(table, row->name, width);
    table_add_string(table, row->tenant);
    if (!tenants) {
        table_add_string(table, properties_string(row->properties, "Name"));
        table_add_string(table, properties_string(row->properties, "Uuid"));
        table_add_string(table, properties_string(row->properties, "State"));
    }
    table_add_size(table, row->pinned);
    table_add_size(table, row->limit);
    add_figure(table, row->share);
    if (row->share > 100)
        table_mark(table, MARK_WARNING);
    add_figure(table, row->maps);
    add_figure(table, row->unmaps);
    table_add_number(table, (int64_t)row->refused);
    table_add_size(table, row->peak);
}

Table *top_table(const TopSample *sample, bool tenants, TopKey sort, unsigned width)
{
    g_autoptr(GPtrArray) rows = make_rows(sample, tenants, sort);
    Table *table = table_new();

    add_columns(table, tenants);
    for (unsigned i = 0; i < rows->len; i++)
        add_row(table, rows->pdata[i], tenants, width);
    return table;
}
