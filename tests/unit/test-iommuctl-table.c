/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What people and scripts see of the same rows. */
#include "dbus/iommuctl/json-text.h"
#include "dbus/iommuctl/table.h"

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
    table_mark(table, MARK_BAD);
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
    g_autofree char *layout = NULL;

    assert_printed(table, table_print, (Output){.json = JSON_SHORT},
                   "[{\"name\":\"web-1\",\"pinned_bytes\":1536,"
                   "\"devices\":[\"0000:01:00.0\",\"0000:02:00.0\"]},"
                   "{\"name\":\"größer\",\"pinned_bytes\":null,\"devices\":[]}]\n");
    text = printed(table, table_print, (Output){.json = JSON_PRETTY});
    g_assert_true(g_str_has_prefix(text, "[\n  {\n    \"name\": \"web-1\",\n"));
    layout = json_text_layout(text, false);
    g_assert_true(g_str_has_prefix(layout, "[{\"name\":\"web-1\",\"pinned_bytes\":1536,"));
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

static void test_layout(void)
{
    static const char short_text[] =
        "{\"a\":[],\"b\":{ },\"c\":\"x, y: {\\\"[\",\"d\":[1,null,true]}";
    g_autofree char *pretty = json_text_layout(short_text, true);
    g_autofree char *back = json_text_layout(pretty, false);

    g_assert_cmpstr(pretty, ==,
                    "{\n"
                    "  \"a\": [],\n"
                    "  \"b\": {},\n"
                    "  \"c\": \"x, y: {\\\"[\",\n"
                    "  \"d\": [\n"
                    "    1,\n"
                    "    null,\n"
                    "    true\n"
                    "  ]\n"
                    "}");
    g_assert_cmpstr(back, ==, "{\"a\":[],\"b\":{},\"c\":\"x, y: {\\\"[\",\"d\":[1,null,true]}");
}

/* What is no JSON is passed on, not crashed over. */
static void test_layout_broken(void)
{
    static const char *const texts[] = {"", "]", "\"", "\"\\", "{", "[[[", "}}}", ",", "a b"};

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autofree char *pretty = json_text_layout(texts[i], true);
        g_autofree char *flat = json_text_layout(texts[i], false);

        g_assert_nonnull(pretty);
        g_assert_nonnull(flat);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/table/text", test_text);
    g_test_add_func("/table/json", test_json);
    g_test_add_func("/table/empty", test_empty);
    g_test_add_func("/table/record", test_record);
    g_test_add_func("/table/hostile", test_hostile);
    g_test_add_func("/json-text/layout", test_layout);
    g_test_add_func("/json-text/broken", test_layout_broken);
    return g_test_run();
}
