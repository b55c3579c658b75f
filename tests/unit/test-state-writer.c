/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The one writer of state, and the numbers that are never given out twice. */
#include "dbus/base/errors.h"
#include "dbus/state/numbers.h"
#include "dbus/state/records.h"

#include <glib/gstdio.h>

typedef struct Fixture Fixture;

typedef struct {
    WriterItem item; /* first */
    Fixture *fixture;
    char letter;
    bool fails;
} Item;

struct Fixture {
    sd_event *event;
    Writer *writer;
    GString *saved; /* letters, in the order in which they were written; small: it failed */
    Item items[3];
    char *folder;
};

static gboolean save(WriterItem *base, GError **error)
{
    const Item *item = (const Item *)base;
    g_string_append_c(item->fixture->saved,
                      item->fails ? item->letter : g_ascii_toupper(item->letter));
    if (item->fails)
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_KERNEL_REFUSED, "No room for %c.",
                    item->letter);
    return !item->fails;
}

static void set_up(Fixture *fixture, gconstpointer unused)
{
    g_assert_cmpint(sd_event_new(&fixture->event), >=, 0);
    fixture->writer = writer_new(fixture->event);
    fixture->saved = g_string_new(NULL);
    fixture->folder = g_dir_make_tmp("iommud-test-XXXXXX", NULL);
    for (int i = 0; i < 3; i++)
        fixture->items[i] =
            (Item){.item.save = save, .fixture = fixture, .letter = (char)('a' + i)};
}

static void tear_down(Fixture *fixture, gconstpointer unused)
{
    g_autofree char *numbers = g_build_filename(fixture->folder, "numbers", NULL);
    writer_free(fixture->writer);
    sd_event_unref(fixture->event);
    g_string_free(fixture->saved, TRUE);
    (void)g_unlink(numbers);
    g_assert_cmpint(g_rmdir(fixture->folder), ==, 0);
    g_free(fixture->folder);
}

static void mark(Fixture *fixture, int i)
{
    writer_mark(fixture->writer, &fixture->items[i].item);
}

/* What was written since the last look. */
static void assert_saved(const Fixture *fixture, const char *letters)
{
    g_assert_cmpstr(fixture->saved->str, ==, letters);
    g_string_truncate(fixture->saved, 0);
}

static void test_commit(Fixture *fixture, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    mark(fixture, 2);
    mark(fixture, 0);
    mark(fixture, 2);
    assert_saved(fixture, "");
    g_assert_true(writer_commit(fixture->writer, &error));
    assert_saved(fixture, "CA");
    g_assert_true(writer_commit(fixture->writer, &error));
    assert_saved(fixture, "");
    g_assert_no_error(error);
    g_assert_cmpint(sd_event_run(fixture->event, 0), ==, 0);
}

/* The first failure is told; what could be written is; what could not is tried again. */
static void test_failure(Fixture *fixture, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    fixture->items[0].fails = fixture->items[2].fails = true;
    for (int i = 0; i < 3; i++)
        mark(fixture, i);
    g_assert_false(writer_commit(fixture->writer, &error));
    g_assert_error(error, IOMMUD_ERROR, IOMMUD_ERROR_KERNEL_REFUSED);
    g_assert_cmpstr(error->message, ==, "No room for a.");
    assert_saved(fixture, "aBc");
    g_assert_false(writer_commit(fixture->writer, NULL));
    assert_saved(fixture, "ac");
    fixture->items[0].fails = fixture->items[2].fails = false;
    g_assert_true(writer_commit(fixture->writer, NULL));
    assert_saved(fixture, "AC");
    g_assert_true(writer_commit(fixture->writer, NULL));
    assert_saved(fixture, "");
}

/* Nobody commits: it is written at the end of the turn. What fails then is tried again with the
 * next change of anything, its own included. */
static void test_turn(Fixture *fixture, gconstpointer unused)
{
    mark(fixture, 1);
    g_assert_cmpint(sd_event_run(fixture->event, 0), >, 0);
    assert_saved(fixture, "B");
    g_assert_cmpint(sd_event_run(fixture->event, 0), ==, 0);
    fixture->items[1].fails = true;
    mark(fixture, 1);
    g_assert_cmpint(sd_event_run(fixture->event, 0), >, 0);
    assert_saved(fixture, "b");
    /* Not again and again without anything that has happened. */
    g_assert_cmpint(sd_event_run(fixture->event, 0), ==, 0);
    fixture->items[1].fails = false;
    mark(fixture, 1);
    g_assert_cmpint(sd_event_run(fixture->event, 0), >, 0);
    assert_saved(fixture, "B");
}

static void test_forget(Fixture *fixture, gconstpointer unused)
{
    mark(fixture, 0);
    mark(fixture, 1);
    writer_forget(fixture->writer, &fixture->items[0].item);
    writer_forget(fixture->writer, &fixture->items[2].item);
    g_assert_true(writer_commit(fixture->writer, NULL));
    assert_saved(fixture, "B");
    mark(fixture, 0);
    g_assert_true(writer_commit(fixture->writer, NULL));
    assert_saved(fixture, "A");
}

static void test_end(Fixture *fixture, gconstpointer unused)
{
    mark(fixture, 0);
    g_clear_pointer(&fixture->writer, writer_free);
    assert_saved(fixture, "A");
}

/* ---- numbers ---- */

static void test_numbers(Fixture *fixture, gconstpointer unused)
{
    for (uint32_t run = 0; run < 3; run++) {
        Numbers *numbers = numbers_new(fixture->folder, fixture->writer);
        for (uint32_t i = 1; i <= 5; i++)
            g_assert_cmpuint(numbers_next_machine(numbers), ==, run * 5 + i);
        g_assert_cmpuint(numbers_next_tenant(numbers), ==, run + 1);
        g_assert_true(writer_commit(fixture->writer, NULL));
        /* Without a farewell. */
        numbers_free(numbers);
    }
}

/* One that was never written was never told to anybody. */
static void test_number_that_was_not_written(Fixture *fixture, gconstpointer unused)
{
    Numbers *numbers = numbers_new(fixture->folder, fixture->writer);
    g_assert_cmpuint(numbers_next_machine(numbers), ==, 1);
    numbers_free(numbers);
    numbers = numbers_new(fixture->folder, fixture->writer);
    g_assert_cmpuint(numbers_next_machine(numbers), ==, 1);
    numbers_free(numbers);
}

/* The file is lost: what is in use is not given out again. */
static void test_noted_numbers(Fixture *fixture, gconstpointer unused)
{
    Numbers *numbers = numbers_new(fixture->folder, fixture->writer);
    numbers_note(numbers, 7, 0);
    numbers_note(numbers, 0, 41);
    numbers_note(numbers, 3, 12);
    g_assert_true(writer_commit(fixture->writer, NULL));
    numbers_free(numbers);
    numbers = numbers_new(fixture->folder, fixture->writer);
    g_assert_cmpuint(numbers_next_tenant(numbers), ==, 8);
    g_assert_cmpuint(numbers_next_machine(numbers), ==, 42);
    numbers_free(numbers);
}

int main(int argc, char *argv[])
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, function) g_test_add(path, Fixture, NULL, set_up, function, tear_down)
    ADD("/writer/commit", test_commit);
    ADD("/writer/failure", test_failure);
    ADD("/writer/turn", test_turn);
    ADD("/writer/forget", test_forget);
    ADD("/writer/end", test_end);
    ADD("/numbers/over-restarts", test_numbers);
    ADD("/numbers/not-written", test_number_that_was_not_written);
    ADD("/numbers/noted", test_noted_numbers);
    return g_test_run();
}
