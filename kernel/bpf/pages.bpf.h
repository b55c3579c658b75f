/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory ranges (struct iopt_pages), and the sums of their owners and tenants. */
#pragma once

#include "extents.bpf.h"
#include "owner.bpf.h"
#include "report.bpf.h"
#include "task-state.bpf.h"

/* Pages are pinned or unpinned: in the owner's account and the tenant's. */
__noinline int account_pages(__u32 context_id, __u32 owner_id, __u32 tenant_id, __s64 npages)
{
    struct ledger_account *account = get_account(context_id, owner_id);
    struct ledger_tenant *tenant = get_tenant(tenant_id);

    if (account)
        sum_add_pages(&account->moves, &account->pinned, &account->peak, npages);
    if (tenant)
        sum_add_pages(&tenant->moves, &tenant->pinned, &tenant->peak, npages);
    return 0;
}

/* Bytes are mapped or unmapped: in the owner's account alone. */
static __always_inline struct ledger_account *account_bytes(__u32 context_id, __u32 owner_id,
                                                            __s64 bytes)
{
    struct ledger_account *account = get_account(context_id, owner_id);

    if (account) {
        __sync_fetch_and_add(&account->moves, 1);
        __sync_fetch_and_add(&account->mapped, bytes);
    }
    return account;
}

static __always_inline void owner_add_pages(__u32 owner_id, __s32 entries)
{
    struct ledger_owner *owner = get_owner(owner_id);

    if (owner)
        __sync_fetch_and_add(&owner->pages, entries);
}

/* A charge with a number that no range had before. */
static __always_inline __u64 new_charge(struct ledger_state *counters, __u64 npages)
{
    return (__u64)__sync_fetch_and_add(&counters->ranges, 1) << LEDGER_CHARGE_BITS | npages;
}

/* The range is another owner's from now on: the kernel charges another process for it. */
static __noinline int change_owner(struct ledger_pages *entry, __u32 to)
{
    if (!entry || entry->owner == to)
        return 0;
    account_bytes(entry->context, entry->owner, -(__s64)entry->bytes);
    owner_add_pages(entry->owner, -1);
    account_bytes(entry->context, to, (__s64)entry->bytes);
    owner_add_pages(to, 1);
    entry->owner = to;
    return 0;
}

/* Whether the range is of a file's memory. */
static __always_inline bool is_of_file(struct iopt_pages *range)
{
    struct iopt_pages___files *file_range = (void *)range;

    return bpf_core_field_exists(file_range->type) &&
           bpf_core_enum_value_exists(enum iopt_address_type, IOPT_ADDRESS_FILE) &&
           BPF_CORE_READ(file_range, type) ==
               bpf_core_enum_value(enum iopt_address_type, IOPT_ADDRESS_FILE);
}

/* The memory that a range is of, by the kernel's own structure; not its tenant. */
static __always_inline void describe_memory(struct iopt_pages *range, struct memory *memory)
{
    struct iopt_pages___files *file_range = (void *)range;

    memory->bytes = BPF_CORE_READ(range, npages) << LEDGER_PAGE_SHIFT;
    if (is_of_file(range)) {
        /* By its inode: the same memory may be opened more than once. */
        memory->source = (__u64)BPF_CORE_READ(file_range, file, f_inode);
        memory->start = BPF_CORE_READ(file_range, start);
    } else {
        memory->source = (__u64)BPF_CORE_READ(range, source_mm);
        memory->start = (__u64)BPF_CORE_READ(range, uptr);
    }
}

/* The bytes that are to be given back for a range at its end, and the machine that gets them: its
 * own, or its extent's with the last reference. The exchange gives them to one caller only. */
static __always_inline __u64 take_bytes(struct ledger_pages *range, __u32 *ret_machine)
{
    __u64 share = __sync_lock_test_and_set(&range->share, LEDGER_SHARE_TAKEN);

    *ret_machine = LEDGER_SHARE_MACHINE(share);
    if (share == LEDGER_SHARE_TAKEN)
        return 0;
    return LEDGER_SHARE_EXTENT(share) ? extent_put(LEDGER_SHARE_EXTENT(share)) : range->bytes;
}

