/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the service says of its objects, one row each: the property, its name in JSON, its heading,
 * its unit. Lists, records, the tree, 'top' and JSON are made of these; a figure that is added here
 * is shown wherever a view names it.
 */
#pragma once

#include "dbus/client/properties.h"
#include "dbus/iommuctl/base/table.h"

typedef enum {
    FIGURES_END,
    /* of tenants, machines, or both */
    FIGURE_ID,
    FIGURE_UUID,
    FIGURE_NAME,
    FIGURE_TENANT,
    FIGURE_STATE,
    FIGURE_LEADER,
    FIGURE_IOMMUFD,
    FIGURE_LIMIT,
    FIGURE_RESERVED,
    FIGURE_PINNED,
    FIGURE_PEAK,
    FIGURE_ORPHANED,
    FIGURE_UNIQUE,
    FIGURE_MAPPED,
    FIGURE_MAPS,
    FIGURE_UNMAPS,
    FIGURE_REFUSALS,
    FIGURE_COUNT,
    FIGURE_ISOLATION,
    FIGURE_SHARED,
    FIGURE_ACCOUNTING,
    FIGURE_SOURCE,
    FIGURE_DEVICE_PATTERNS,
    FIGURE_DEVICES,
    FIGURE_MACHINES,
    /* of devices */
    FIGURE_ADDRESS,
    FIGURE_VENDOR,
    FIGURE_PRODUCT,
    FIGURE_CLASS,
    FIGURE_BRIDGE,
    FIGURE_GROUP,
    FIGURE_GROUP_MEMBERS,
    FIGURE_DRIVER,
    FIGURE_CDEV,
    FIGURE_MACHINE,
    FIGURE_ASSIGNABLE,
    FIGURE_REASON,
    /* of the host */
    FIGURE_VERSION,
    FIGURE_FEATURES,
    FIGURE_MEMORY,
    FIGURE_KERNEL_PINNED,
    FIGURE_BUDGET,
    FIGURE_DEFAULT_TENANT,
    FIGURE_GUARD_STATE,
    FIGURE_GUARD_REASON,
    FIGURE_LEDGER_STATE,
    FIGURE_LEDGER_REASON,
    FIGURE_REQUIRE_GUARD,
    FIGURE_DRIFT,
    FIGURE_UNTRACKED,
    FIGURE_UNKNOWN_IOCTLS,
    _FIGURE_MAX,
} FigureId;

typedef enum {
    FIGURES_LIST,   /* headings, figures to the right */
    FIGURES_RECORD, /* names of lines */
    FIGURES_JSON,   /* not in text */
} FiguresForm;

/* Adds a column for each figure of a view, which ends with FIGURES_END. */
void figures_add_columns(Table *table, const FigureId *view, FiguresForm form);
/* Adds the cells of these columns: what the object does not have stays empty. */
void figures_add_cells(Table *table, const FigureId *view, const Properties *object);
/* The property of a number. */
uint64_t figure_number(FigureId id, const Properties *object);
/* A table of the figures of objects, which are Properties, in their order. Freed with
 * table_free(). */
Table *figures_list(const FigureId *view, FiguresForm form, const GPtrArray *objects);
/* A table of one row, for table_print_record(). Freed with table_free(). */
Table *figures_record(const FigureId *view, const Properties *object);
/* What a device is, for people. Freed with g_free(). */
char *device_identity(const Properties *device);
