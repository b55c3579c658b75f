/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/iommuctl/base/table.h"

#include "dbus/base/json.h"
#include "kernel/base/text.h"
#include "policy/size.h"

#include <errno.h>
#include <libsmartcols.h>
#include <string.h>

#define NO_PARENT SIZE_MAX

typedef enum {
    CELL_NONE,
    CELL_STRING,
    CELL_SIZE,
    CELL_NUMBER,
    CELL_BOOL,
    CELL_STRINGS,
    CELL_TABLE,
    CELL_RECORD,
} CellType;

typedef struct {
    CellType type;
    Style style;
    union {
        struct {
            char *text;
            unsigned width; /* 0: any */
        } string;
        char **strings;
        Table *table;
        uint64_t size;
        int64_t number;
        bool boolean;
    };
} Cell;

typedef struct {
    const char *title;
    const char *key;
    TableAlign align;
} Column;

struct Table {
    GArray *columns; /* of Column */
    GArray *cells;   /* of Cell, row after row */
    GArray *parents; /* of size_t, for each row up to the last one with a parent */
};

static void cell_clear(void *data)
{
    Cell *cell = data;
    if (cell->type == CELL_STRING)
        g_free(cell->string.text);
    else if (cell->type == CELL_STRINGS)
        g_strfreev(cell->strings);
    else if (cell->type == CELL_TABLE || cell->type == CELL_RECORD)
        table_free(cell->table);
}

Table *table_new(void)
{
    Table *table = g_new0(Table, 1);
    table->columns = g_array_new(FALSE, FALSE, sizeof(Column));
    table->cells = g_array_new(FALSE, FALSE, sizeof(Cell));
    table->parents = g_array_new(FALSE, FALSE, sizeof(size_t));
    g_array_set_clear_func(table->cells, cell_clear);
    return table;
}

void table_free(Table *table)
{
    if (!table)
        return;
    g_array_unref(table->columns);
    g_array_unref(table->cells);
    g_array_unref(table->parents);
    g_free(table);
}

void table_add_column(Table *table, const char *title, const char *key, TableAlign align)
{
    const Column column = {.title = title, .key = key, .align = align};
    g_assert(table->cells->len == 0);
    g_array_append_val(table->columns, column);
}

void table_set_parent(Table *table, size_t parent)
{
    const size_t none = NO_PARENT;
    while (table->parents->len < table_rows(table))
        g_array_append_val(table->parents, none);
    g_array_append_val(table->parents, parent);
}

static void add_cell(Table *table, Cell cell)
{
    g_array_append_val(table->cells, cell);
}

void table_add_string(Table *table, const char *value)
{
    table_add_short_string(table, value, 0);
}

void table_add_short_string(Table *table, const char *value, unsigned width)
{
    add_cell(table, (Cell){.type = CELL_STRING, .string = {g_strdup(value), width}});
}

void table_add_size(Table *table, uint64_t bytes)
{
    add_cell(table, (Cell){.type = CELL_SIZE, .size = bytes});
}

void table_add_number(Table *table, int64_t value)
{
    add_cell(table, (Cell){.type = CELL_NUMBER, .number = value});
}

void table_add_bool(Table *table, bool value)
{
    add_cell(table, (Cell){.type = CELL_BOOL, .boolean = value});
}

void table_add_strings(Table *table, const char *const *values)
{
    add_cell(table, (Cell){.type = CELL_STRINGS, .strings = g_strdupv((char **)values)});
}

void table_add_table(Table *table, Table *child)
{
    add_cell(table, (Cell){.type = CELL_TABLE, .table = child});
}

void table_add_record(Table *table, Table *child)
{
    g_assert(table_rows(child) == 1);
    add_cell(table, (Cell){.type = CELL_RECORD, .table = child});
}

void table_add_none(Table *table)
{
    add_cell(table, (Cell){.type = CELL_NONE});
}

void table_set_style(Table *table, Style style)
{
    g_array_index(table->cells, Cell, table->cells->len - 1).style = style;
}

size_t table_rows(const Table *table)
{
    g_assert(table->cells->len % table->columns->len == 0);
    return table->cells->len / table->columns->len;
}

