/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/state/fd-store.h"

#include "kernel/base/cleanup.h"

#include <stdlib.h>
#include <systemd/sd-daemon.h>

struct FdStore {
    GHashTable *fds; /* name -> descriptor */
};

char *fd_store_tenant_name(const char *id)
{
    return g_strconcat("tenant-", id, NULL);
}

char *fd_store_leader_name(const char *uuid)
{
    return g_strconcat("leader-", uuid, NULL);
}

void fd_store_push(const char *name, int fd)
{
    fd_store_remove(name);
    /* FDPOLL=0: the manager must not drop a pidfd because its process died (we want to know), and
     * an IOMMUFD has nothing to poll for. */
    g_autofree char *state = g_strdup_printf("FDSTORE=1\nFDNAME=%s\nFDPOLL=0", name);
    (void)sd_pid_notify_with_fds(0, 0, state, &fd, 1);
}

void fd_store_remove(const char *name)
{
    g_autofree char *state = g_strdup_printf("FDSTOREREMOVE=1\nFDNAME=%s", name);
    (void)sd_notify(0, state);
}

FdStore *fd_store_take(void)
{
    FdStore *store = g_new0(FdStore, 1);
    store->fds = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    char **names = NULL;
    int n = sd_listen_fds_with_names(1, &names);
    for (int i = 0; i < n; i++) {
        int fd = SD_LISTEN_FDS_START + i;
        /* Of two with one name nothing says which is right: the first is taken. */
        if (g_hash_table_contains(store->fds, names[i]))
            close_fd(fd);
        else
            g_hash_table_insert(store->fds, g_strdup(names[i]), GINT_TO_POINTER(fd));
    }
    for (int i = 0; i < n; i++)
        free(names[i]);
    free(names);
    return store;
}

int fd_store_claim(FdStore *store, const char *name)
{
    void *fd;
    if (!g_hash_table_lookup_extended(store->fds, name, NULL, &fd))
        return -EBADF;
    g_hash_table_remove(store->fds, name);
    return GPOINTER_TO_INT(fd);
}

void fd_store_leave(FdStore *store)
{
    GHashTableIter iter;
    void *fd;
    g_hash_table_iter_init(&iter, store->fds);
    while (g_hash_table_iter_next(&iter, NULL, &fd))
        close_fd(GPOINTER_TO_INT(fd));
    g_hash_table_unref(store->fds);
    g_free(store);
}

void fd_store_free(FdStore *store)
{
    if (!store)
        return;
    GHashTableIter iter;
    void *name;
    g_hash_table_iter_init(&iter, store->fds);
    while (g_hash_table_iter_next(&iter, &name, NULL))
        fd_store_remove(name);
    fd_store_leave(store);
}
