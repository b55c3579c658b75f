/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What people and scripts see of the same rows. */
#include "dbus/iommuctl/base/table.h"

#include <locale.h>

#include <stdlib.h>
#include <string.h>

typedef void (*Print)(const Table *table, const Output *output);

static char *printed(const Table *table, Print print, Output output)
{
    g_autofree char *copy = NULL;
    char *text = NULL;
    size_t size = 0;

    output.file = open_memstream(&text, &size);
    print(table, &output);
    fclose(output.file);
    copy = g_strdup(text);
    free(text);
    return g_steal_pointer(&copy);
}

static void assert_printed(const Table *table, Print print, Output output, const char *expected)
{
    g_autofree char *text = printed(table, print, output);

    g_assert_cmpstr(text, ==, expected);
}

static Table *sample(void)
{
    static const char *const devices[] = {"0000:01:00.0", "0000:02:00.0", NULL};
    static const char *const none[] = {NULL};
    Table *table = table_new();

    table_add_column(table, "NAME", "name", TABLE_LEFT);
    table_add_column(table, "PINNED", "pinned_bytes", TABLE_RIGHT);
    table_add_column(table, NULL, "devices", TABLE_LEFT);
    table_add_column(table, "NOTE", NULL, TABLE_LEFT);
    table_add_string(table, "web-1");
    table_add_size(table, 1536);
    table_add_strings(table, devices);
    table_add_none(table);
    table_add_string(table, "größer");
    table_add_size(table, UINT64_MAX);
    table_add_strings(table, none);
    table_add_string(table, "x");
    table_set_style(table, STYLE_BAD);
    return table;
}

static void test_text(void)
{
    g_autoptr(Table) table = sample();

    assert_printed(table, table_print, (Output){.legend = true, .utf8 = true},
                   "NAME      PINNED  NOTE\n"
                   "web-1       1.5K\n"
                   "größer  infinity  x\n");
    assert_printed(table, table_print, (Output){.legend = false, .utf8 = false},
                   "web-1       1.5K\n"
                   "gr??er  infinity  x\n");
    assert_printed(table, table_print, (Output){.legend = false, .utf8 = true, .colour = true},
                   "web-1       1.5K\n"
                   "größer  infinity  \033[1;31mx\033[0m\n");
}

static void test_json(void)
{
    g_autoptr(Table) table = sample();
    g_autofree char *text = NULL;

    assert_printed(table, table_print, (Output){.json = JSON_SHORT},
                   "[{\"name\":\"web-1\",\"pinned_bytes\":1536,"
                   "\"devices\":[\"0000:01:00.0\",\"0000:02:00.0\"]},"
                   "{\"name\":\"größer\",\"pinned_bytes\":null,\"devices\":[]}]\n");
    text = printed(table, table_print, (Output){.json = JSON_PRETTY});
    g_assert_true(g_str_has_prefix(text, "[\n  {\n    \"name\": \"web-1\",\n"));
}

static void test_empty(void)
{
    g_autoptr(Table) table = table_new();

    table_add_column(table, "NAME", "name", TABLE_LEFT);
    assert_printed(table, table_print, (Output){.legend = true}, "NAME\n");
    assert_printed(table, table_print, (Output){.legend = false}, "");
    assert_printed(table, table_print, (Output){.json = JSON_SHORT}, "[]\n");
    assert_printed(table, table_print, (Output){.json = JSON_PRETTY}, "[]\n");
}

static void test_record(void)
{
    g_autoptr(Table) table = table_new();
    Table *child = table_new();

    table_add_column(child, "DOMAIN", "name", TABLE_LEFT);
    table_add_string(child, "web-1");
    table_add_column(table, "Connected", "connected", TABLE_LEFT);
    table_add_column(table, "URI", "uri", TABLE_LEFT);
    table_add_column(table, "Domains", "domains", TABLE_LEFT);
    table_add_bool(table, true);
    table_add_string(table, "");
    table_add_table(table, child);
    assert_printed(table, table_print_record, (Output){.legend = true},
                   "Connected: yes\n"
                   "      URI: -\n"
                   "  Domains: 1\n"
                   "\n"
                   "DOMAIN\n"
                   "web-1\n");
    assert_printed(table, table_print_record, (Output){.json = JSON_SHORT},
                   "{\"connected\":true,\"uri\":null,\"domains\":[{\"name\":\"web-1\"}]}\n");
}

