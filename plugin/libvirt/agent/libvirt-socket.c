/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/libvirt/agent/libvirt-socket.h"

#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* The name of the socket at the other end; its length, 0: it has none. */
static size_t peer_name(int fd, struct sockaddr_un *ret_name)
{
    socklen_t length = sizeof(*ret_name);
    const size_t nameless = offsetof(struct sockaddr_un, sun_path);

    *ret_name = (struct sockaddr_un){0};
    if (getpeername(fd, (struct sockaddr *)ret_name, &length) < 0 ||
        ret_name->sun_family != AF_UNIX || length <= nameless)
        return 0;
    return length;
}

GHashTable *libvirt_sockets(int bus_fd)
{
    GHashTable *inodes = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    g_autoptr(GDir) dir = g_dir_open("/proc/self/fd", 0, NULL);
    struct sockaddr_un bus, name;
    size_t bus_length = peer_name(bus_fd, &bus);
    const char *entry;

    while (dir && (entry = g_dir_read_name(dir))) {
        int fd = (int)g_ascii_strtoll(entry, NULL, 10);
        size_t length = peer_name(fd, &name);
        struct stat status;
        if (length == 0 || (length == bus_length && memcmp(&name, &bus, length) == 0) ||
            fstat(fd, &status) < 0)
            continue;
        gint64 inode = (gint64)status.st_ino;
        g_hash_table_add(inodes, g_memdup2(&inode, sizeof(inode)));
    }
    return inodes;
}

uint64_t libvirt_socket_new(GHashTable *before, GHashTable *after)
{
    GHashTableIter iter;
    void *inode;
    uint64_t found = 0;
    unsigned n = 0;

    g_hash_table_iter_init(&iter, after);
    while (g_hash_table_iter_next(&iter, &inode, NULL)) {
        if (g_hash_table_contains(before, inode))
            continue;
        found = (uint64_t) * (gint64 *)inode;
        n++;
    }
    return n == 1 ? found : 0;
}
