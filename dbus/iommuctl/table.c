/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/iommuctl/table.h"

#include "dbus/base/json.h"
#include "kernel/base/text.h"
#include "policy/size.h"

#include <langinfo.h>
#include <string.h>
#include <unistd.h>

typedef enum {
    CELL_NONE,
    CELL_STRING,
    CELL_SIZE,
    CELL_NUMBER,
    CELL_BOOL,
    CELL_STRINGS,
    CELL_TABLE,
} CellType;

typedef struct {
    CellType type;
    Mark mark;
    char *string;
    char **strings;
    Table *table;
    union {
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
    GArray *columns;  /* of Column */
    GPtrArray *cells; /* owned Cell, row after row */
};

static void cell_free(void *data)
{
    Cell *cell = data;

    g_free(cell->string);
    g_strfreev(cell->strings);
    table_free(cell->table);
    g_free(cell);
}

void output_init(Output *output)
{
    const char *no_colour = g_getenv("NO_COLOR");
    const char *terminal = g_getenv("TERM");

    output->file = stdout;
    output->json = JSON_OFF;
    output->legend = true;
    output->colour = isatty(STDOUT_FILENO) && !(no_colour && *no_colour) &&
                     !(terminal && strcmp(terminal, "dumb") == 0);
    output->utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

const char *mark_begin(const Output *output, Mark mark)
{
    static const char *const sequences[] = {
        [MARK_NONE] = "",          [MARK_GOOD] = "\033[32m", [MARK_WARNING] = "\033[33m",
        [MARK_BAD] = "\033[1;31m", [MARK_FAINT] = "\033[2m",
    };

    return output->colour ? sequences[mark] : "";
}

const char *mark_end(const Output *output, Mark mark)
{
    return output->colour && mark != MARK_NONE ? "\033[0m" : "";
}

char *output_clean(const Output *output, const char *text)
{
    return text_sanitize(text, TEXT_WHOLE, !output->utf8);
}

Table *table_new(void)
{
    Table *table = g_new0(Table, 1);

    table->columns = g_array_new(FALSE, FALSE, sizeof(Column));
    table->cells = g_ptr_array_new_with_free_func(cell_free);
    return table;
}

void table_free(Table *table)
{
    if (!table)
        return;
    g_array_unref(table->columns);
    g_ptr_array_unref(table->cells);
    g_free(table);
}

void table_add_column(Table *table, const char *title, const char *key, TableAlign align)
{
    Column column = {.title = title, .key = key, .align = align};

    g_assert(table->cells->len == 0);
    g_array_append_val(table->columns, column);
}

static Cell *add_cell(Table *table, CellType type)
{
    Cell *cell = g_new0(Cell, 1);

    cell->type = type;
    g_ptr_array_add(table->cells, cell);
    return cell;
}

void table_add_string(Table *table, const char *value)
{
    add_cell(table, CELL_STRING)->string = g_strdup(value);
}

void table_add_size(Table *table, uint64_t bytes)
{
    add_cell(table, CELL_SIZE)->size = bytes;
}

void table_add_number(Table *table, int64_t value)
{
    add_cell(table, CELL_NUMBER)->number = value;
}

void table_add_bool(Table *table, bool value)
{
    add_cell(table, CELL_BOOL)->boolean = value;
}

void table_add_strings(Table *table, const char *const *values)
{
    add_cell(table, CELL_STRINGS)->strings = g_strdupv((char **)values);
}

void table_add_table(Table *table, Table *child)
{
    add_cell(table, CELL_TABLE)->table = child;
}

void table_add_none(Table *table)
{
    add_cell(table, CELL_NONE);
}

void table_mark(Table *table, Mark mark)
{
    Cell *cell = table->cells->pdata[table->cells->len - 1];

    cell->mark = mark;
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
    return table->cells->pdata[row * table->columns->len + column];
}

/* ---- text ---- */

static char *cell_text(const Cell *cell, const Output *output)
{
    g_autofree char *joined = NULL;

    switch (cell->type) {
    case CELL_NONE:
        return g_strdup("");
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
        break;
    case CELL_STRING:
        joined = g_strdup(cell->string);
        break;
    }
    return *joined ? output_clean(output, joined) : g_strdup("-");
}

/* Columns that the text takes on a terminal. */
static size_t text_width(const char *text)
{
    size_t width = 0;

    for (const char *p = text; *p; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);

        if (!g_unichar_iszerowidth(c))
            width += g_unichar_iswide(c) ? 2 : 1;
    }
    return width;
}

static void print_padding(FILE *file, size_t n)
{
    for (size_t i = 0; i < n; i++)
        fputc(' ', file);
}

static void print_text(const Output *output, const char *text, Mark mark, TableAlign align,
                       size_t width, bool last)
{
    size_t padding = width - text_width(text);

    if (align == TABLE_RIGHT)
        print_padding(output->file, padding);
    fprintf(output->file, "%s%s%s", mark_begin(output, mark), text, mark_end(output, mark));
    if (last)
        fputc('\n', output->file);
    else
        print_padding(output->file, (align == TABLE_LEFT ? padding : 0) + 2);
}

/* The texts of all cells in the order of table->cells. */
static GPtrArray *cell_texts(const Table *table, const Output *output)
{
    GPtrArray *texts = g_ptr_array_new_with_free_func(g_free);

    for (unsigned i = 0; i < table->cells->len; i++)
        g_ptr_array_add(texts, cell_text(table->cells->pdata[i], output));
    return texts;
}

/* The last column of a row that has something to show: what follows it are blanks. */
static size_t last_column(const Table *table, const GPtrArray *texts, size_t row)
{
    size_t last = 0;

    for (size_t i = 0; i < table->columns->len; i++) {
        const char *text = texts->pdata[row * table->columns->len + i];

        if (column_at(table, i)->title && *text)
            last = i;
    }
    return last;
}

static GArray *column_widths(const Table *table, const GPtrArray *texts, bool legend)
{
    size_t n_columns = table->columns->len;
    GArray *widths = g_array_new(FALSE, TRUE, sizeof(size_t));

    for (size_t i = 0; i < n_columns; i++) {
        const char *title = column_at(table, i)->title;
        size_t width = title && legend ? text_width(title) : 0;

        for (size_t row = 0; title && row < table_rows(table); row++)
            width = MAX(width, text_width(texts->pdata[row * n_columns + i]));
        g_array_append_val(widths, width);
    }
    return widths;
}

static void print_headings(const Table *table, const Output *output, const GArray *widths)
{
    size_t last = 0;

    for (size_t i = 0; i < table->columns->len; i++) {
        if (column_at(table, i)->title && *column_at(table, i)->title)
            last = i;
    }
    for (size_t i = 0; i <= last; i++) {
        const Column *column = column_at(table, i);

        if (column->title)
            print_text(output, column->title, MARK_FAINT, column->align,
                       g_array_index(widths, size_t, i), i == last);
    }
}

static void print_rows(const Table *table, const Output *output)
{
    size_t n_columns = table->columns->len;
    g_autoptr(GPtrArray) texts = cell_texts(table, output);
    g_autoptr(GArray) widths = column_widths(table, texts, output->legend);

    if (output->legend)
        print_headings(table, output, widths);
    for (size_t row = 0; row < table_rows(table); row++) {
        size_t last = last_column(table, texts, row);

        for (size_t i = 0; i <= last; i++) {
            const Column *column = column_at(table, i);

            if (column->title)
                print_text(output, texts->pdata[row * n_columns + i], cell_at(table, row, i)->mark,
                           column->align, g_array_index(widths, size_t, i), i == last);
        }
    }
}

static void print_record(const Table *table, const Output *output)
{
    g_autoptr(GPtrArray) texts = cell_texts(table, output);
    size_t width = 0;

    for (size_t i = 0; i < table->columns->len; i++) {
        if (column_at(table, i)->title)
            width = MAX(width, text_width(column_at(table, i)->title));
    }
    for (size_t i = 0; i < table->columns->len; i++) {
        const char *title = column_at(table, i)->title;
        Mark mark = cell_at(table, 0, i)->mark;

        if (!title)
            continue;
        print_padding(output->file, width - text_width(title));
        fprintf(output->file, "%s: %s%s%s\n", title, mark_begin(output, mark),
                (char *)texts->pdata[i], mark_end(output, mark));
    }
    for (size_t i = 0; i < table->columns->len; i++) {
        const Cell *cell = cell_at(table, 0, i);

        if (cell->type != CELL_TABLE || table_rows(cell->table) == 0)
            continue;
        fputc('\n', output->file);
        print_rows(cell->table, output);
    }
}

/* ---- JSON ---- */

static void json_rows(Json *json, const char *key, const Table *table);

static void json_cell(Json *json, const char *key, const Cell *cell)
{
    switch (cell->type) {
    case CELL_NONE:
        json_null(json, key);
        break;
    case CELL_STRING:
        json_string(json, key, *cell->string ? cell->string : NULL);
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
    }
}

static void json_row(Json *json, const Table *table, size_t row)
{
    json_open_object(json, NULL);
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
        json_row(json, table, row);
    json_close_array(json);
}

static void print_json(const Table *table, const Output *output, bool record)
{
    g_autoptr(Json) json = json_new(output->json == JSON_PRETTY);
    g_autofree char *text = NULL;

    if (record)
        json_row(json, table, 0);
    else
        json_rows(json, NULL, table);
    text = json_finish(json);
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
