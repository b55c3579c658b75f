/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Whose bytes count: a machine's, out of what is promised to it or borrowed, or else its tenant's.
 * The arithmetic is in promise.h and reserve.h.
 *
 * A machine is named by its number together with its tenant: once it is removed, whatever names it
 * means the tenant. Tenant 0 is none, and counts nothing.
 */
#pragma once

#include "maps.bpf.h"

#include "promise.h"

/* NULL: there is none, or it is removed. */
static __always_inline struct ledger_machine *get_machine(__u32 machine_id)
{
    struct ledger_machine *machine =
        machine_id ? bpf_map_lookup_elem(&machines, &machine_id) : NULL;

    return machine && !machine_is_closed(machine) ? machine : NULL;
}

/* NULL: nobody has claimed it. */
static __always_inline struct ledger_device *get_device(const struct ledger_device_key *key)
{
    struct ledger_device *device = bpf_map_lookup_elem(&devices, key);

    return device && READ_ONCE(device->holder) ? device : NULL;
}

static __always_inline struct ledger_tenant *get_tenant(__u32 tenant_id)
{
    return tenant_id ? bpf_map_lookup_elem(&tenants, &tenant_id) : NULL;
}

static __always_inline struct ledger_budget *get_host(void)
{
    __u32 zero = 0;

    return bpf_map_lookup_elem(&host, &zero);
}

/* The machine that the owner's mappings in an IOMMUFD of this tenant are taken from. 0: none. */
static __always_inline __u32 machine_for(const struct ledger_owner *owner, __u32 tenant_id)
{
    __u32 machine_id = owner ? owner->machine : 0;
    struct ledger_machine *machine = get_machine(machine_id);

    return machine && machine->tenant == tenant_id ? machine_id : 0;
}

/* Takes bytes for a mapping: 0, or -EDQUOT, and the answer says who has too little. A tenant that
 * is not known any more, or for whom there was no room, has nothing. */
__noinline int count_take(__u32 tenant_id, __u32 machine_id, __u64 bytes,
                          struct budget_answer *ret_answer)
{
    struct ledger_machine *machine = get_machine(machine_id);
    int r = machine ? room_take(machine, bytes) : -ENOENT;
    struct ledger_tenant *tenant;

    if (!r)
        return 0;
    if (!ret_answer)
        return -EDQUOT;
    ret_answer->left = ret_answer->of_host = 0;
    tenant = get_tenant(tenant_id);
    if (!tenant)
        return -EDQUOT;
    if (r == -EDQUOT)
        r = machine_borrow(machine, &tenant->budget, get_host(), bytes, ret_answer);
    if (r == -ENOENT)
        r = budgets_take(&tenant->budget, get_host(), bytes, false, ret_answer);
    return r ? -EDQUOT : 0;
}

/* Adds to what tenant and host have used, whatever is left; negative bytes give back. */
static __always_inline void count_in_budgets(__u32 tenant_id, __s64 bytes)
{
    struct ledger_tenant *tenant = bytes ? get_tenant(tenant_id) : NULL;

    if (bytes)
        budgets_add(tenant ? &tenant->budget : NULL, get_host(), bytes);
}

/* Counts bytes whatever is left: nothing can refuse them any more. */
__noinline int count_add(__u32 tenant_id, __u32 machine_id, __u64 bytes)
{
    struct ledger_machine *machine = get_machine(machine_id);

    if (tenant_id && bytes)
        count_in_budgets(tenant_id, (__s64)(machine ? machine_add(machine, bytes) : bytes));
    return 0;
}

/* Gives back what was taken or added. */
__noinline int count_release(__u32 tenant_id, __u32 machine_id, __u64 bytes)
{
    struct ledger_machine *machine = get_machine(machine_id);

    if (tenant_id && bytes)
        count_in_budgets(tenant_id, -(__s64)(machine ? machine_release(machine, bytes) : bytes));
    return 0;
}

/* Whether any tenant counts unique bytes, or did. Mostly none does, and then no mapping has to ask.
 */
static __always_inline bool may_count_unique(void)
{
    struct ledger_state *counters = get_state();

    return counters && READ_ONCE(counters->counts_unique);
}

/* Gives back memory that was mapped. */
static __always_inline void release_mapped(__u32 tenant_id, __u32 machine_id, __u64 bytes)
{
    struct ledger_tenant *tenant = bytes && may_count_unique() ? get_tenant(tenant_id) : NULL;

    if (tenant)
        tenant_note_release(tenant, bytes);
    count_release(tenant_id, machine_id, bytes);
}

/* What is counted, and of which no range is known. */
__noinline int count_leak(__u32 tenant_id, __u32 machine_id, __u64 bytes)
{
    struct ledger_machine *machine = get_machine(machine_id);
    struct ledger_tenant *tenant;

    if (!bytes)
        return 0;
    if (machine) {
        leaks_add(&machine->leaks, bytes);
        return 0;
    }
    tenant = get_tenant(tenant_id);
    if (tenant)
        leaks_add(&tenant->leaks, bytes);
    return 0;
}

/* Counts a range that was missed, as far as it is not counted already, as leaked. */
__noinline int count_match(__u32 tenant_id, __u32 machine_id, __u64 bytes)
{
    struct ledger_machine *machine = get_machine(machine_id);
    struct ledger_tenant *tenant;

    if (machine)
        return count_add(tenant_id, machine_id, leaks_match(&machine->leaks, bytes));
    tenant = get_tenant(tenant_id);
    if (tenant)
        bytes = leaks_match(&tenant->leaks, bytes);
    return count_add(tenant_id, 0, bytes);
}
