/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/ledger/audit/walk.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <unistd.h>

#include "kernel/base/cleanup.h"

/* One structure never takes more calls than this: a torn one could lead in circles. */
#define MAX_CALLS 100000

int walk_files(const BpfLedger *ledger, GArray *opened)
{
    autoclose int fd = bpf_iter_create(ledger->walk_files);
    struct ledger_opened records[128];
    ssize_t n;

    if (fd < 0)
        return -errno;
    while ((n = read(fd, records, sizeof(records)))) {
        if (n > 0)
            g_array_append_vals(opened, records, n / sizeof(records[0]));
        else if (errno != EAGAIN && errno != EINTR)
            return -errno;
    }
    return 0;
}

int walk_records(const BpfLedger *ledger, ProgramId program, uint64_t address, WalkVisitor visit,
                 void *data)
{
    struct ledger_walk args = {.context = address};

    for (int calls = 0; !args.ret_done; calls++) {
        if (calls == MAX_CALLS)
            return -ELOOP;
        args.ret_records = 0;
        int r = program_run(ledger, program, &args, sizeof(args));
        if (r < 0)
            return r;
        for (uint32_t i = 0; i < args.ret_records && i < LEDGER_WALK_RECORDS; i++)
            visit(&ledger->records[i], data);
    }
    return 0;
}
