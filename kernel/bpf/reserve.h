/* SPDX-License-Identifier: GPL-2.0-only OR LGPL-2.1-or-later */
/*
 * The arithmetic of limits, charges and sums, over plain pointers. Any number of processors may be
 * in any of these functions at the same time; none of them waits.
 *
 * What a tenant may still map follows from `limit`, `mapped` and `credit`. `mapped` is changed by
 * atomic additions and exchanges only, so that at rest it is the sum of what was taken and given
 * back. `credit` may be too small at any time, which refuses too much, and never too large.
 */
#pragma once

#include "portable.h"

/* Raises a peak to the value, unless it is higher. */
static __always_inline void raise_to(__s64 *peak, __s64 value)
{
    __s64 seen = READ_ONCE(*peak);

    for (int i = 0; i < TRIES; i++) {
        __s64 was;

        if (seen >= value)
            break;
        was = COMPARE_AND_SWAP(peak, seen, value);
        if (was == seen)
            break;
        seen = was;
    }
}

/*
 * Adds pages to a sum. `moves` first: who replaces the sum by one that he has computed compares
 * `moves` before (exchange_unless_moved(), set_totals() in control.bpf.c), and has to see that the
 * sum is about to change.
 */
static __always_inline void sum_add_pages(__u64 *moves, __s64 *pinned, __s64 *peak, __s64 npages)
{
    __sync_fetch_and_add(moves, 1);
    raise_to(peak, __sync_fetch_and_add(pinned, npages) + npages);
}

/* What the tenant has left when so much is mapped. */
static __always_inline __u64 tenant_left(const struct ledger_tenant *tenant, __s64 mapped)
{
    __s64 credit = READ_ONCE(tenant->credit);
    __u64 limit = READ_ONCE(tenant->limit);
    __u64 used = mapped > credit ? mapped - credit : 0;

    if (limit == LEDGER_NO_LIMIT)
        return LEDGER_NO_LIMIT;
    return used > limit ? 0 : limit - used;
}

/* More counts than may: the limit was lowered, or something was mapped that was not checked. */
static __always_inline bool tenant_is_over(const struct ledger_tenant *tenant)
{
    __u64 limit = READ_ONCE(tenant->limit);
    __s64 used = READ_ONCE(tenant->mapped) - READ_ONCE(tenant->credit);

    return limit != LEDGER_NO_LIMIT && used > 0 && (__u64)used > limit;
}

/*
 * Takes bytes from what the tenant has left: 0, or -EDQUOT with nothing taken. The exchange
 * succeeds only on the sum that was compared with the limit, so that of two that race for the last
 * bytes exactly one gets them. If TRIES exchanges fail, since so many others map at this moment,
 * the bytes are added first and taken back if they were too many: then both of two may be refused.
 */
static __always_inline int tenant_reserve(struct ledger_tenant *tenant, __u64 bytes,
                                          __u64 *ret_left)
{
    __s64 seen = READ_ONCE(tenant->mapped);

    for (int i = 0; i < TRIES; i++) {
        __s64 was;

        *ret_left = tenant_left(tenant, seen);
        if (bytes > *ret_left)
            return -EDQUOT;
        was = COMPARE_AND_SWAP(&tenant->mapped, seen, seen + (__s64)bytes);
        if (was == seen)
            return 0;
        seen = was;
    }
    *ret_left = tenant_left(tenant, __sync_fetch_and_add(&tenant->mapped, (__s64)bytes));
    if (bytes <= *ret_left)
        return 0;
    __sync_fetch_and_add(&tenant->mapped, -(__s64)bytes);
    return -EDQUOT;
}

/*
 * Gives back memory that was mapped. The credit, for what is mapped twice, shrinks with it by as
 * much as it can have shrunk; the next reconciliation computes it anew. `releases` first: who sets
 * the credit compares it afterwards (tenant_set_credit()).
 */
