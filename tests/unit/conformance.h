/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The parts of iommud-conformance. */
#pragma once

#include "kernel/host/host.h"

#include <sys/types.h>

/* One check, one line of output. */
void check(bool passed, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Whether the call answered as it should. */
void check_result(int result, int wanted, const char *what);
void skip(const char *what, const char *why);

/* An IOMMUFD that accounts by process. Ends the program when there is none. */
int open_iommufd(Host *host);
/* Whether the host has the device. */
bool find_device(Host *host, const char *address, HostDevice *ret_device);

/* An IOMMUFD whose objects are looked at, as a tenant's of its own on which nobody is checked. */
typedef struct {
    Host *host;
    Ledger *ledger;
    int fd; /* the caller's */
    uint32_t context;
} Watched;

Watched watch_iommufd(Host *host, Ledger *ledger, int fd);
/* What the ledger says is in it, by id; to be freed with g_free(). NULL: nothing, or it can't say,
 * which is a failed check. */
LedgerObject *list_objects(const Watched *watched, size_t *ret_n);
/* Destroys what is in it, the highest id first. */
void destroy_all(const Watched *watched);

/* A child that runs the function and then waits to be killed. It does not outlive us. */
pid_t start_process(void (*run)(void *data), void *data);
/* Kills it with SIGKILL and waits for its end. */
void kill_process(pid_t pid);

/* A process that uses an IOMMUFD (conformance-actor.c). */
typedef struct {
    Host *host;
    int iommufd; /* the caller's */
    int channel;
    pid_t pid;
    uint64_t start;
} Actor;

Actor *actor_new(Host *host, int iommufd);
/* Kills it and frees it. */
void actor_kill(Actor *actor);
/* It binds the device, which is vfio-pci's, allocates an IOAS and a page table, attaches, and maps
 * so many bytes. What the kernel said. */
int actor_play(Actor *actor, const char *address, uint64_t bytes);
/* One ioctl of those that simulated_host_ioctl() knows. */
int actor_ioctl(Actor *actor, const char *name, uint32_t id, uint64_t bytes, uint32_t *ret_id);

/* conformance-ledger.c: who owns and does what, by the ledger and the guard. */
void check_ledger(Host *host, Ledger *ledger, const char *address);

/* conformance-device.c: devices, drivers, and what a machine leaves behind. */
void check_devices(Host *host);
void check_device(Host *host, Ledger *ledger, const char *address);
