/* SPDX-License-Identifier: GPL-2.0-only OR LGPL-2.1-or-later */
/*
 * The arithmetic of limits, charges and sums, over plain pointers. Any number of processors may be
 * in any of these functions at the same time; none of them waits.
 *
 * A budget (struct ledger_budget), a tenant's or the host's, has one sum, `used`: what is promised
 * to machines, what they have mapped beyond that, and what is mapped by who is no machine:
 *
 *   used == sum of (reserved + borrowed) of the machines  +  bytes mapped by others
 *
 * It is changed by atomic additions and exchanges only, so that at rest it is the sum of what was
 * taken and given back. What of that a single machine has is in promise.h. `credit` may be too
 * small at any time, which refuses too much, and never too large.
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

/* What is left when so much is used. promise: of what may be promised, for which memory that is
 * known to be mapped twice counts twice: what is found to be the same today may be two tomorrow. */
static __always_inline __u64 budget_left(const struct ledger_budget *budget, __s64 used,
                                         bool promise)
{
    __s64 credit = promise ? 0 : READ_ONCE(budget->credit);
    __u64 limit = READ_ONCE(budget->limit);
    __u64 counted = used > credit ? used - credit : 0;

    if (limit == LEDGER_NO_LIMIT)
        return LEDGER_NO_LIMIT;
    return counted > limit ? 0 : limit - counted;
}

/* More counts than may: the limit was lowered, or something was mapped that was not checked. */
static __always_inline bool budget_is_over(const struct ledger_budget *budget)
{
    __u64 limit = READ_ONCE(budget->limit);
    __s64 used = READ_ONCE(budget->used) - READ_ONCE(budget->credit);

    return limit != LEDGER_NO_LIMIT && used > 0 && (__u64)used > limit;
}

/* More than any machine or address space has: a few of these still add up in 63 bits. */
#define BUDGET_MOST (1ull << 60)

/*
 * Takes bytes from what is left: 0, or -EDQUOT with nothing taken. The exchange succeeds only on
 * the sum that was compared with the limit, so that of two that race for the last bytes exactly one
 * gets them. If TRIES exchanges fail, since so many others take at this moment, the bytes are added
 * first and taken back if they were too many: then both of two may be refused.
 */
static __always_inline int budget_take(struct ledger_budget *budget, __u64 bytes, bool promise,
                                       __u64 *ret_left)
{
    __s64 seen = READ_ONCE(budget->used);

    for (int i = 0; i < TRIES; i++) {
        __s64 was;

        *ret_left = budget_left(budget, seen, promise);
        if (bytes > *ret_left || bytes > BUDGET_MOST || seen > (__s64)BUDGET_MOST)
            return -EDQUOT;
        was = COMPARE_AND_SWAP(&budget->used, seen, seen + (__s64)bytes);
        if (was == seen)
            return 0;
        seen = was;
    }
    *ret_left = budget_left(budget, __sync_fetch_and_add(&budget->used, (__s64)bytes), promise);
    if (bytes <= *ret_left)
        return 0;
    __sync_fetch_and_add(&budget->used, -(__s64)bytes);
    return -EDQUOT;
}

/* Adds to what is used, whatever the limit is; negative bytes give back. */
static __always_inline void budget_add(struct ledger_budget *budget, __s64 bytes)
{
    __sync_fetch_and_add(&budget->used, bytes);
}

static __always_inline void budgets_add(struct ledger_budget *tenant, struct ledger_budget *host,
                                        __s64 bytes)
{
    if (tenant)
        budget_add(tenant, bytes);
    if (host)
        budget_add(host, bytes);
}

/* Who has too little left, and how much that is. */
struct budget_answer {
    __u64 left;
    __u32 of_host; /* the host, and not the tenant */
    __u32 pad;
};

/*
 * Takes bytes that are promised to nobody from a tenant and from the host, or from neither. Either
 * may be NULL, and then has enough.
 */
SHARED_FUNCTION int budgets_take(struct ledger_budget *tenant, struct ledger_budget *host,
                                 __u64 bytes, bool promise, struct budget_answer *ret_answer)
{
    __u64 left = 0;

    if (!ret_answer)
        return -EDQUOT;
    ret_answer->of_host = 0;
    ret_answer->left = LEDGER_NO_LIMIT;
    if (tenant && budget_take(tenant, bytes, promise, &left)) {
        ret_answer->left = left;
        return -EDQUOT;
    }
    if (!host || !budget_take(host, bytes, promise, &left))
        return 0;
    if (tenant)
        budget_add(tenant, -(__s64)bytes);
    ret_answer->of_host = 1;
    ret_answer->left = left;
    return -EDQUOT;
}

/* Something of the tenant is unmapped. The credit, for what is mapped twice, shrinks by as much as
 * it can have shrunk; the next reconciliation computes it anew. To be called before the bytes are
 * given back. `releases` first: who sets the credit compares it afterwards (tenant_set_credit()).
 */
static __always_inline void tenant_note_release(struct ledger_tenant *tenant, __u64 bytes)
{
    __s64 seen;

    __sync_fetch_and_add(&tenant->releases, 1);
    seen = READ_ONCE(tenant->budget.credit);
    for (int i = 0; i < TRIES && seen > 0; i++) {
        __s64 less = seen > (__s64)bytes ? seen - (__s64)bytes : 0;
        __s64 was;

        /* The last try takes all of it: too little credit only refuses too much. */
        was = COMPARE_AND_SWAP(&tenant->budget.credit, seen, i == TRIES - 1 ? 0 : less);
        if (was == seen)
            break;
        seen = was;
    }
}

/* These bytes stay counted although no range is known for them, until a reconciliation finds the
 * range (leaks_match()), or finds none (leaks_drop()). */
static __always_inline void leaks_add(struct ledger_leaks *leaks, __u64 bytes)
{
    __sync_fetch_and_add(&leaks->count, 1);
    __sync_fetch_and_add(&leaks->unmatched, (__s64)bytes);
}

/* A range was found that had been missed, whose bytes may be counted already, as leaked: how many
 * of them are not. */
static __always_inline __u64 leaks_match(struct ledger_leaks *leaks, __u64 bytes)
{
    __s64 unmatched = READ_ONCE(leaks->unmatched);
    __s64 take = unmatched < (__s64)bytes ? unmatched : (__s64)bytes;

    if (take > 0 && COMPARE_AND_SWAP(&leaks->unmatched, unmatched, unmatched - take) == unmatched)
        bytes -= take;
    return bytes;
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

/* No range was found for what was leaked before `count` leaks: 0 and the bytes to be given back, or
 * -ESTALE. */
static __always_inline int leaks_drop(struct ledger_leaks *leaks, __u64 count, __s64 *ret_bytes)
{
    return exchange_unless_moved(&leaks->unmatched, 0, &leaks->count, count, ret_bytes);
}

/* What a reconciliation that began after `releases` releases has found to be mapped more than once.
 */
static __always_inline int tenant_set_credit(struct ledger_tenant *tenant, __s64 credit,
                                             __u64 releases)
{
    __s64 was;
    int r =
        exchange_unless_moved(&tenant->budget.credit, credit, &tenant->releases, releases, &was);

    /* A release between comparison and exchange has lowered the old credit, not this one. Pairs
     * with the addition in tenant_note_release(), which comes before it reads the credit. */
    if (!r && READ_ONCE(tenant->releases) != releases) {
        WRITE_ONCE(tenant->budget.credit, 0);
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