static __always_inline void tenant_release(struct ledger_tenant *tenant, __u64 bytes)
{
    __s64 seen;

    __sync_fetch_and_add(&tenant->releases, 1);
    seen = READ_ONCE(tenant->credit);
    for (int i = 0; i < TRIES && seen > 0; i++) {
        __s64 less = seen > (__s64)bytes ? seen - (__s64)bytes : 0;
        __s64 was;

        /* The last try takes all of it: too little credit only refuses too much. */
        was = COMPARE_AND_SWAP(&tenant->credit, seen, i == TRIES - 1 ? 0 : less);
        if (was == seen)
            break;
        seen = was;
    }
    __sync_fetch_and_add(&tenant->mapped, -(__s64)bytes);
}

/* These bytes stay in `mapped` although no range is known for them, until a reconciliation finds
 * the range (tenant_match()), or finds none (tenant_drop_unmatched()). */
static __always_inline void tenant_leak(struct ledger_tenant *tenant, __u64 bytes)
{
    __sync_fetch_and_add(&tenant->leaks, 1);
    __sync_fetch_and_add(&tenant->unmatched, (__s64)bytes);
}

/* A range was found that had been missed: its bytes may be in `mapped` already, as leaked. */
static __always_inline void tenant_match(struct ledger_tenant *tenant, __s64 bytes)
{
    __s64 unmatched = READ_ONCE(tenant->unmatched);
    __s64 take = unmatched < bytes ? unmatched : bytes;

    if (take > 0 && COMPARE_AND_SWAP(&tenant->unmatched, unmatched, unmatched - take) == unmatched)
        bytes -= take;
    __sync_fetch_and_add(&tenant->mapped, bytes);
}

/* Replaces a figure, unless it changes at this moment or the counter is not any more what it was
 * when the new value was computed: 0 and the old value, or -ESTALE. */
static __always_inline int exchange_unless_moved(__s64 *figure, __s64 value, const __u64 *counter,
                                                 __u64 counted, __s64 *ret_was)
{
    *ret_was = READ_ONCE(*figure);
    if (READ_ONCE(*counter) != counted || COMPARE_AND_SWAP(figure, *ret_was, value) != *ret_was)
        return -ESTALE;
    return 0;
}

/* No range was found for what was leaked before `leaks` were counted. */
static __always_inline int tenant_drop_unmatched(struct ledger_tenant *tenant, __u64 leaks)
{
    __s64 bytes;
    int r = exchange_unless_moved(&tenant->unmatched, 0, &tenant->leaks, leaks, &bytes);

    if (!r)
        __sync_fetch_and_add(&tenant->mapped, -bytes);
    return r;
}

/* What a reconciliation that began after `releases` releases has found to be mapped more than once.
 */
static __always_inline int tenant_set_credit(struct ledger_tenant *tenant, __s64 credit,
                                             __u64 releases)
{
    __s64 was;
    int r = exchange_unless_moved(&tenant->credit, credit, &tenant->releases, releases, &was);

    /* A release between comparison and exchange has lowered the old credit, not this one. Pairs
     * with the addition in tenant_release(), which comes before it reads the credit. */
    if (!r && READ_ONCE(tenant->releases) != releases) {
        WRITE_ONCE(tenant->credit, 0);
        r = -ESTALE;
    }
    return r;
}

/*
 * Sets the pages of a range's charge, and keeps its number: 0 and how many there were; -ESTALE: the
 * range is taken, nobody changes its figures any more; -EAGAIN: too many others set it.
 */
static __always_inline int charge_set(__u64 *charge, __u64 pages, __u64 *ret_was)
{
    for (int i = 0; i < TRIES; i++) {
        __u64 seen = READ_ONCE(*charge);

        if (LEDGER_IS_TAKEN(seen))
            return -ESTALE;
        if (COMPARE_AND_SWAP(charge, seen, LEDGER_CHARGE(seen, pages)) == seen) {
            *ret_was = LEDGER_CHARGED(seen);
            return 0;
        }
    }
    return -EAGAIN;
}

/* Marks a range as taken. false: its charge was another by then, or somebody else has taken it. */
static __always_inline bool charge_take(__u64 *charge, __u64 seen)
{
    return !LEDGER_IS_TAKEN(seen) &&
           COMPARE_AND_SWAP(charge, seen, seen | LEDGER_CHARGE_TAKEN) == seen;
}
