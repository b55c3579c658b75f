/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a reconciliation corrects (kernel/ledger/audit/): programs that iommud runs with
 * BPF_PROG_RUN, in its own context. Figures that the hooks change all the time are changed in place
 * here, by atomic exchanges, and never written from user space.
 */
#include "objects.bpf.h"
#include "pages.bpf.h"
#include "xarray.bpf.h"

/* The owner of the process that the kernel says has mapped something: known, or made anew. */
__noinline __u32 owner_of(__u32 tgid, __u64 start)
{
    struct ledger_process *process = get_process(tgid, start);

    if (process)
        return process->owner;
    return tgid ? make_process(tgid, start) : LEDGER_OWNER_NONE;
}

/*
 * Whether there is a range of that length at the address. One that was freed has no reference left
 * until its memory is used for something else. Ranges come and go at the same addresses: one that
 * two snapshots have missed may be another one by now.
 */
static __always_inline bool is_alive(__u64 address, __u64 bytes)
{
    struct iopt_pages *range = (struct iopt_pages *)address;

    return BPF_CORE_READ(range, kref.refcount.refs.counter) > 0 &&
           BPF_CORE_READ(range, npages) << LEDGER_PAGE_SHIFT == bytes;
}

/* A range that the ledger has missed. */
static __always_inline int add_range(struct control_set_range *args, struct ledger_state *counters)
{
    struct ledger_pages new = {
        .bytes = args->bytes,
        .context = args->context,
        .tenant = args->tenant,
    };
    __u64 key = args->pages;
    __u32 machine_id;

    if (!is_alive(key, new.bytes))
        return -ESTALE;
    new.charge = new_charge(counters, args->charged);
    new.owner = owner_of(args->tgid, args->start);
    machine_id = machine_for(get_owner(new.owner), new.tenant);
    new.share = LEDGER_SHARE(machine_id, 0);
    if (bpf_map_update_elem(&pages, &key, &new, BPF_NOEXIST))
        return -ENOMEM;
    __sync_fetch_and_add(&counters->pages, 1);
    owner_add_pages(new.owner, 1);
    count_match(new.tenant, machine_id, new.bytes);
    account_bytes(new.context, new.owner, (__s64) new.bytes);
    return account_pages(new.context, new.owner, new.tenant, (__s64)args->charged);
}

/* Where the range was mapped to was not seen: what it counts moves there. was: as it was, with the
 * new charge. */
static __noinline int move_range_to(struct ledger_pages *entry, const struct ledger_pages *was,
                                    const struct control_set_range *args)
{
    __u32 machine_id;
    __u64 share;

    if (!entry || !was || !args)
        return -EINVAL;
    leave_extent(entry);
    machine_id = machine_for(get_owner(was->owner), args->tenant);
    share = READ_ONCE(entry->share);
    if (LEDGER_SHARE_EXTENT(share) ||
        COMPARE_AND_SWAP(&entry->share, share, LEDGER_SHARE(machine_id, 0)) != share)
        return -ESTALE;
    entry->context = args->context;
    entry->tenant = args->tenant;
    account_bytes(was->context, was->owner, -(__s64)was->bytes);
    account_bytes(args->context, was->owner, (__s64)was->bytes);
    count_release(was->tenant, LEDGER_SHARE_MACHINE(share), was->bytes);
    count_match(args->tenant, machine_id, was->bytes);
    account_pages(was->context, was->owner, was->tenant, -(__s64)args->charged);
    return account_pages(args->context, was->owner, args->tenant, (__s64)args->charged);
}

/* Corrects one range's entry, or adds it, if the entry still has the charge that was compared: a
 * charge that came in between is not counted twice. */
