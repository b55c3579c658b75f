/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/iommuctl/base/figures.h"

#include <string.h>

typedef enum {
    UNIT_TEXT,
    UNIT_REMARK, /* text that is there when there is something to say */
    UNIT_LIST,
    UNIT_BYTES,
    UNIT_RESERVED, /* bytes that had better be below the limit */
    UNIT_ORPHANED, /* bytes that should not be there */
    UNIT_COUNT,
    UNIT_PROCESS, /* 0: none */
    UNIT_GROUP,   /* -1: none */
    UNIT_YES,     /* a boolean */
    UNIT_GOOD,    /* one that had better be true */
    UNIT_STATE,
    UNIT_TENANT,   /* the path of one, or its id */
    UNIT_MACHINES, /* their paths */
} Unit;

static const struct {
    const char *property;
    const char *key;
    const char *heading; /* of a list's column; NULL: only in JSON */
    const char *title;   /* of a record's line; NULL: only in JSON */
    Unit unit;
} figures[_FIGURE_MAX] = {
    [FIGURE_ID] = {"Id", "id", "TENANT", "Tenant", UNIT_TEXT},
    [FIGURE_UUID] = {"Uuid", "uuid", "UUID", "UUID", UNIT_TEXT},
    [FIGURE_NAME] = {"Name", "name", "NAME", "Machine", UNIT_TEXT},
    [FIGURE_TENANT] = {"Tenant", "tenant", "TENANT", "Tenant", UNIT_TENANT},
    [FIGURE_STATE] = {"State", "state", "STATE", "State", UNIT_STATE},
    [FIGURE_LEADER] = {"Leader", "leader", "LEADER", "Leader", UNIT_PROCESS},
    [FIGURE_IOMMUFD] = {"Iommufd", "iommufd", "IOMMUFD", "IOMMUFD", UNIT_YES},
    [FIGURE_LIMIT] = {"LimitBytes", "limit_bytes", "LIMIT", "Limit", UNIT_BYTES},
    [FIGURE_RESERVED] = {"ReservedBytes", "reserved_bytes", "RESERVED", "Reserved", UNIT_RESERVED},
    [FIGURE_PINNED] = {"PinnedBytes", "pinned_bytes", "PINNED", "Pinned", UNIT_BYTES},
    [FIGURE_PEAK] = {"PeakBytes", "peak_bytes", "PEAK", "Peak", UNIT_BYTES},
    [FIGURE_ORPHANED] = {"OrphanedBytes", "orphaned_bytes", "ORPHANED", "Orphaned", UNIT_ORPHANED},
    [FIGURE_UNIQUE] = {"UniqueBytes", "unique_bytes", "UNIQUE", "Unique", UNIT_BYTES},
    [FIGURE_MAPPED] = {"MappedBytes", "mapped_bytes", "MAPPED", "Mapped", UNIT_BYTES},
    [FIGURE_MAPS] = {"Maps", "maps", "MAPS", "Maps", UNIT_COUNT},
    [FIGURE_UNMAPS] = {"Unmaps", "unmaps", "UNMAPS", "Unmaps", UNIT_COUNT},
    [FIGURE_REFUSALS] = {"Refusals", "refusals", "REFUSED", "Refused", UNIT_COUNT},
    [FIGURE_COUNT] = {"Count", "count", "COUNT", "Count", UNIT_TEXT},
    [FIGURE_ISOLATION] = {"Isolation", "isolation", "ISOLATION", "Isolation", UNIT_TEXT},
    [FIGURE_SHARED] = {"Shared", "shared", "SHARED", "Shared IOMMUFD", UNIT_YES},
    [FIGURE_ACCOUNTING] = {"AccountingMode", "accounting_mode", "ACCOUNTING", "Accounting",
                           UNIT_TEXT},
    [FIGURE_SOURCE] = {"Source", "source", "DEFINED IN", "Defined in", UNIT_TEXT},
    [FIGURE_DEVICE_PATTERNS] = {"DevicePatterns", "device_patterns", "MAY HAVE", "May have",
                                UNIT_LIST},
    [FIGURE_DEVICES] = {"Devices", "devices", "DEVICES", "Devices", UNIT_LIST},
    [FIGURE_MACHINES] = {"Machines", "machines", "MACHINES", "Machines", UNIT_MACHINES},

    [FIGURE_ADDRESS] = {"Address", "address", "DEVICE", "Device", UNIT_TEXT},
    [FIGURE_VENDOR] = {"Vendor", "vendor", NULL, NULL, UNIT_COUNT},
    [FIGURE_PRODUCT] = {"Product", "product", NULL, NULL, UNIT_COUNT},
    [FIGURE_CLASS] = {"Class", "class", NULL, NULL, UNIT_COUNT},
    [FIGURE_BRIDGE] = {"Bridge", "bridge", NULL, NULL, UNIT_YES},
    [FIGURE_GROUP] = {"Group", "group", "GROUP", "Group", UNIT_GROUP},
    [FIGURE_GROUP_MEMBERS] = {"GroupMembers", "group_members", NULL, NULL, UNIT_LIST},
    [FIGURE_DRIVER] = {"Driver", "driver", "DRIVER", "Driver", UNIT_TEXT},
    [FIGURE_CDEV] = {"Cdev", "cdev", NULL, NULL, UNIT_TEXT},
    [FIGURE_MACHINE] = {"Machine", "machine", NULL, NULL, UNIT_TEXT},
    [FIGURE_ASSIGNABLE] = {"Assignable", "assignable", "ASSIGNABLE", "Assignable", UNIT_GOOD},
    [FIGURE_REASON] = {"Reason", "reason", "WHY NOT", "Why not", UNIT_REMARK},

    [FIGURE_VERSION] = {"Version", "version", NULL, NULL, UNIT_TEXT},
    [FIGURE_FEATURES] = {"Features", "features", NULL, NULL, UNIT_LIST},
    [FIGURE_MEMORY] = {"MemoryBytes", "memory_bytes", NULL, NULL, UNIT_BYTES},
    [FIGURE_KERNEL_PINNED] = {"KernelPinnedBytes", "kernel_pinned_bytes", NULL, NULL, UNIT_BYTES},
    [FIGURE_BUDGET] = {"HostBudgetBytes", "budget_bytes", NULL, NULL, UNIT_BYTES},
    [FIGURE_DEFAULT_TENANT] = {"DefaultTenant", "default_tenant", NULL, NULL, UNIT_TEXT},
    [FIGURE_GUARD_STATE] = {"GuardState", "guard_state", NULL, NULL, UNIT_TEXT},
    [FIGURE_GUARD_REASON] = {"GuardReason", "guard_reason", NULL, NULL, UNIT_TEXT},
    [FIGURE_LEDGER_STATE] = {"LedgerState", "ledger_state", NULL, NULL, UNIT_TEXT},
    [FIGURE_LEDGER_REASON] = {"LedgerReason", "ledger_reason", NULL, NULL, UNIT_TEXT},
    [FIGURE_REQUIRE_GUARD] = {"RequireGuard", "require_guard", NULL, NULL, UNIT_YES},
    [FIGURE_DRIFT] = {"DriftBytes", "drift_bytes", NULL, NULL, UNIT_BYTES},
    [FIGURE_UNTRACKED] = {"UntrackedEvents", "untracked_events", NULL, NULL, UNIT_COUNT},
    [FIGURE_UNKNOWN_IOCTLS] = {"UnknownIoctls", "unknown_ioctls", NULL, NULL, UNIT_COUNT},
};

