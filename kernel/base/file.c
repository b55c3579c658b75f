/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/base/file.h"

#include "kernel/base/cleanup.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

ssize_t file_read(const char *path, char *buffer, size_t size)
{
    autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    size_t have = 0;
    while (have < size - 1) {
        ssize_t n = read(fd, buffer + have, size - 1 - have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        have += (size_t)n;
    }
    buffer[have] = '\0';
    return (ssize_t)have;
}

int file_read_line(const char *path, char *buffer, size_t size)
{
    ssize_t n = file_read(path, buffer, size);
    if (n < 0)
        return (int)n;
    while (n > 0 && isspace((unsigned char)buffer[n - 1]))
        buffer[--n] = '\0';
    return 0;
}

int file_read_number(const char *path, int base, uint64_t *ret_number)
{
    char text[64], *end;
    int r = file_read_line(path, text, sizeof(text));
    if (r < 0)
        return r;
    errno = 0;
    uint64_t number = strtoull(text, &end, base);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-')
        return -EINVAL;
    *ret_number = number;
    return 0;
}

int file_read_device_number(const char *path, dev_t *ret_device)
{
    char text[32];
    unsigned device_major, device_minor;
    int r = file_read_line(path, text, sizeof(text));
    if (r < 0)
        return r;
    if (sscanf(text, "%u:%u", &device_major, &device_minor) != 2)
        return -EINVAL;
    *ret_device = makedev(device_major, device_minor);
    return 0;
}

int text_find_number(const char *text, const char *key, uint64_t *ret_number)
{
    size_t length = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, length) != 0)
            continue;
        char *end;
        errno = 0;
        uint64_t number = strtoull(line + length, &end, 10);
        if (errno != 0 || end == line + length)
            return -ENXIO;
        *ret_number = number;
        return 0;
    }
    return -ENXIO;
}

int file_write(const char *path, const char *text)
{
    size_t length = strlen(text);
    autoclose int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    for (;;) {
        ssize_t n = write(fd, text, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        return (size_t)n == length ? 0 : -EIO;
    }
}

int file_read_link_name(const char *path, char *buffer, size_t size)
{
    char target[PATH_MAX];
    ssize_t n = readlink(path, target, sizeof(target) - 1);
    if (n < 0)
        return -errno;
    target[n] = '\0';
    const char *slash = strrchr(target, '/');
    const char *name = slash ? slash + 1 : target;
    if (strlen(name) >= size)
        return -ENAMETOOLONG;
    strcpy(buffer, name);
    return 0;
}
