/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/iommuctl/top-model.h"

#include "dbus/iommuctl/base/figures.h"

#include <string.h>

/* A rate or a share that can't be told. */
#define UNKNOWN (-1)

const char *const top_key_names[] = {
    [TOP_NAME] = "name",       [TOP_PINNED] = "pinned", [TOP_LIMIT] = "limit",
    [TOP_SHARE] = "share",     [TOP_MAPS] = "maps",     [TOP_UNMAPS] = "unmaps",
    [TOP_REFUSED] = "refused", [TOP_PEAK] = "peak",     [_TOP_KEY_MAX] = NULL,
};

static const char key_letters[] = {
    [TOP_NAME] = 'n', [TOP_PINNED] = 'p', [TOP_LIMIT] = 'l',   [TOP_SHARE] = 's',
    [TOP_MAPS] = 'm', [TOP_UNMAPS] = 'u', [TOP_REFUSED] = 'r', [TOP_PEAK] = 'k',
};

/* Who it is, in JSON; the columns before the rates, and after them. */
static const FigureId tenant_identity[] = {FIGURE_ID, FIGURES_END};
static const FigureId machine_identity[] = {FIGURE_TENANT, FIGURE_NAME, FIGURE_UUID, FIGURE_STATE,
                                            FIGURES_END};
static const FigureId tenant_view[] = {FIGURE_PINNED, FIGURE_LIMIT, FIGURES_END};
static const FigureId machine_view[] = {FIGURE_PINNED, FIGURE_RESERVED, FIGURES_END};
static const FigureId last_view[] = {FIGURE_REFUSALS, FIGURE_PEAK, FIGURES_END};

typedef struct {
    const Properties *properties;
    char *tenant;   /* its id; owned */
    char *name;     /* tenant, or tenant/machine; owned */
    FigureId limit; /* a tenant's limit, or a machine's reservation */
    int64_t share;  /* percent of it */
    int64_t maps;   /* per second */
    int64_t unmaps; /* per second */
} Row;

char top_key_letter(TopKey key)
{
    return key_letters[key];
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
    row->limit = tenant ? FIGURE_LIMIT : FIGURE_RESERVED;
    row->share = share_of(figure_number(FIGURE_PINNED, now), figure_number(row->limit, now));
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

static int compare_figure(const Row *a, const Row *b, FigureId id)
{
    return compare_u64(figure_number(id, a->properties), figure_number(id, b->properties));
}

static int compare_by(const Row *a, const Row *b, TopKey key)
{
    switch (key) {
    case TOP_PINNED:
        return compare_figure(a, b, FIGURE_PINNED);
    case TOP_LIMIT:
        return compare_figure(a, b, a->limit);
    case TOP_SHARE:
        return compare_i64(a->share, b->share);
    case TOP_MAPS:
        return compare_i64(a->maps, b->maps);
    case TOP_UNMAPS:
        return compare_i64(a->unmaps, b->unmaps);
    case TOP_REFUSED:
        return compare_figure(a, b, FIGURE_REFUSALS);
    case TOP_PEAK:
        return compare_figure(a, b, FIGURE_PEAK);
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
    figures_add_columns(table, tenants ? tenant_identity : machine_identity, FIGURES_JSON);
    figures_add_columns(table, tenants ? tenant_view : machine_view, FIGURES_LIST);
    table_add_column(table, "%", "percent", TABLE_RIGHT);
    table_add_column(table, "MAPS/S", "maps_per_second", TABLE_RIGHT);
    table_add_column(table, "UNMAPS/S", "unmaps_per_second", TABLE_RIGHT);
    figures_add_columns(table, last_view, FIGURES_LIST);
}

static void add_rate(Table *table, int64_t value)
{
    if (value == UNKNOWN)
        table_add_string(table, "");
    else
        table_add_number(table, value);
}

static void add_row(Table *table, const Row *row, bool tenants, unsigned width)
{
    table_add_short_string(table, row->name, width);
    figures_add_cells(table, tenants ? tenant_identity : machine_identity, row->properties);
    figures_add_cells(table, tenants ? tenant_view : machine_view, row->properties);
    add_rate(table, row->share);
    if (row->share > 100)
        table_set_style(table, STYLE_WARNING);
    add_rate(table, row->maps);
    add_rate(table, row->unmaps);
    figures_add_cells(table, last_view, row->properties);
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