static bool is_number(Unit unit)
{
    return unit >= UNIT_BYTES && unit <= UNIT_GROUP;
}

void figures_add_columns(Table *table, const FigureId *view, FiguresForm form)
{
    for (; *view != FIGURES_END; view++) {
        const char *const titles[] = {
            [FIGURES_LIST] = figures[*view].heading,
            [FIGURES_RECORD] = figures[*view].title,
            [FIGURES_JSON] = NULL,
        };
        bool right = form == FIGURES_LIST && is_number(figures[*view].unit);
        table_add_column(table, titles[form], figures[*view].key, right ? TABLE_RIGHT : TABLE_LEFT);
    }
}

uint64_t figure_number(FigureId id, const Properties *object)
{
    return properties_number(object, figures[id].property);
}

/* ---- cells ---- */

static Style state_style(const char *state)
{
    static const struct {
        const char *state;
        Style style;
    } styles[] = {{"running", STYLE_GOOD}, {"reaping", STYLE_WARNING}};
    for (size_t i = 0; i < G_N_ELEMENTS(styles); i++) {
        if (strcmp(state, styles[i].state) == 0)
            return styles[i].style;
    }
    return STYLE_NONE;
}

static void add_tenant(Table *table, const char *text)
{
    g_autofree char *id = bus_path_tenant(text);
    table_add_string(table, id ? id : text);
}

