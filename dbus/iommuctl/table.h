/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rows of typed cells. The same rows are printed as aligned text, as "Name: value" lines for a
 * single row, or as JSON, so that text and JSON can't tell different stories.
 *
 * Strings come from outside (names of machines, the service's sentences): what a terminal would
 * take for a command is printed as '?'.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef enum {
    JSON_OFF,
    JSON_PRETTY,
    JSON_SHORT,
} JsonMode;

/* How to print. */
typedef struct {
    FILE *file;
    JsonMode json;
    bool legend; /* headings */
    bool colour;
    bool utf8;
} Output;

/* Text to stdout; colours when it is a terminal and NO_COLOR is not set; lines as the locale can
 * show them. Call setlocale() before. */
void output_init(Output *output);

typedef enum {
    TABLE_LEFT,
    TABLE_RIGHT,
} TableAlign;

/* What a cell wants to be seen as. */
typedef enum {
    MARK_NONE,
    MARK_GOOD,
    MARK_WARNING,
    MARK_BAD,
    MARK_FAINT,
} Mark;

/* Escape sequences around text of this kind; "" without colours. */
const char *mark_begin(const Output *output, Mark mark);
const char *mark_end(const Output *output, Mark mark);

/* The whole text as it may go to a terminal: text_sanitize(), in ASCII where the locale has no
 * more. Freed with g_free(). */
char *output_clean(const Output *output, const char *text);

typedef struct Table Table;

Table *table_new(void);
/* Accepts NULL. */
void table_free(Table *table);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Table, table_free)

/* title: the heading, NULL for a column that is only in JSON. key: the name in JSON, NULL for a
 * column that is only in text. Neither is copied. */
void table_add_column(Table *table, const char *title, const char *key, TableAlign align);

/* Cells are added row by row, in the order of the columns. "" is "-" in text and null in JSON. */
void table_add_string(Table *table, const char *value);
/* Bytes: "64G" in text, a number in JSON; UINT64_MAX: "infinity", and null in JSON. */
void table_add_size(Table *table, uint64_t bytes);
void table_add_number(Table *table, int64_t value);
void table_add_bool(Table *table, bool value);
/* NULL-terminated; joined with commas in text, an array in JSON. */
void table_add_strings(Table *table, const char *const *values);
/* A table of its own, which is taken: the number of its rows in text, the rows themselves below
 * the lines of a record, an array of objects in JSON. */
void table_add_table(Table *table, Table *child);
/* A cell without a value: "" in text and null in JSON. */
void table_add_none(Table *table);
/* Marks the cell added last. */
void table_mark(Table *table, Mark mark);

size_t table_rows(const Table *table);

/* The rows below their headings, or a JSON array of objects. */
void table_print(const Table *table, const Output *output);
/* The only row as one line per cell, or one JSON object. */
void table_print_record(const Table *table, const Output *output);