/* From now on the range counts for itself. */
static __always_inline void leave_extent(struct ledger_pages *range)
{
    struct ledger_pages was = *range;
    __u32 machine_id = LEDGER_SHARE_MACHINE(was.share), extent = LEDGER_SHARE_EXTENT(was.share);

    if (!extent || was.share == LEDGER_SHARE_TAKEN ||
        COMPARE_AND_SWAP(&range->share, was.share, LEDGER_SHARE(machine_id, 0)) != was.share)
        return;
    count_add(was.tenant, machine_id, was.bytes);
    release_mapped(was.tenant, machine_id, extent_put(extent));
}

/* What the range counts is another's from now on. Counted there first: never too little is.
 * -ESTALE: its end has begun, or another has moved it. */
static __noinline int move_share(struct ledger_pages *range, __u32 tenant_id, __u32 machine_id)
{
    __u32 from;
    __u64 share;

    if (!range)
        return -ESTALE;
    leave_extent(range);
    share = READ_ONCE(range->share);
    from = range->tenant;
    if (LEDGER_SHARE_EXTENT(share))
        return -ESTALE;
    count_add(tenant_id, machine_id, range->bytes);
    if (COMPARE_AND_SWAP(&range->share, share, LEDGER_SHARE(machine_id, 0)) != share) {
        count_release(tenant_id, machine_id, range->bytes);
        return -ESTALE;
    }
    range->tenant = tenant_id;
    count_release(from, LEDGER_SHARE_MACHINE(share), range->bytes);
    return 0;
}

/*
 * Takes a range out of the sums, with what it is still charged: nothing if its end was seen, and
 * what was left over if it was missed. The charge is taken first, in one exchange, after which
 * nobody else changes the entry. false: it had another charge by then, or was taken already.
 */
static __noinline bool take_range(struct ledger_pages *range, __u64 charge)
{
    struct ledger_state *counters = get_state();
    struct ledger_account *account;
    struct ledger_owner *owner;
    struct ledger_pages was;
    __u32 machine_id;
    __u64 bytes;

    if (!range || !counters)
        return false;
    was = *range;
    if (!charge_take(&range->charge, charge))
        return false;
    bytes = take_bytes(range, &machine_id);
    release_mapped(was.tenant, machine_id, bytes);
    __sync_fetch_and_add(&counters->pages, -1);
    if (LEDGER_CHARGED(charge))
        account_pages(was.context, was.owner, was.tenant, -(__s64)LEDGER_CHARGED(charge));
    account = account_bytes(was.context, was.owner, -(__s64)was.bytes);
    if (account)
        __sync_fetch_and_add(&account->unmaps, 1);
    owner = get_owner(was.owner);
    if (owner && __sync_fetch_and_add(&owner->pages, -1) <= 1 && owner_is_idle(owner))
        drop_owner_if_idle(was.owner);
    return true;
}

/* The range at this address has ended, or must have, since another begins there. What a repair has
 * taken, the repair removes. */
__noinline int forget_pages(__u64 key)
{
    struct ledger_pages *range = bpf_map_lookup_elem(&pages, &key);

    for (int i = 0; range && i < TRIES; i++) {
        __u64 charge = READ_ONCE(range->charge);

        if (LEDGER_IS_TAKEN(charge))
            return 0;
        if (take_range(range, charge))
            /* If it can't be removed now, the next reconciliation finds it taken, and removes it.
             */
            return bpf_map_delete_elem(&pages, &key);
    }
    return 0;
}

/* The new range takes over what was reserved for it: the reference to the extent of this very
 * memory, or bytes of its own. */
static __always_inline void take_reserved(struct task_state *self, struct iopt_pages *range,
                                          struct ledger_pages *new)
{
    struct ledger_extent *extent = extent_at(self->extent);
    struct memory memory = {.tenant = new->tenant, .machine = self->machine};
    __u64 reserved = self->reserved;
    __u32 number = self->extent;

    forget_reservation(self);
    new->share = LEDGER_SHARE(self->machine, 0);
    if (extent) {
        describe_memory(range, &memory);
        if (extent_is_of(extent, &memory)) {
            new->share = LEDGER_SHARE(self->machine, number);
            return;
        }
        /* The file descriptor is another file's by now, and nothing could refuse it. */
        release_mapped(new->tenant, self->machine, extent_put(number));
        argument_changed(self->mapping, 0, self->tenant_owner, new->bytes, 0);
    }
    if (new->bytes > reserved)
        count_add(new->tenant, self->machine, new->bytes - reserved);
    else if (new->bytes < reserved)
        count_release(new->tenant, self->machine, reserved - new->bytes);
}

