/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A folder that stands for "/" of sysfs and procfs. */
#pragma once

/* A new folder below the temporary one. */
char *tree_new(void);
/* Removes it and frees root. */
void tree_remove(char *root);

/* A file with this text, or a link, below root; the folders on its way are made. path is a
 * format for the arguments behind it. */
void tree_write(const char *root, const char *text, const char *path, ...)
    __attribute__((format(printf, 3, 4)));
void tree_link(const char *root, const char *target, const char *path, ...)
    __attribute__((format(printf, 3, 4)));
/* What it holds. */
char *tree_read(const char *root, const char *path, ...) __attribute__((format(printf, 2, 3)));
