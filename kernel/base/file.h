/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The small files of sysfs and procfs: read whole, or written by one write(2). */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Reads at most size - 1 bytes of the file and ends them with a NUL; what does not fit is left
 * out. Returns the bytes read, or a negative errno. */
ssize_t file_read(const char *path, char *buffer, size_t size);

/* The same for a file of one line: without the white space at its end. 0 or a negative errno. */
int file_read_line(const char *path, char *buffer, size_t size);

/* A number in the given base, or with "0x" when base is 0. -EINVAL: the file holds none. */
int file_read_number(const char *path, int base, uint64_t *ret_number);

/* "MAJOR:MINOR", as in sysfs's files named dev. */
int file_read_device_number(const char *path, dev_t *ret_device);

/* The number after "KEY" at the start of a line of text ("MemTotal:   123 kB"). -ENXIO: no such
 * line. */
int text_find_number(const char *text, const char *key, uint64_t *ret_number);

/* One write(2): a driver in the kernel sees the text whole, and its refusal is the result. */
int file_write(const char *path, const char *text);

/* The last part of the link's target. -ENAMETOOLONG: it does not fit. */
int file_read_link_name(const char *path, char *buffer, size_t size);