static const Column *column_at(const Table *table, size_t i)
{
    return &g_array_index(table->columns, Column, i);
}

static const Cell *cell_at(const Table *table, size_t row, size_t column)
{
    return &g_array_index(table->cells, Cell, row * table->columns->len + column);
}

/* ---- text ---- */

/* width: of the text, with the "..." in the place of what does not fit; 0: any. */
static char *string_text(const char *string, unsigned width, const Output *output)
{
    g_autofree char *clean = output_clean(output, string);
    if (!*clean)
        return g_strdup("-");
    if (width == 0 || g_utf8_strlen(clean, -1) <= (glong)width)
        return g_steal_pointer(&clean);
    return text_sanitize(clean, width - strlen("..."), !output->utf8);
}

static char *cell_text(const Cell *cell, const Output *output)
{
    g_autofree char *joined = NULL;
    switch (cell->type) {
    case CELL_NONE:
    case CELL_RECORD:
        break;
    case CELL_SIZE:
        return size_format(cell->size);
    case CELL_NUMBER:
        return g_strdup_printf("%" G_GINT64_FORMAT, cell->number);
    case CELL_BOOL:
        return g_strdup(cell->boolean ? "yes" : "no");
    case CELL_TABLE:
        return g_strdup_printf("%zu", table_rows(cell->table));
    case CELL_STRINGS:
        joined = g_strjoinv(",", cell->strings);
        return string_text(joined, 0, output);
    case CELL_STRING:
        return string_text(cell->string.text, cell->string.width, output);
    }
    return g_strdup("");
}

/* libsmartcols fails for want of memory alone, where GLib aborts. */
static void *need(void *pointer)
{
    if (!pointer)
        g_error("Out of memory");
    return pointer;
}

/* A table that takes the room that it needs, whatever it is printed to. */
static struct libscols_table *grid_new(const Output *output, const char *separator, bool headings)
{
    struct libscols_table *grid = need(scols_new_table());
    (void)scols_table_set_termforce(grid, SCOLS_TERMFORCE_NEVER);
    (void)scols_table_set_column_separator(grid, separator);
    (void)scols_table_enable_colors(grid, output->colour);
    (void)scols_table_enable_noheadings(grid, !headings);
    (void)scols_table_enable_ascii(grid, !output->utf8);
    return grid;
}

static void grid_set(struct libscols_line *line, size_t i, char *text, const Output *output,
                     Style style)
{
    struct libscols_cell *cell = need(scols_line_get_cell(line, i));
    (void)scols_cell_refer_data(cell, text);
    if (style != STYLE_NONE)
        (void)scols_cell_set_color(cell, style_begin(output, style));
}

/* Without the blanks at the ends of lines, which libsmartcols keeps. */
static void grid_print(struct libscols_table *grid, const Output *output)
{
    char *text = NULL;
    if (scols_print_table_to_string(grid, &text) < 0)
        g_error("Out of memory");
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        if (*g_strchomp(*line) || line[1])
            fprintf(output->file, "%s\n", *line);
    }
    free(text);
    scols_unref_table(grid);
}

static void grid_add_columns(struct libscols_table *grid, const Table *table, const Output *output)
{
    static const int flags[] = {
        [TABLE_LEFT] = 0, [TABLE_RIGHT] = SCOLS_FL_RIGHT, [TABLE_TREE] = SCOLS_FL_TREE};
    for (size_t i = 0; i < table->columns->len; i++) {
        const Column *column = column_at(table, i);
        if (!column->title)
            continue;
        struct libscols_column *added =
            need(scols_table_new_column(grid, column->title, 0, flags[column->align]));
        if (*column->title)
            (void)scols_cell_set_color(scols_column_get_header(added),
                                       style_begin(output, STYLE_FAINT));
    }
}

static struct libscols_line *parent_of(const Table *table, size_t row, const GPtrArray *lines)
{
    size_t parent =
        row < table->parents->len ? g_array_index(table->parents, size_t, row) : NO_PARENT;
    return parent == NO_PARENT ? NULL : g_ptr_array_index(lines, parent);
}

