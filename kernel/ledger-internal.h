/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Shared by the files of the ledger; nobody else includes it. */
#pragma once

#include "kernel/ledger.h"

#include <bpf/libbpf.h>

#include "iommud.skel.h"

struct Ledger {
    struct iommud_bpf *skeleton;
    struct ring_buffer *events;
    struct bpf_link **links;
    size_t n_links;
    const struct ledger_row *rows; /* of the walk, mapped */
    char *folder;                  /* NULL: nothing is pinned */
    char *version;                 /* the folder of this version in it */
    bool active;
    bool guarding;
    bool exact;
    bool taken_over;
    char reason[256];
    char guard_reason[256];
    LedgerEventHandler handler;
    void *handler_data;
};

/* Runs one of the programs in control.bpf.c or walk.bpf.c: its own return value, or why it did not
 * run. args is written back. */
int ledger_run(Ledger *ledger, struct bpf_program *program, void *args, size_t size);

/* Calls visit for every entry of a map, with room for its key and value. */
typedef int (*LedgerVisitor)(const void *key, const void *value, void *data);
int ledger_each(const struct bpf_map *map, LedgerVisitor visit, void *data);
