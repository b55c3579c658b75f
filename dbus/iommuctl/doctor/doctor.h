/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The checks of 'iommuctl doctor'. Each says one sentence, and what to do about it when it is not
 * well.
 *
 * What the service knows of its kernel goes first (it may be a simulated one); this host's files
 * say the same while the service is away, and why something is missing.
 */
#pragma once

#include "dbus/iommuctl/table.h"

typedef enum {
    CHECK_OK,
    CHECK_WARNING, /* what can work works, something is less than it could be */
    CHECK_FAILED,
} CheckResult;

typedef struct {
    const Output *output;
    bool quiet;   /* only what is not ok is printed */
    Table *table; /* for JSON; owned */
    unsigned counts[CHECK_FAILED + 1];
} Report;

void report_init(Report *report, const Output *output, bool quiet);
void report_clear(Report *report);
/* Adds the outcome of a check; takes message. remedy: what to type or change, NULL: nothing. */
void report_add(Report *report, const char *check, CheckResult result, char *message,
                const char *remedy);

/* The files of this host that the checks read: root is "" or a folder that stands for "/". */
typedef struct {
    const char *root;
    const char *kernel; /* its release, as uname -r says */
} HostFiles;

bool host_has_groups(const HostFiles *host);
bool host_has_iommufd(const HostFiles *host);
bool host_has_vfio_cdev(const HostFiles *host);
/* Linux 6.13 or newer. */
bool host_has_map_file(const HostFiles *host);
bool host_has_libvirt(const HostFiles *host);
/* Whether the module is loaded or built in; its name as its file has it, with dashes. */
bool host_has_module(const HostFiles *host, const char *module);
/* How to get the module: to load it, or a kernel that has it. Freed with g_free(). */
char *host_module_remedy(const HostFiles *host, const char *module);
/* Whether iommufd is the kernel's own, so that no other is built for it. */
bool host_has_own_iommufd(const HostFiles *host);
/* A file's text, "" when it can't be read. Freed with g_free(). */
char *host_read(const HostFiles *host, const char *path);
/* MemTotal in bytes, 0 when it can't be read. */
uint64_t host_memory(const HostFiles *host);

/* Each reports whether the feature is there, and how to get it when present is false. */
void check_groups(Report *report, const HostFiles *host, bool present);
void check_iommufd(Report *report, const HostFiles *host, bool present);
void check_vfio_cdev(Report *report, const HostFiles *host, bool present);
void check_map_file(Report *report, const HostFiles *host, bool present);
/* Whether the kernel's modules are loaded. */
void check_modules(Report *report, const HostFiles *host);

/* What the service says of BPF. */
typedef struct {
    const char *guard; /* its GuardState, */
    const char *guard_reason;
    const char *ledger; /* LedgerState, */
    const char *ledger_reason;
    bool rechecks; /* what the kernel has copied can be refused */
    bool simulated;
} GuardView;

void check_guard(Report *report, const HostFiles *host, const GuardView *view);
void check_ledger(Report *report, const HostFiles *host, const GuardView *view);
/* Whether the ledger agrees with the kernel. */
void check_drift(Report *report, uint64_t drift, uint64_t untracked);
/* Whether the guard knows all ioctls that machines use. */
void check_ioctls(Report *report, uint64_t unknown);
/* Whether libvirt runs the hook at path, which is a link to program. */
void check_hook(Report *report, const HostFiles *host, const char *path, const char *program);
