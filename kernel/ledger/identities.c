/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/ledger/identities.h"

#include <errno.h>
#include <string.h>

#include "kernel/ledger/cgroups.h"

int ledger_register(Ledger *ledger, int fd, uint32_t tenant, unsigned flags, uint32_t *ret_context)
{
    struct control_register args = {.fd = fd, .tenant = tenant, .flags = flags};
    int r = program_run(bpf_ledger(ledger), CONTROL_REGISTER, &args, sizeof(args));
    if (r >= 0)
        *ret_context = args.ret_context_id;
    return r;
}

int ledger_set_limit(Ledger *ledger, uint32_t tenant, uint64_t bytes, LedgerCountMode count)
{
    struct control_set_limit args = {.tenant = tenant, .limit = bytes, .count = count};
    const BpfLedger *self = bpf_ledger(ledger);
    const uint32_t zero = 0;
    struct ledger_state state = {0};

    (void)map_get(self, MAP_STATE, &zero, &state);
    int r = program_run(self, CONTROL_SET_LIMIT, &args, sizeof(args));
    /* What is being unmapped and has not seen that some tenant counts so must not come after a
     * reconciliation that reads how often that was. */
    if (r >= 0 && count == LEDGER_COUNT_MODE_UNIQUE && !state.counts_unique)
        (void)maps_synchronize(self);
    return r;
}

int ledger_set_budget(Ledger *ledger, uint64_t bytes)
{
    struct control_set_budget args = {.limit = bytes};

    return program_run(bpf_ledger(ledger), CONTROL_SET_BUDGET, &args, sizeof(args));
}

int ledger_remove_tenant(Ledger *ledger, uint32_t tenant)
{
    return map_delete(bpf_ledger(ledger), MAP_TENANTS, &tenant);
}

int ledger_name_process(Ledger *ledger, pid_t pid, uint64_t start, uint32_t machine,
                        uint32_t tenant)
{
    struct control_name_process args = {
        .tgid = pid,
        .start = start,
        .machine = machine,
        .tenant = tenant,
        .role = LEDGER_ROLE_USER,
    };
    int r = program_run(bpf_ledger(ledger), CONTROL_NAME_PROCESS, &args, sizeof(args));
    if (r >= 0 && machine)
        ledger_add_scope(ledger, machine, pid);
    return r;
}

int ledger_trust_process(Ledger *ledger, pid_t pid, uint64_t start, enum ledger_role role)
{
    struct control_name_process args = {.tgid = pid, .start = start, .role = role};

    if (role == LEDGER_ROLE_USER)
        return -EINVAL;
    return program_run(bpf_ledger(ledger), CONTROL_NAME_PROCESS, &args, sizeof(args));
}
