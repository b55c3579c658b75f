/* SPDX-License-Identifier: GPL-2.0-only */
/* Who a thread is to an IOMMUFD, looked up once and remembered until something changes; and what it
 * is in the middle of. */
#pragma once

#include "extents.bpf.h"
#include "maps.bpf.h"
#include "owner.bpf.h"

/* What a thread is in the middle of, once the guard has let it through. */
enum phase {
    PHASE_NONE = 0,
    PHASE_SERVICE, /* an ioctl of iommud's own, which is not checked */
    PHASE_CHECKED, /* an ioctl on an IOMMUFD whose argument was checked */
    PHASE_DEVICE,  /* an ioctl on a device's file: no hook sees its end */
};

/*
 * One per thread. Looking up who a thread is makes up much of a check, and gives the same the next
 * time unless ledger_state.changes has moved since.
 *
 *   members                    are valid
 *   context ... actual_owner,  while context is not 0 and `changes` is that of ledger_state
 *     and machine
 *   command                    in every phase but NONE, and after a re-check of whole ioctls
 *   mapping                    CHECKED and SERVICE, from the mapping's begin to the ioctl's end
 *   may_map, and               CHECKED and SERVICE, from the check until the range takes them over
 *     reserved or extent         (take_reserved()), or release_reservation(), or leak_reservation()
 *   noted                      with them, unless all entries that it may have are in use
 *   changing                   from entry to exit of iommufd_ioas_change_process()
 *   removing                   from entry to exit of iommufd_object_remove(), in any phase
 *   argument_changed           from argument_changed() to the thread's next ioctl
 *
 * Of `reserved` and `extent` at most one is not 0: bytes count in full, or are those of an extent.
 */
struct task_state {
    __u64 context; /* address of the IOMMUFD that it used last; 0: of none */
    __u32 changes;
    __u32 context_id;
    __u32 tenant_id;
    __u32 flags; /* enum ledger_context_flags */
    __u32
        tenant_owner; /* its owner, if that is one of the tenant's or the service; 0: a stranger */
    __u32 actual_owner; /* its owner, whoever that is */

    __u32 phase; /* enum phase */
    __u32 command;
    __u32 argument_changed;
    __u64 mapping;  /* address of the IOMMUFD that is being mapped into */
    __u64 may_map;  /* bytes that were let through */
    __u64 reserved; /* of these, what was taken from machine or tenant and no range has yet */
    __u64 removing; /* address of the object that is being destroyed */
    __u32 changing; /* it moves what is charged from another process to itself */
    __u32 extent;   /* to which it has a reference for the range to come */
    __u32 noted;    /* number of its entry in the map "reservations", from 1 on */
    __u32 machine;  /* from which its mappings are taken; 0: from the tenant */
};

struct {
    __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct task_state);
} task_states SEC(".maps");

