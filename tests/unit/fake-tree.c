/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/fake-tree.h"

#include <glib.h>
#include <glib/gstdio.h>
#include <unistd.h>

char *tree_new(void)
{
    g_autoptr(GError) error = NULL;
    char *root = g_dir_make_tmp("iommud-tree-XXXXXX", &error);
    g_assert_no_error(error);
    return root;
}

static void remove_path(const char *path)
{
    g_autoptr(GDir) dir = NULL;
    const char *name;
    if (!g_file_test(path, G_FILE_TEST_IS_SYMLINK) && (dir = g_dir_open(path, 0, NULL))) {
        while ((name = g_dir_read_name(dir))) {
            g_autofree char *below = g_build_filename(path, name, NULL);
            remove_path(below);
        }
    }
    g_remove(path);
}

void tree_remove(char *root)
{
    remove_path(root);
    g_free(root);
}

static char *tree_path(const char *root, const char *format, va_list arguments)
{
    g_autofree char *path = g_strdup_vprintf(format, arguments);
    char *full = g_build_filename(root, path, NULL);
    g_autofree char *folder = g_path_get_dirname(full);
    g_assert_cmpint(g_mkdir_with_parents(folder, 0700), ==, 0);
    return full;
}

void tree_write(const char *root, const char *text, const char *path, ...)
{
    va_list arguments;
    va_start(arguments, path);
    g_autofree char *full = tree_path(root, path, arguments);
    va_end(arguments);
    g_assert_true(g_file_set_contents(full, text, -1, NULL));
}

void tree_link(const char *root, const char *target, const char *path, ...)
{
    va_list arguments;
    va_start(arguments, path);
    g_autofree char *full = tree_path(root, path, arguments);
    va_end(arguments);
    g_unlink(full);
    g_assert_cmpint(symlink(target, full), ==, 0);
}

char *tree_read(const char *root, const char *path, ...)
{
    char *text = NULL;
    va_list arguments;
    va_start(arguments, path);
    g_autofree char *full = tree_path(root, path, arguments);
    va_end(arguments);
    g_file_get_contents(full, &text, NULL, NULL);
    return text;
}