static void add_machines(Table *table, const char *const *paths)
{
    g_autoptr(GPtrArray) uuids = g_ptr_array_new_with_free_func(g_free);
    for (; *paths; paths++) {
        char *uuid = bus_path_machine(*paths);
        if (uuid)
            g_ptr_array_add(uuids, uuid);
    }
    g_ptr_array_add(uuids, NULL);
    table_add_strings(table, (const char *const *)uuids->pdata);
}

static void add_number(Table *table, FigureId id, uint64_t number, const Properties *object)
{
    switch (figures[id].unit) {
    case UNIT_BYTES:
        table_add_size(table, number);
        break;
    case UNIT_RESERVED:
        table_add_size(table, number);
        /* The limit was lowered after the promise. */
        if (properties_is_set(object, "LimitBytes") && number > figure_number(FIGURE_LIMIT, object))
            table_set_style(table, STYLE_WARNING);
        break;
    case UNIT_ORPHANED:
        table_add_size(table, number);
        table_set_style(table, number > 0 ? STYLE_BAD : STYLE_FAINT);
        break;
    case UNIT_PROCESS:
        if (number > 0)
            table_add_number(table, (int64_t)number);
        else
            table_add_none(table);
        break;
    case UNIT_GROUP:
        if ((int64_t)number >= 0)
            table_add_number(table, (int64_t)number);
        else
            table_add_none(table);
        break;
    case UNIT_YES:
    case UNIT_GOOD:
        table_add_bool(table, number != 0);
        if (figures[id].unit == UNIT_GOOD)
            table_set_style(table, number ? STYLE_GOOD : STYLE_FAINT);
        break;
    default:
        table_add_number(table, (int64_t)number);
        break;
    }
}

static void add_cell(Table *table, FigureId id, const Properties *object)
{
    const char *property = figures[id].property;
    const char *text = properties_string(object, property);
    if (!properties_is_set(object, property)) {
        table_add_none(table);
        return;
    }
    switch (figures[id].unit) {
    case UNIT_REMARK:
        if (*text)
            table_add_string(table, text);
        else
            table_add_none(table);
        break;
    case UNIT_TEXT:
    case UNIT_STATE:
        table_add_string(table, text);
        if (figures[id].unit == UNIT_STATE)
            table_set_style(table, state_style(text));
        break;
    case UNIT_TENANT:
        add_tenant(table, text);
        break;
    case UNIT_LIST:
        table_add_strings(table, properties_strings(object, property));
        break;
    case UNIT_MACHINES:
        add_machines(table, properties_strings(object, property));
        break;
    default:
        add_number(table, id, properties_number(object, property), object);
        break;
    }
}

void figures_add_cells(Table *table, const FigureId *view, const Properties *object)
{
    for (; *view != FIGURES_END; view++)
        add_cell(table, *view, object);
}

Table *figures_list(const FigureId *view, FiguresForm form, const GPtrArray *objects)
{
    Table *table = table_new();
    figures_add_columns(table, view, form);
    for (unsigned i = 0; i < objects->len; i++)
        figures_add_cells(table, view, objects->pdata[i]);
    return table;
}

Table *figures_record(const FigureId *view, const Properties *object)
{
    Table *table = table_new();
    figures_add_columns(table, view, FIGURES_RECORD);
    figures_add_cells(table, view, object);
    return table;
}

char *device_identity(const Properties *device)
{
    return g_strdup_printf("%04x:%04x class %06x", (unsigned)figure_number(FIGURE_VENDOR, device),
                           (unsigned)figure_number(FIGURE_PRODUCT, device),
                           (unsigned)figure_number(FIGURE_CLASS, device));
}