/* The entry of a new range. false: the map is full, or an entry at its address is taken and not yet
 * removed; then the range's bytes count as leaked until a reconciliation adds it. */
static __always_inline bool add_entry(__u64 key, const struct ledger_pages *new)
{
    __u64 address;

    if (!bpf_map_update_elem(&pages, &key, new, BPF_NOEXIST))
        return true;
    /* An older range at this address, whose end was missed? A function that is not static takes no
     * pointer of the kernel; what a helper has copied is a number. */
    bpf_probe_read_kernel(&address, sizeof(address), &key);
    forget_pages(address);
    if (!bpf_map_update_elem(&pages, &key, new, BPF_NOEXIST))
        return true;
    leak_reserved(new->tenant, new->share, new->bytes);
    COUNT(lost_pages);
    return false;
}

/* The kernel has made a range, for the mapping that the thread is in the middle of. self: it, which
 * says who it is to the IOMMUFD; NULL: that is not known. -ENOMEM: there is no room for it. */
static __always_inline int add_pages_of(struct task_state *self, struct iopt_pages *range,
                                        __u64 npages)
{
    struct ledger_state *counters = get_state();
    struct ledger_pages new = {.bytes = npages << LEDGER_PAGE_SHIFT};
    struct ledger_account *account;
    __u64 key = (__u64)range;

    if (!counters)
        return 0;
    new.charge = new_charge(counters, 0);
    if (self) {
        new.context = self->context_id;
        new.tenant = self->tenant_id;
        new.owner = self->actual_owner;
        take_reserved(self, range, &new);
    } else {
        new.owner = current_owner(true);
    }
    if (!add_entry(key, &new))
        return bpf_map_lookup_elem(&pages, &key) ? 0 : -ENOMEM;
    __sync_fetch_and_add(&counters->pages, 1);
    owner_add_pages(new.owner, 1);
    account = account_bytes(new.context, new.owner, (__s64) new.bytes);
    if (account)
        __sync_fetch_and_add(&account->maps, 1);
    return 0;
}

static __always_inline int add_pages(struct iopt_pages *range, __u64 npages)
{
    struct task_state *self = get_task_state(false);

    return add_pages_of(self ? identify_inside(self->mapping) : NULL, range, npages);
}

/*
 * A charge or uncharge of what is not in the map. CHANGE_PROCESS charges the new process through a
 * structure on its stack. Anything else is a range that found the map full, whose hook was skipped,
 * or that is older than the ledger: a reconciliation adds it as a whole.
 */
static __noinline int update_unknown(struct iopt_pages *range, __s64 delta)
{
    struct task_state *self = get_task_state(false);
    struct ledger_context *context;
    struct ledger_process *process;
    struct task_struct *task;

    if (!self || !self->changing)
        return 0;
    task = BPF_CORE_READ(range, source_task);
    process = get_process(BPF_CORE_READ(task, tgid), start_ticks(task));
    context = get_context((void *)self->context);
    return account_pages(context ? context->id : 0, process ? process->owner : LEDGER_OWNER_NONE,
                         context ? context->tenant : 0, delta);
}

/*
 * The one function in which the kernel accounts has returned. A charge counts if it succeeded. What
 * is uncharged is unpinned whatever is returned: a dead process's pages give -EINVAL.
 */
static __always_inline int update_pinned(struct iopt_pages *range, unsigned long npages, bool inc,
                                         int ret)
{
    struct task_state *self;
    struct ledger_pages *entry;
    __u64 key = (__u64)range, is, was;
    __u32 owner_id;

    if (inc && ret)
        return 0;
    entry = bpf_map_lookup_elem(&pages, &key);
    if (!entry)
        return update_unknown(range, inc ? (__s64)npages : -(__s64)npages);
    /* The kernel's own sum and not the difference: a reconciliation may have seen that sum already,
     * and repaired the entry, between the kernel's addition and this. */
    is = range->npinned;
    if (charge_set(&entry->charge, is, &was))
        return 0;
    if (is != was)
        return account_pages(entry->context, entry->owner, entry->tenant, (__s64)(is - was));
    self = get_task_state(false);
    if (inc || !self || !self->changing)
        return 0;
    /* CHANGE_PROCESS: the old process is uncharged, the pages stay pinned and are the caller's now.
     */
    owner_id = entry->owner;
    change_owner(entry, current_owner(true));
    return account_pages(entry->context, owner_id, entry->tenant, -(__s64)npages);
}
