/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory ranges (struct iopt_pages) in the books of their owners and tenants. */
#pragma once

#include "task-state.bpf.h"

/* That it moves is said first: who balances the book must not take the old sum for the new. */
__noinline int book_pages(__u32 context, __u32 owner, __u32 tenant, __s64 npages)
{
    struct ledger_book *book = get_book(context, owner);
    struct ledger_tenant *account = bpf_map_lookup_elem(&tenants, &tenant);

    if (book) {
        __sync_fetch_and_add(&book->moves, 1);
        raise_to(&book->peak, __sync_fetch_and_add(&book->pinned, npages) + npages);
    }
    if (account) {
        __sync_fetch_and_add(&account->moves, 1);
        raise_to(&account->peak, __sync_fetch_and_add(&account->pinned, npages) + npages);
    }
    return 0;
}

static __always_inline struct ledger_book *book_bytes(__u32 context, __u32 owner, __s64 bytes)
{
    struct ledger_book *book = get_book(context, owner);

    if (book) {
        __sync_fetch_and_add(&book->moves, 1);
        __sync_fetch_and_add(&book->mapped, bytes);
    }
    return book;
}

static __always_inline __u64 new_charge(struct ledger_state *counters, __u64 npages)
{
    return (__u64)__sync_fetch_and_add(&counters->ranges, 1) << LEDGER_CHARGE_BITS | npages;
}

/* Another owner maps this range from now on, as far as the kernel is concerned. */
static __noinline int move_pages(struct ledger_pages *entry, __u32 to)
{
    struct ledger_owner *owner;

    if (!entry || entry->owner == to)
        return 0;
    book_bytes(entry->context, entry->owner, -(__s64)entry->bytes);
    owner = get_owner(entry->owner);
    if (owner)
        __sync_fetch_and_add(&owner->pages, -1);
    book_bytes(entry->context, to, (__s64)entry->bytes);
    owner = get_owner(to);
    if (owner)
        __sync_fetch_and_add(&owner->pages, 1);
    entry->owner = to;
    return 0;
}

/* The memory that a range is of, by the kernel's own structure. */
static __always_inline void describe_memory(struct iopt_pages *range, struct memory *memory)
{
    struct iopt_pages___files *file_range = (void *)range;

    memory->bytes = BPF_CORE_READ(range, npages) << LEDGER_PAGE_SHIFT;
    if (bpf_core_field_exists(file_range->type) &&
        bpf_core_enum_value_exists(enum iopt_address_type, IOPT_ADDRESS_FILE) &&
        BPF_CORE_READ(file_range, type) ==
            bpf_core_enum_value(enum iopt_address_type, IOPT_ADDRESS_FILE)) {
        /* The same memory may be opened more than once: its inode is what it is. */
        memory->source = (__u64)BPF_CORE_READ(file_range, file, f_inode);
        memory->start = BPF_CORE_READ(file_range, start);
    } else {
        memory->source = (__u64)BPF_CORE_READ(range, source_mm);
        memory->start = (__u64)BPF_CORE_READ(range, uptr);
    }
}

/* What a range counts, to be given back: its place's bytes by the last holder, or its own. Once,
 * whoever comes first. */
static __always_inline __u64 take_bytes(struct ledger_pages *range)
{
    __u32 place = __sync_lock_test_and_set(&range->place, LEDGER_PLACE_TAKEN);

    if (place == LEDGER_PLACE_TAKEN)
        return 0;
    return place ? drop_place(place) : range->bytes;
}

/* From now on the range counts for itself. */
static __always_inline void leave_place(struct ledger_pages *range)
{
    struct ledger_pages was = *range;

    if (!was.place || was.place == LEDGER_PLACE_TAKEN ||
        COMPARE_AND_SWAP(&range->place, was.place, 0) != was.place)
        return;
    tenant_add(was.tenant, (__s64)was.bytes);
    tenant_release(was.tenant, drop_place(was.place));
}

/*
 * Takes a range out of the books, with what it was still charged: that is nothing when its end was
 * seen, and what was left over when it was missed. The charge goes first, in one step, so that
 * nobody mends it any more. false: it was another's by now, or taken already.
 */
static __noinline bool take_range(struct ledger_pages *range, __u64 charge)
{
    struct ledger_state *counters = get_state();
    struct ledger_owner *owner;
    struct ledger_book *book;
    struct ledger_pages was;

    if (!range || !counters || LEDGER_IS_TAKEN(charge))
        return false;
    was = *range;
    if (COMPARE_AND_SWAP(&range->charge, charge, charge | LEDGER_CHARGE_TAKEN) != charge)
        return false;
    tenant_release(was.tenant, take_bytes(range));
    __sync_fetch_and_add(&counters->pages, -1);
    if (LEDGER_CHARGED(charge))
        book_pages(was.context, was.owner, was.tenant, -(__s64)LEDGER_CHARGED(charge));
    book = book_bytes(was.context, was.owner, -(__s64)was.bytes);
    if (book)
        __sync_fetch_and_add(&book->unmaps, 1);
    owner = get_owner(was.owner);
    if (owner) {
        __sync_fetch_and_add(&owner->pages, -1);
        drop_owner_if_idle(was.owner);
    }
    return true;
}

/* The range is at its end, or was, for another one begins at its address: nobody else but a look is
 * about it. What a look has taken, the look removes. */
static __noinline int forget_pages(__u64 key)
{
    struct ledger_pages *range = bpf_map_lookup_elem(&pages, &key);

    for (int i = 0; range && i < TRIES; i++) {
        __u64 charge = *(volatile __u64 *)&range->charge;

        if (LEDGER_IS_TAKEN(charge))
            return 0;
        if (take_range(range, charge))
            /* If it can't be removed, a look finds it taken, and does. */
            return bpf_map_delete_elem(&pages, &key);
    }
    return 0;
}
