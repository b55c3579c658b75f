/* SPDX-License-Identifier: GPL-2.0-only */
/* The entries of objects, and of the IOMMUFDs that they are in. */
#pragma once

#include "maps.bpf.h"
#include "owner.bpf.h"

/* Frees an object's entry, if it is still this object's and not one's that came to the id since. */
static __noinline int free_object(__u32 context_id, __u32 id, __u64 object)
{
    struct ledger_object_key key = {.context = context_id, .id = id};
    struct ledger_object *entry = bpf_map_lookup_elem(&objects, &key);
    struct ledger_owner *owner;
    __u32 owner_id;

    if (!entry || !object)
        return 0;
    owner_id = entry->owner;
    if (COMPARE_AND_SWAP(&entry->object, object, 0) != object)
        return 0;
    owner = get_owner(owner_id);
    if (owner) {
        __sync_fetch_and_add(&owner->objects, -1);
        drop_owner_if_idle(owner_id);
    }
    return 0;
}

static __always_inline void remove_object_entry(struct ledger_object_key *key)
{
    struct ledger_state *counters = get_state();

    if (!bpf_map_delete_elem(&objects, key) && counters)
        __sync_fetch_and_add(&counters->objects, -1);
}

static __always_inline long add_object_entry(struct ledger_object_key *key,
                                             const struct ledger_object *new)
{
    struct ledger_state *counters = get_state();
    long r = bpf_map_update_elem(&objects, key, new, BPF_NOEXIST);

    if (!r && counters)
        __sync_fetch_and_add(&counters->objects, 1);
    return r;
}

static __always_inline void raise_max_id(struct ledger_context *context, __u32 id)
{
    __u32 seen = READ_ONCE(context->max_id);

    for (int i = 0; i < TRIES && seen < id; i++) {
        __u32 was = COMPARE_AND_SWAP(&context->max_id, seen, id);

        if (was == seen)
            break;
        seen = was;
    }
}

/* The current process has made an object: 0, or -ENOMEM, since its owner can't be noted. */
static __noinline int add_object(__u64 ictx, __u32 id, __u32 type, __u64 object)
{
    struct ledger_context *context = make_context(ictx);
    struct ledger_object_key key = {.id = id};
    struct ledger_object new = {}, *entry;
    struct ledger_owner *owner;
    __u32 was;

    if (!context)
        return -ENOMEM;
    key.context = context->id;
    new.owner = current_owner(true);
    new.type = own_type(type);
    new.tgid = bpf_get_current_pid_tgid() >> 32;
    new.start = current_start();
    entry = bpf_map_lookup_elem(&objects, &key);
    if (!entry) {
        add_object_entry(&key, &new);
        entry = bpf_map_lookup_elem(&objects, &key);
    }
    if (!entry) {
        COUNT(lost_objects);
        return -ENOMEM;
    }
    /* In place, and the address last: free_object() of an object that had the id before compares
     * the address, and leaves the new one alone. */
    was = entry->owner;
    entry->owner = new.owner;
    entry->type = new.type;
    entry->tgid = new.tgid;
    entry->start = new.start;
    owner = __sync_lock_test_and_set(&entry->object, object) ? get_owner(was) : NULL;
    if (owner)
        __sync_fetch_and_add(&owner->objects, -1);
    owner = get_owner(new.owner);
    if (owner)
        __sync_fetch_and_add(&owner->objects, 1);
    raise_max_id(context, key.id);
    return 0;
}

static long remove_object(__u32 index, void *data)
{
    struct ledger_object_key key = {.context = *(__u32 *)data, .id = index + 1};
    struct ledger_object *entry = bpf_map_lookup_elem(&objects, &key);

    if (!entry)
        return 0;
    free_object(key.context, key.id, entry->object);
    remove_object_entry(&key);
    return 0;
}

/* The IOMMUFD is closed: its entry goes, and those of its objects. */
__noinline int close_context(__u64 ictx)
{
    struct ledger_context *context = bpf_map_lookup_elem(&contexts, &ictx);
    __u32 context_id;

    if (!context)
        return 0;
    context_id = context->id;
    bpf_loop(context->max_id, remove_object, &context_id, 0);
    bpf_map_delete_elem(&contexts, &ictx);
    note_change();
    return 0;
}