SEC("syscall")
int control_set_range(struct control_set_range *args)
{
    struct ledger_state *counters = get_state();
    struct ledger_pages *entry, was;
    __u64 key = args->pages;

    if (!counters || args->charged >= LEDGER_CHARGE_TAKEN)
        return -EINVAL;
    if (!args->known)
        return add_range(args, counters);
    entry = bpf_map_lookup_elem(&pages, &key);
    if (!entry || LEDGER_IS_TAKEN(args->expected_charge))
        return -ESTALE;
    /* Read before: once it has been exchanged, the entry may end at any time. */
    was = *entry;
    if (COMPARE_AND_SWAP(&entry->charge, args->expected_charge,
                         LEDGER_CHARGE(args->expected_charge, args->charged)) !=
        args->expected_charge)
        return -ESTALE;
    account_pages(was.context, was.owner, was.tenant,
                  (__s64)args->charged - (__s64)LEDGER_CHARGED(args->expected_charge));
    if (was.context == args->context && was.tenant == args->tenant)
        return 0;
    return move_range_to(entry, &was, args);
}

/* The object's entry had no owner. */
static __always_inline int name_object(struct ledger_object *entry,
                                       struct control_adopt_object *args)
{
    __u32 id = owner_of(args->tgid, args->start);
    struct ledger_owner *owner = get_owner(id);

    if (!owner || COMPARE_AND_SWAP(&entry->owner, LEDGER_OWNER_NONE, id))
        return -EEXIST;
    __sync_fetch_and_add(&owner->objects, 1);
    return 0;
}

/* Adds an object that the ledger did not see being made. tgid 0: its owner is not known. */
SEC("syscall")
int control_adopt_object(struct control_adopt_object *args)
{
    struct ledger_object_key key = {.context = args->context, .id = args->id};
    struct ledger_object new = {
        .object = args->object,
        .start = args->start,
        .tgid = args->tgid,
        .type = args->type,
    };
    struct ledger_object *entry = bpf_map_lookup_elem(&objects, &key);
    struct ledger_owner *owner;
    __u64 span;

    if (entry && entry->object)
        return entry->object == args->object && !entry->owner ? name_object(entry, args) : -EEXIST;
    /* Another object may have come to the id since the snapshot. */
    if (object_at(table_of(args->ictx), args->id, &span) != args->object)
        return -ESTALE;
    new.owner = owner_of(args->tgid, args->start);
    if (entry)
        remove_object_entry(&key);
    if (add_object_entry(&key, &new))
        return -ENOMEM;
    owner = get_owner(new.owner);
    if (owner)
        __sync_fetch_and_add(&owner->objects, 1);
    return 0;
}

/* Takes a range out of the sums whose end was missed. Its entry stays, as taken. */
SEC("syscall")
int control_remove_range(struct control_remove_range *args)
{
    __u64 key = args->pages;
    struct ledger_pages *entry = bpf_map_lookup_elem(&pages, &key);

    if (!entry)
        return -ENOENT;
    if (is_alive(key, entry->bytes))
        return -EBUSY;
    return take_range(entry, args->expected_charge) ? 0 : -ESTALE;
}

/* Sets a sum to what the entries add up to, unless it has moved since they were read. */
SEC("syscall")
int control_set_totals(struct control_set_totals *args)
{
    struct ledger_tenant *tenant = get_tenant(args->tenant);
    struct ledger_account *account;

    if (!args->tenant) {
        account = get_account(args->context, args->owner);
        if (!account || READ_ONCE(account->moves) != args->expected_moves)
            return -ESTALE;
        COMPARE_AND_SWAP(&account->mapped, args->expected_mapped, args->mapped);
        COMPARE_AND_SWAP(&account->pinned, args->expected_pinned, args->pinned);
        return 0;
    }
    if (!tenant || READ_ONCE(tenant->moves) != args->expected_moves)
        return -ESTALE;
    COMPARE_AND_SWAP(&tenant->pinned, args->expected_pinned, args->pinned);
    return 0;
}

/* Removes an account in which nothing is left, and adds its counters to the tenant's. */
SEC("syscall")
int control_close_account(struct control_close_account *args)
{
    struct ledger_account_key key = args->account;
    struct ledger_account *account = bpf_map_lookup_elem(&accounts, &key), was;
    struct ledger_tenant *tenant = get_tenant(args->tenant);

    if (!account)
        return -ENOENT;
    was = *account;
    if (was.pinned || was.mapped)
        return -EBUSY;
    if (bpf_map_delete_elem(&accounts, &key))
        return -ENOENT;
    if (!tenant)
        return 0;
    __sync_fetch_and_add(&tenant->maps, was.maps);
    __sync_fetch_and_add(&tenant->unmaps, was.unmaps);
    __sync_fetch_and_add(&tenant->refused, was.refused);
    return 0;
}