/* A machine's name is its owner's choice, and the terminal an administrator's. */
static void test_hostile(void)
{
    g_autoptr(Table) table = table_new();

    table_add_column(table, "NAME", "name", TABLE_LEFT);
    table_add_string(table, "\033]0;owned\007\xff\n\xe2\x80\xaex");
    assert_printed(table, table_print, (Output){.utf8 = true}, "?]0;owned?\xef\xbf\xbd??x\n");
    assert_printed(table, table_print, (Output){.utf8 = false}, "?]0;owned????x\n");
}

static Table *tree(void)
{
    static const struct {
        const char *name;
        int parent; /* -1: none */
    } rows[] = {{"host", -1}, {"acme", 0}, {"web-1", 1}, {"\033[31mweb-2", 1}, {"globex", 0}};
    Table *table = table_new();

    table_add_column(table, "NAME", NULL, TABLE_TREE);
    table_add_column(table, "BYTES", NULL, TABLE_RIGHT);
    table_add_column(table, "", NULL, TABLE_LEFT);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (rows[i].parent >= 0)
            table_set_parent(table, (size_t)rows[i].parent);
        table_add_string(table, rows[i].name);
        table_add_number(table, (int64_t)i * 1000);
        if (i == 0)
            table_add_string(table, "simulated");
        else
            table_add_none(table);
    }
    return table;
}

/* No line ends with blanks, whatever stands in the last column. */
static void test_tree(void)
{
    g_autoptr(Table) table = tree();

    assert_printed(table, table_print, (Output){.legend = true, .utf8 = true},
                   "NAME            BYTES\n"
                   "host                0  simulated\n"
                   "├─acme           1000\n"
                   "│ ├─web-1        2000\n"
                   "│ └─?[31mweb-2   3000\n"
                   "└─globex         4000\n");
    assert_printed(table, table_print, (Output){0},
                   "host                0  simulated\n"
                   "|-acme           1000\n"
                   "| |-web-1        2000\n"
                   "| `-?[31mweb-2   3000\n"
                   "`-globex         4000\n");
}

/* What does not fit into a column gives way to "...", but not in JSON. */
static void test_short(void)
{
    g_autoptr(Table) table = table_new();

    table_add_column(table, "NAME", "name", TABLE_LEFT);
    table_add_column(table, "N", "n", TABLE_RIGHT);
    table_add_short_string(table, "größeres", 7);
    table_add_number(table, 1);
    table_add_short_string(table, "größter", 7);
    table_add_number(table, 10);
    assert_printed(table, table_print, (Output){.utf8 = true},
                   "größ...   1\n"
                   "größter  10\n");
    assert_printed(table, table_print, (Output){.json = JSON_SHORT},
                   "[{\"name\":\"größeres\",\"n\":1},{\"name\":\"größter\",\"n\":10}]\n");
}

/* A terminal of 80 columns or an environment that says so does not cut anything. */
static void test_wide(void)
{
    g_autoptr(Table) table = table_new();
    g_autofree char *name = g_strnfill(300, 'x');
    g_autofree char *expected = g_strdup_printf("%s  1\n", name);

    g_setenv("COLUMNS", "80", TRUE);
    table_add_column(table, "NAME", NULL, TABLE_LEFT);
    table_add_column(table, "N", NULL, TABLE_RIGHT);
    table_add_string(table, name);
    table_add_number(table, 1);
    assert_printed(table, table_print, (Output){0}, expected);
}

int main(int argc, char **argv)
{
    /* libsmartcols measures text as the locale has it. */
    g_assert_nonnull(setlocale(LC_ALL, "C.UTF-8"));
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/table/text", test_text);
    g_test_add_func("/table/json", test_json);
    g_test_add_func("/table/empty", test_empty);
    g_test_add_func("/table/record", test_record);
    g_test_add_func("/table/hostile", test_hostile);
    g_test_add_func("/table/tree", test_tree);
    g_test_add_func("/table/short", test_short);
    g_test_add_func("/table/wide", test_wide);
    return g_test_run();
}
