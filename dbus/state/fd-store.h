/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * File descriptors that outlive the service: the service manager keeps a copy of each and hands
 * them to the next run (FDSTORE in sd_notify(3)). "tenant-ID" is a tenant's shared IOMMUFD,
 * "leader-UUID" the pidfd of a machine's leader, "ledger" what a ledger lives in that no folder
 * keeps (LedgerOps.descriptor()). Without a service manager all this does nothing.
 */
#pragma once

#include <glib.h>

typedef struct FdStore FdStore;

#define FD_STORE_LEDGER "ledger"
/* Names of what is stored; freed with g_free(). */
char *fd_store_tenant_name(const char *id);
char *fd_store_leader_name(const char *uuid);

/* Has the service manager keep a copy of fd; one that it keeps by that name is dropped. */
void fd_store_push(const char *name, int fd);
/* Has the service manager close its copy. Closing ours alone would not close the file: an IOMMUFD
 * would live on with all that is pinned in it. */
void fd_store_remove(const char *name);

/* What the last run has left; call it once. */
FdStore *fd_store_take(void);
/* The descriptor of that name, which the caller owns from now on, or -EBADF. */
int fd_store_claim(FdStore *store, const char *name);
/* Closes what nobody claimed; the service manager keeps it for a start that succeeds. */
void fd_store_leave(FdStore *store);
/* Closes what nobody claimed and removes it from the service manager. Accepts NULL. */
void fd_store_free(FdStore *store);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FdStore, fd_store_free)
