/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rows of typed cells. The same rows are printed as aligned text or as a tree (libsmartcols), as
 * "Name: value" lines for a single row, or as JSON, so that text and JSON can't tell different
 * stories.
 */
#pragma once

#include "dbus/iommuctl/base/output.h"

#include <glib.h>
#include <stdint.h>

typedef enum {
    TABLE_LEFT,
    TABLE_RIGHT,
    TABLE_TREE, /* left, behind the lines of the tree */
} TableAlign;

typedef struct Table Table;

Table *table_new(void);
/* Accepts NULL. */
void table_free(Table *table);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Table, table_free)

/* title: the heading, NULL for a column that is only in JSON. key: the name in JSON, NULL for a
 * column that is only in text. Neither is copied. Columns are added before any row. */
void table_add_column(Table *table, const char *title, const char *key, TableAlign align);

/* The row that is added next is a child of the row with that number. Its own number is
 * table_rows(), before it is added. */
void table_set_parent(Table *table, size_t parent);

/* Cells are added row by row, in the order of the columns. "" is "-" in text and null in JSON. */
void table_add_string(Table *table, const char *value);
/* The same, cut to at most width characters in text; 0: whole. */
void table_add_short_string(Table *table, const char *value, unsigned width);
/* Bytes: "64G" in text, a number in JSON; UINT64_MAX: "infinity", and null in JSON. */
void table_add_size(Table *table, uint64_t bytes);
void table_add_number(Table *table, int64_t value);
void table_add_bool(Table *table, bool value);
/* NULL-terminated; joined with commas in text, an array in JSON. */
void table_add_strings(Table *table, const char *const *values);
/* A table of its own, which is taken: the number of its rows in text, the rows themselves below
 * the lines of a record, an array of objects in JSON. */
void table_add_table(Table *table, Table *child);
/* A table of one row, which is taken: only in JSON, as an object. */
void table_add_record(Table *table, Table *child);
/* A cell without a value: "" in text and null in JSON. */
void table_add_none(Table *table);
/* How the cell added last looks. */
void table_set_style(Table *table, Style style);

size_t table_rows(const Table *table);

/* The rows below their headings, or a JSON array of objects. */
void table_print(const Table *table, const Output *output);
/* The only row as one line per cell, or one JSON object. */
void table_print_record(const Table *table, const Output *output);