static void print_rows(const Table *table, const Output *output)
{
    struct libscols_table *grid = grid_new(output, "  ", output->legend);
    g_autoptr(GPtrArray) lines = g_ptr_array_new();
    grid_add_columns(grid, table, output);
    for (size_t row = 0; row < table_rows(table); row++) {
        struct libscols_line *line = need(scols_table_new_line(grid, parent_of(table, row, lines)));
        size_t shown = 0;
        g_ptr_array_add(lines, line);
        for (size_t i = 0; i < table->columns->len; i++) {
            const Cell *cell = cell_at(table, row, i);
            if (column_at(table, i)->title)
                grid_set(line, shown++, cell_text(cell, output), output, cell->style);
        }
    }
    /* Without any line there would be no headings. */
    if (lines->len == 0)
        (void)need(scols_table_new_line(grid, NULL));
    grid_print(grid, output);
}

static void print_record(const Table *table, const Output *output)
{
    struct libscols_table *grid = grid_new(output, " ", false);
    need(scols_table_new_column(grid, "", 0, SCOLS_FL_RIGHT));
    need(scols_table_new_column(grid, "", 0, 0));
    for (size_t i = 0; i < table->columns->len; i++) {
        const char *title = column_at(table, i)->title;
        const Cell *cell = cell_at(table, 0, i);
        if (!title)
            continue;
        struct libscols_line *line = need(scols_table_new_line(grid, NULL));
        grid_set(line, 0, g_strconcat(title, ":", NULL), output, STYLE_NONE);
        grid_set(line, 1, cell_text(cell, output), output, cell->style);
    }
    grid_print(grid, output);
    for (size_t i = 0; i < table->columns->len; i++) {
        const Cell *cell = cell_at(table, 0, i);
        if (cell->type != CELL_TABLE || table_rows(cell->table) == 0)
            continue;
        fputc('\n', output->file);
        print_rows(cell->table, output);
    }
}

/* ---- JSON ---- */

static void json_row(Json *json, const char *key, const Table *table, size_t row);
static void json_rows(Json *json, const char *key, const Table *table);

static void json_cell(Json *json, const char *key, const Cell *cell)
{
    switch (cell->type) {
    case CELL_NONE:
        json_null(json, key);
        break;
    case CELL_STRING:
        json_string(json, key, *cell->string.text ? cell->string.text : NULL);
        break;
    case CELL_SIZE:
        json_bytes(json, key, cell->size);
        break;
    case CELL_NUMBER:
        json_i64(json, key, cell->number);
        break;
    case CELL_BOOL:
        json_bool(json, key, cell->boolean);
        break;
    case CELL_STRINGS:
        json_strings(json, key, (const char *const *)cell->strings);
        break;
    case CELL_TABLE:
        json_rows(json, key, cell->table);
        break;
    case CELL_RECORD:
        json_row(json, key, cell->table, 0);
        break;
    }
}

static void json_row(Json *json, const char *key, const Table *table, size_t row)
{
    json_open_object(json, key);
    for (size_t i = 0; i < table->columns->len; i++) {
        if (column_at(table, i)->key)
            json_cell(json, column_at(table, i)->key, cell_at(table, row, i));
    }
    json_close_object(json);
}

static void json_rows(Json *json, const char *key, const Table *table)
{
    json_open_array(json, key);
    for (size_t row = 0; row < table_rows(table); row++)
        json_row(json, NULL, table, row);
    json_close_array(json);
}

static void print_json(const Table *table, const Output *output, bool record)
{
    g_autoptr(Json) json = json_new(output->json == JSON_PRETTY);
    if (record)
        json_row(json, NULL, table, 0);
    else
        json_rows(json, NULL, table);
    g_autofree char *text = json_finish(json);
    fprintf(output->file, "%s\n", text);
}

void table_print(const Table *table, const Output *output)
{
    if (output->json != JSON_OFF)
        print_json(table, output, false);
    else
        print_rows(table, output);
}

void table_print_record(const Table *table, const Output *output)
{
    g_assert(table_rows(table) == 1);
    if (output->json != JSON_OFF)
        print_json(table, output, true);
    else
        print_record(table, output);
}