SEC("syscall")
int control_remove_object(struct control_remove_object *args)
{
    struct ledger_object_key key = {.context = args->context, .id = args->id};
    struct ledger_object *entry = bpf_map_lookup_elem(&objects, &key);
    __u64 span;

    /* Another object may have got its id, or its address, since the snapshot. */
    if (!entry || entry->object != args->object)
        return -ESTALE;
    if (args->ictx && object_at(table_of(args->ictx), args->id, &span) == args->object)
        return -EBUSY;
    return free_object(args->context, args->id, args->object);
}

SEC("syscall")
int control_remove_context(struct control_remove_context *args)
{
    __u64 key = args->context;
    struct ledger_context *context = bpf_map_lookup_elem(&contexts, &key);

    if (!context || context->id != args->id)
        return -ESTALE;
    return close_context(key);
}

SEC("syscall")
int control_remove_process(struct control_remove_process *args)
{
    return get_process(args->tgid, args->start) ? end_process(args->tgid) : -ESTALE;
}

SEC("syscall")
int control_set_counts(struct control_set_counts *args)
{
    struct ledger_owner *owner = get_owner(args->owner);

    if (!owner)
        return -ENOENT;
    COMPARE_AND_SWAP(&owner->objects, args->expected_objects, args->objects);
    COMPARE_AND_SWAP(&owner->pages, args->expected_pages, args->pages);
    drop_owner_if_idle(args->owner);
    return 0;
}

/* A thread is gone without its end having been seen: what it had reserved counts as leaked. What
 * the entry says is read before it is freed, and nobody but that thread has written it. */
SEC("syscall")
int control_leak_reservation(struct control_leak_reservation *args)
{
    struct ledger_reservation *entry = get_reservation(args->number), was;
    __u64 start = args->expected_start;

    if (!entry)
        return -ENOENT;
    /* The addition of 0 is a read with a full barrier: what the entry says is read after it. */
    if (!start || __sync_fetch_and_add(&entry->start, 0) != start)
        return -ESTALE;
    was = *entry;
    if (was.tid != args->expected_tid || COMPARE_AND_SWAP(&entry->start, start, 0) != start)
        return -ESTALE;
    WRITE_ONCE(entry->tid, 0);
    leak_reserved(was.tenant, was.share, was.bytes);
    return 0;
}

/* Gives back what no range was found for, unless more was leaked since the reconciliation began. */
SEC("syscall")
int control_drop_unmatched(struct control_drop_unmatched *args)
{
    __u32 machine_id = args->machine, tenant_id = args->tenant;
    struct ledger_machine *machine;
    struct ledger_tenant *tenant;
    __s64 bytes = 0;
    int r = -ENOENT;

    if (machine_id) {
        /* Also one that is removed: then it is the tenant that gets it back. */
        machine = bpf_map_lookup_elem(&machines, &machine_id);
        if (machine)
            r = leaks_drop(&machine->leaks, args->expected_leaks, &bytes);
    } else {
        tenant = get_tenant(tenant_id);
        if (tenant)
            r = leaks_drop(&tenant->leaks, args->expected_leaks, &bytes);
    }
    if (!r && bytes > 0)
        count_release(tenant_id, machine_id, (__u64)bytes);
    return r;
}

/* What a reconciliation has found to be mapped more than once, unless something was given back
 * since it began. */
SEC("syscall")
int control_set_dedup_credit(struct control_set_dedup_credit *args)
{
    struct ledger_tenant *tenant = get_tenant(args->tenant);

    if (!tenant)
        return -ENOENT;
    if (tenant->count == LEDGER_COUNT_CHARGED)
        return -EINVAL;
    return tenant_set_credit(tenant, args->credit, args->expected_releases);
}