static __always_inline struct task_state *get_task_state(bool create)
{
    return bpf_task_storage_get(&task_states, bpf_get_current_task_btf(), NULL,
                                create ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
}

/* Entries in which the reservation of a thread may stand, from that of its number on. */
#define NOTE_WINDOW 8

static __always_inline struct ledger_reservation *get_reservation(__u32 number)
{
    return bpf_map_lookup_elem(&reservations, &number);
}

/*
 * Writes down what the thread has reserved. From here on until it is settled, nothing else would
 * tell of it if the thread died and ledger_exit was skipped. If all entries that it may have are in
 * use, it goes without one.
 */
static __noinline int note_reservation(struct task_state *self)
{
    struct task_struct *task = (struct task_struct *)bpf_get_current_task_btf();
    __u32 tid = bpf_get_current_pid_tgid();

    if (!self || (!self->reserved && !self->extent))
        return 0;
    for (__u32 i = 0; i < NOTE_WINDOW; i++) {
        __u32 number = (tid + i) % LEDGER_RESERVATIONS;
        struct ledger_reservation *entry = get_reservation(number);

        if (!entry || COMPARE_AND_SWAP(&entry->tid, 0, tid))
            continue;
        entry->bytes = self->may_map;
        entry->tenant = self->tenant_id;
        entry->share = LEDGER_SHARE(self->machine, self->extent);
        /* Last, with a full barrier: pairs with the addition of 0 in control_leak_reservation(). */
        __sync_lock_test_and_set(&entry->start, task->start_boottime / LEDGER_NS_PER_TICK);
        self->noted = number + 1;
        break;
    }
    return 0;
}

/* The thread has no reservation any more. */
static __always_inline void forget_reservation(struct task_state *self)
{
    struct ledger_reservation *entry = self->noted ? get_reservation(self->noted - 1) : NULL;

    if (entry) {
        /* First, so that the next thread's entry does not begin as one of this time. */
        __sync_lock_test_and_set(&entry->start, 0);
        WRITE_ONCE(entry->tid, 0);
    }
    self->noted = 0;
    self->extent = 0;
    self->reserved = self->may_map = 0;
}

/* Bytes that were reserved, of an extent or by themselves, count in full, as leaked, until a
 * reconciliation comes. */
static __always_inline void leak_reserved(__u32 tenant_id, __u64 share, __u64 bytes)
{
    __u32 extent = LEDGER_SHARE_EXTENT(share), machine_id = LEDGER_SHARE_MACHINE(share);

    if (extent && !extent_put(extent))
        count_add(tenant_id, machine_id, bytes);
    count_leak(tenant_id, machine_id, bytes);
}

__noinline int settle_as_leaked(struct task_state *self)
{
    if (!self)
        return 0;
    if (self->extent || self->reserved)
        leak_reserved(self->tenant_id, LEDGER_SHARE(self->machine, self->extent), self->may_map);
    forget_reservation(self);
    return 0;
}

__noinline int settle_as_released(struct task_state *self)
{
    if (!self)
        return 0;
    if (self->extent)
        release_mapped(self->tenant_id, self->machine, extent_put(self->extent));
    if (self->reserved)
        count_release(self->tenant_id, self->machine, self->reserved);
    forget_reservation(self);
    return 0;
}

/* The end of what was reserved for a mapping was not seen. */
static __always_inline void leak_reservation(struct task_state *self)
{
    if (self->may_map)
        settle_as_leaked(self);
}

/* Gives back what a mapping reserved and did not take. */
static __always_inline void release_reservation(struct task_state *self)
{
    if (self->may_map)
        settle_as_released(self);
}

static __noinline bool is_guarded(__u64 ictx)
{
    struct ledger_context *context = bpf_map_lookup_elem(&contexts, &ictx);

    return context && context->flags & LEDGER_CONTEXT_GUARDED;
}

/* Whether the owner may use the tenant's IOMMUFD: it becomes the tenant's if it is no tenant's yet.
 */
static __always_inline bool owner_may_use(__u32 owner_id, __u32 tenant_id)
{
    struct ledger_owner *owner;

    if (owner_id == LEDGER_OWNER_SERVICE)
        return true;
    owner = get_owner(owner_id);
    if (!owner)
        return false;
    if (!owner->tenant)
        COMPARE_AND_SWAP(&owner->tenant, 0, tenant_id);
    return owner->tenant == tenant_id;
}

static __noinline struct task_state *identify_anew(__u64 ictx)
{
    struct ledger_state *counters = get_state();
    struct ledger_context *context;
    struct task_state *self;
    __u32 changes;

    if (!counters || !bpf_map_lookup_elem(&contexts, &ictx))
        return NULL;
    self = get_task_state(true);
    if (!self)
        return NULL;
    leak_reservation(self);
    /* The addition of 0 is a read with a full barrier: what is looked up below is looked up after
     * it. Pairs with the addition in note_change(), which comes after the change: either the change
     * is seen below, or the number read here is old and identify() looks everything up again. */
    changes = __sync_fetch_and_add(&counters->changes, 0);
    context = bpf_map_lookup_elem(&contexts, &ictx);
    if (!context)
        return NULL;
    self->phase = PHASE_NONE;
    self->changes = changes;
    self->context_id = context->id;
    self->tenant_id = context->tenant;
    self->flags = context->flags;
    self->actual_owner = current_owner(true);
    self->tenant_owner =
        self->flags & LEDGER_CONTEXT_GUARDED && owner_may_use(self->actual_owner, self->tenant_id)
            ? self->actual_owner
            : LEDGER_OWNER_NONE;
    self->machine = machine_for(get_owner(self->actual_owner), self->tenant_id);
    /* Without an owner, since a map is full, the next call looks it up again. */
    self->context = self->actual_owner ? ictx : 0;
    return self;
}

/* The thread's state, which then says who it is to this IOMMUFD. NULL: the ledger does not know the
 * IOMMUFD, or there is no memory. */
static __always_inline struct task_state *identify(__u64 ictx)
{
    struct ledger_state *counters = get_state();
    struct task_state *self = get_task_state(false);

    if (counters && self && self->context == ictx && ictx &&
        self->changes == READ_ONCE(counters->changes))
        return self;
    return identify_anew(ictx);
}

/* The same inside iommufd: in the middle of an ioctl the thread is who it was at its begin, and
 * owns what was reserved then. */
static __always_inline struct task_state *identify_inside(__u64 ictx)
{
    struct task_state *self = get_task_state(false);

    if (self && self->context == ictx && ictx &&
        (self->phase == PHASE_CHECKED || self->phase == PHASE_SERVICE))
        return self;
    return identify(ictx);
}
