/* SPDX-License-Identifier: GPL-2.0-only */
/* Who a thread is to an IOMMUFD, found out once and remembered until something changes. */
#pragma once

#include "owner.bpf.h"
#include "extents.bpf.h"

/* The end of what a mapping was reserved for was not seen: it counts in full until a walk comes. */
static __always_inline void lose(struct call *call)
{
    __u64 bytes = call->reserved;

    if (call->place) {
        bytes = call->may_map;
        if (!drop_place(call->place))
            tenant_add(call->tenant, (__s64)bytes);
    }
    if (bytes)
        tenant_lose(call->tenant, bytes);
    call->place = 0;
    call->reserved = call->may_map = 0;
}

/* Gives back what a mapping reserved and did not take. */
static __always_inline void refund(struct call *call)
{
    if (call->place)
        tenant_release(call->tenant, drop_place(call->place));
    if (call->reserved)
        tenant_add(call->tenant, -(__s64)call->reserved);
    call->place = 0;
    call->reserved = call->may_map = 0;
}

static __noinline bool is_guarded(__u64 ictx)
{
    struct ledger_context *context = bpf_map_lookup_elem(&contexts, &ictx);

    return context && context->flags & LEDGER_CONTEXT_GUARDED;
}

/* Whether the owner may use the tenant's IOMMUFD: it becomes the tenant's if it is nobody's. */
static __always_inline bool may_use(__u32 owner_id, __u32 tenant)
{
    struct ledger_owner *owner;

    if (owner_id == LEDGER_OWNER_SERVICE)
        return true;
    owner = get_owner(owner_id);
    if (!owner)
        return false;
    if (!owner->tenant)
        COMPARE_AND_SWAP(&owner->tenant, 0, tenant);
    return owner->tenant == tenant;
}

static __noinline struct call *identify_anew(__u64 ictx)
{
    struct ledger_state *counters = get_state();
    struct ledger_context *context;
    struct call *call;
    __u32 changes;

    if (!counters || !bpf_map_lookup_elem(&contexts, &ictx))
        return NULL;
    call = get_call(true);
    if (!call)
        return NULL;
    lose(call);
    /* The number first: what changes while it is looked up is looked up again. An addition, since
     * that can't be put off. */
    changes = __sync_fetch_and_add(&counters->changes, 0);
    context = bpf_map_lookup_elem(&contexts, &ictx);
    if (!context)
        return NULL;
    call->stage = STAGE_NONE;
    call->changes = changes;
    call->serial = context->serial;
    call->tenant = context->tenant;
    call->flags = context->flags;
    call->maker = current_owner(true);
    call->owner = call->flags & LEDGER_CONTEXT_GUARDED && may_use(call->maker, call->tenant)
                      ? call->maker
                      : LEDGER_OWNER_NONE;
    /* Who is not known, since a map is full, may be so the next time. */
    call->context = call->maker ? ictx : 0;
    return call;
}

/* The thread's entry, which then says who it is to this IOMMUFD. NULL: the ledger has not got the
 * IOMMUFD, or no memory. */
static __always_inline struct call *identify(__u64 ictx)
{
    struct ledger_state *counters = get_state();
    struct call *call = get_call(false);

    if (counters && call && call->context == ictx && ictx &&
        call->changes == *(volatile __u32 *)&counters->changes)
        return call;
    return identify_anew(ictx);
}

/* The same inside iommufd: in the middle of an ioctl the thread is who it was at the beginning, and
 * what was reserved for it is its. */
static __always_inline struct call *identify_inside(__u64 ictx)
{
    struct call *call = get_call(false);

    if (call && call->context == ictx && ictx &&
        (call->stage == STAGE_CHECKED || call->stage == STAGE_SERVICE))
        return call;
    return identify(ictx);
}
