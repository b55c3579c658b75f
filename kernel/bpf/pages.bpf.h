/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory ranges (struct iopt_pages) in the books of their owners and tenants. */
#pragma once

#include "owner.bpf.h"

__noinline int book_pages(__u32 context, __u32 owner, __u32 tenant, __s64 npages)
{
    struct ledger_book *book = get_book(context, owner);
    struct ledger_tenant *account = bpf_map_lookup_elem(&tenants, &tenant);

    if (book)
        raise_to(&book->peak, __sync_fetch_and_add(&book->pinned, npages) + npages);
    if (account)
        raise_to(&account->peak, __sync_fetch_and_add(&account->pinned, npages) + npages);
    return 0;
}

/* Another owner maps this range from now on, as far as the kernel is concerned. */
static __noinline int move_pages(struct ledger_pages *entry, __u32 to)
{
    struct ledger_book *book;
    struct ledger_owner *owner;

    if (!entry || entry->owner == to)
        return 0;
    book = get_book(entry->context, entry->owner);
    if (book)
        __sync_fetch_and_add(&book->mapped, -(__s64)entry->bytes);
    owner = get_owner(entry->owner);
    if (owner)
        __sync_fetch_and_add(&owner->pages, -1);
    book = get_book(entry->context, to);
    if (book)
        __sync_fetch_and_add(&book->mapped, (__s64)entry->bytes);
    owner = get_owner(to);
    if (owner)
        __sync_fetch_and_add(&owner->pages, 1);
    entry->owner = to;
    return 0;
}

/*
 * Takes a range out of the books, with what it was still charged: that is nothing when its end was
 * seen, and what was left over when it was missed. The charge is taken first, in one step: it may
 * be mended at the same time, and what comes later finds it taken.
 */
static __noinline int forget_pages(__u64 key)
{
    struct ledger_pages *range = bpf_map_lookup_elem(&pages, &key), was;
    struct ledger_state *counters = get_state();
    struct ledger_owner *owner;
    struct ledger_book *book;

    if (!range || !counters)
        return 0;
    was = *range;
    was.charged = __sync_lock_test_and_set(&range->charged, LEDGER_CHARGE_TAKEN);
    if (was.charged == LEDGER_CHARGE_TAKEN || bpf_map_delete_elem(&pages, &key))
        return 0;
    __sync_fetch_and_add(&counters->pages, -1);
    tenant_release(was.tenant, was.bytes);
    if (was.charged)
        book_pages(was.context, was.owner, was.tenant, -(__s64)was.charged);
    book = get_book(was.context, was.owner);
    if (book)
        __sync_fetch_and_add(&book->mapped, -(__s64)was.bytes);
    owner = get_owner(was.owner);
    if (owner) {
        __sync_fetch_and_add(&owner->pages, -1);
        drop_owner_if_idle(was.owner);
    }
    return 0;
}
