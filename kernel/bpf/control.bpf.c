/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What iommud tells the kernel: programs that it runs with BPF_PROG_RUN, in its own context.
 * Figures that the hooks change all the time are changed in place here, by atomic exchanges, and
 * never written from user space.
 */
#include "files.bpf.h"
#include "objects.bpf.h"
#include "pages.bpf.h"
#include "xarray.bpf.h"

struct move {
    __u32 context;
    __u32 tenant;
};

static __always_inline void move_sums(struct ledger_tenant *tenant, __s64 bytes, __s64 pages)
{
    if (!tenant)
        return;
    __sync_fetch_and_add(&tenant->moves, 1);
    __sync_fetch_and_add(&tenant->mapped, bytes);
    __sync_fetch_and_add(&tenant->pinned, pages);
}

/* What was mapped before the context had its tenant is the tenant's now. */
static long move_range(void *map, const __u64 *key, struct ledger_pages *range, struct move *move)
{
    __u64 charge = READ_ONCE(range->charge), charged = LEDGER_CHARGED(charge);
    __u32 from = range->tenant;

    if (LEDGER_IS_TAKEN(charge) || range->context != move->context || from == move->tenant)
        return 0;
    leave_extent(range);
    range->tenant = move->tenant;
    move_sums(get_tenant(from), -(__s64)range->bytes, -(__s64)charged);
    move_sums(get_tenant(move->tenant), (__s64)range->bytes, (__s64)charged);
    return 0;
}

/* Registers the IOMMUFD behind one of the caller's file descriptors. */
SEC("syscall")
int control_register(struct control_register *args)
{
    struct file *file = args->fd < 0 ? NULL : (struct file *)file_of(args->fd);
    struct ledger_config *options = get_config();
    struct ledger_context *context;
    struct move move;
    __u64 ictx;

    if (!options || !file)
        return -EBADF;
    if (!options->iommu_rdev || BPF_CORE_READ(file, f_inode, i_rdev) != options->iommu_rdev)
        return -EINVAL;
    ictx = (__u64)BPF_CORE_READ(file, private_data);
    context = make_context(ictx);
    if (!context)
        return -ENOMEM;
    context->tenant = args->tenant;
    /* Before the ranges are moved: from now on nobody maps for the earlier tenant any more. */
    note_change();
    move.context = context->id;
    move.tenant = args->tenant;
    bpf_for_each_map_elem(&pages, move_range, &move, 0);
    context->flags = args->flags;
    note_change();
    args->ret_context_id = context->id;
    return 0;
}

/* What a process forks belongs to it. One that is named as a machine gets an owner of its own; what
 * it made before stays its parent's. */
static __noinline __u32 leave_parent(struct ledger_process *process, __u32 tgid, __u32 machine_id)
{
    struct ledger_owner *owner;
    __u32 was, id;

    if (!process)
        return LEDGER_OWNER_NONE;
    was = process->owner;
    id = owner_of_machine(machine_id, tgid, process->start);
    owner = get_owner(id);
    if (!owner)
        return LEDGER_OWNER_NONE;
    __sync_fetch_and_add(&owner->processes, 1);
    process->owner = id;
    owner = get_owner(was);
    if (owner) {
        __sync_fetch_and_add(&owner->processes, -1);
        drop_owner_if_idle(was);
    }
    return id;
}

/* -EEXIST: the owner is of another tenant that still exists. */
static __always_inline int join_tenant(struct ledger_owner *owner, __u32 tenant)
{
    __u32 was = owner->tenant;

    if (was && was != tenant && bpf_map_lookup_elem(&tenants, &was))
        return -EEXIST;
    owner->tenant = tenant;
    return 0;
}

static __always_inline int name_role(struct control_name_process *args,
                                     struct ledger_process *process)
{
    __u32 id = args->role == LEDGER_ROLE_SERVICE ? LEDGER_OWNER_SERVICE : LEDGER_OWNER_NONE, was;
    struct ledger_owner *owner;

    if (!process) {
        add_process(args->tgid, args->start, id, args->role);
        process = get_process(args->tgid, args->start);
    }
    if (!process)
        return -ENOMEM;
    was = process->owner;
    process->owner = id;
    process->role = args->role;
    owner = was != id ? get_owner(was) : NULL;
    if (owner) {
        __sync_fetch_and_add(&owner->processes, -1);
        drop_owner_if_idle(was);
    }
    return 0;
}

/* Gives a process without an entry an owner of its own; the owner that it got meanwhile if another
 * thread was faster. 0: the maps are full. */
static __always_inline __u32 make_process(__u32 tgid, __u64 start)
{
    __u32 id = make_owner(tgid, start, 0), added;

    if (!id)
        return LEDGER_OWNER_NONE;
    added = add_process(tgid, start, id, LEDGER_ROLE_USER);
    if (added != id)
        drop_owner_if_idle(id);
    return added;
}

/* A process of the tenant that is no machine, or is not known to be one yet. */
static __always_inline int name_client(struct control_name_process *args,
                                       struct ledger_process *process)
{
    __u32 id = process ? process->owner : LEDGER_OWNER_NONE;
    struct ledger_owner *owner;

    if (!id)
        id = make_process(args->tgid, args->start);
    owner = get_owner(id);
    if (!owner)
        return process ? -ESRCH : -ENOMEM;
    return join_tenant(owner, args->tenant);
}

/* The owner that the process is to have as this machine. */
static __always_inline __u32 owner_as(struct control_name_process *args,
                                      struct ledger_process *process)
{
    __u32 id = process ? process->owner : LEDGER_OWNER_NONE, machine_id = args->machine;
    struct ledger_owner *owner;

    if (!id) {
        id = owner_of_machine(machine_id, args->tgid, args->start);
        return id && add_process(args->tgid, args->start, id, LEDGER_ROLE_USER) == id ? id : 0;
    }
    owner = get_owner(id);
    if (!owner)
        return LEDGER_OWNER_NONE;
    if (owner->tgid != args->tgid && owner->machine != machine_id)
        return leave_parent(process, args->tgid, machine_id);
    return id;
}

static __always_inline int name_machine(struct control_name_process *args,
                                        struct ledger_process *process)
{
    __u32 machine_id = args->machine, id = process ? process->owner : LEDGER_OWNER_NONE, was;
    struct ledger_machine *machine = bpf_map_lookup_elem(&machines, &machine_id);
    struct ledger_owner *owner, *other;
    int r;

    if (!machine)
        return -ENOENT;
    was = machine->owner;
    other = get_owner(was);
    /* Another process has become the machine by binding its device before its leader was known. */
    if (machine->claimed_by_bind && was != id && other && other->processes > 0)
        return -EEXIST;
    id = owner_as(args, process);
    owner = get_owner(id);
    if (!owner)
        return -ENOMEM;
    if (owner->machine && owner->machine != machine_id)
        return -EEXIST;
    was = machine->owner;
    other = get_owner(was);
    if (was != id && other && other->processes > 0)
        return -EEXIST;
    r = join_tenant(owner, args->tenant);
    if (r)
        return r;
    if (COMPARE_AND_SWAP(&machine->owner, was, id) != was)
        return -EEXIST;
    owner->machine = machine_id;
    machine->claimed_by_bind = 0;
    return 0;
}

static __always_inline int name_process(struct control_name_process *args)
{
    struct ledger_process *process = get_process(args->tgid, args->start);

    if (args->role != LEDGER_ROLE_USER)
        return name_role(args, process);
    return args->machine ? name_machine(args, process) : name_client(args, process);
}

/* Makes a process known: its role, or the machine and the tenant that it belongs to. */
SEC("syscall")
int control_name_process(struct control_name_process *args)
{
    int r = name_process(args);

    note_change();
    return r;
}

/* The device may be bound. The same again: only the flags are new, and who has bound it is kept. */
SEC("syscall")
int control_admit_device(struct control_admit_device *args)
{
    struct ledger_device new = {
        .tenant = args->tenant,
        .machine = args->machine,
        .flags = args->flags,
    };
    struct ledger_device_key key = args->device;
    struct ledger_device *device = bpf_map_lookup_elem(&devices, &key);

    if (!device || device->tenant != new.tenant || device->machine != new.machine)
        return bpf_map_update_elem(&devices, &key, &new, BPF_ANY);
    device->flags = new.flags;
    return 0;
}

/* The tenant counts every mapping from now on. */
static long count_range(void *map, const __u64 *key, struct ledger_pages *range, __u32 *tenant)
{
    if (range->tenant == *tenant)
        leave_extent(range);
    return 0;
}

SEC("syscall")
int control_set_limit(struct control_set_limit *args)
{
    struct ledger_tenant new = {.limit = args->limit, .count = args->count};
    struct ledger_tenant *tenant = get_tenant(args->tenant);
    __u32 tenant_id = args->tenant;

    if (!tenant)
        return bpf_map_update_elem(&tenants, &tenant_id, &new, BPF_NOEXIST);
    WRITE_ONCE(tenant->limit, args->limit);
    tenant->count = args->count;
    if (args->count == LEDGER_COUNT_CHARGED) {
        WRITE_ONCE(tenant->credit, 0);
        bpf_for_each_map_elem(&pages, count_range, &tenant_id, 0);
    }
    return 0;
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

/* The machine is gone; its owner's entry follows when nothing is left of it. */
SEC("syscall")
int control_remove_machine(struct control_remove_machine *args)
{
    __u32 machine_id = args->machine, id;
    struct ledger_machine *machine = bpf_map_lookup_elem(&machines, &machine_id);
    struct ledger_owner *owner;

    if (!machine)
        return -ENOENT;
    id = machine->owner;
    bpf_map_delete_elem(&machines, &machine_id);
    owner = get_owner(id);
    if (owner) {
        owner->machine = 0;
        drop_owner_if_idle(id);
    }
    return 0;
}

/* The owner of the process that the kernel says has mapped something: known, or made anew. */
__noinline __u32 owner_of(__u32 tgid, __u64 start)
{
    struct ledger_process *process = get_process(tgid, start);

    if (process)
        return process->owner;
    return tgid ? make_process(tgid, start) : LEDGER_OWNER_NONE;
}

/* A range that was missed: what it counts may be counted already, as leaked. */
__noinline int match_mapped(__u32 tenant_id, __s64 bytes)
{
    struct ledger_tenant *tenant = get_tenant(tenant_id);

    if (tenant)
        tenant_match(tenant, bytes);
    return 0;
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

    if (!is_alive(key, new.bytes))
        return -ESTALE;
    new.charge = new_charge(counters, args->charged);
    new.owner = owner_of(args->tgid, args->start);
    if (bpf_map_update_elem(&pages, &key, &new, BPF_NOEXIST))
        return -ENOMEM;
    __sync_fetch_and_add(&counters->pages, 1);
    owner_add_pages(new.owner, 1);
    match_mapped(new.tenant, (__s64) new.bytes);
    account_bytes(new.context, new.owner, (__s64) new.bytes);
    return account_pages(new.context, new.owner, new.tenant, (__s64)args->charged);
}

/* Where the range was mapped to was not seen: what it counts moves there. was: as it was, with the
 * new charge. */
static __noinline int move_range_to(struct ledger_pages *entry, const struct ledger_pages *was,
                                    const struct control_set_range *args)
{
    if (!entry || !was || !args)
        return -EINVAL;
    leave_extent(entry);
    entry->context = args->context;
    entry->tenant = args->tenant;
    account_bytes(was->context, was->owner, -(__s64)was->bytes);
    account_bytes(args->context, was->owner, (__s64)was->bytes);
    add_mapped(was->tenant, -(__s64)was->bytes);
    match_mapped(args->tenant, (__s64)was->bytes);
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
    leak_reserved(was.tenant, was.extent, was.bytes);
    return 0;
}

/* Gives back what no range was found for, unless more was leaked since the reconciliation began. */
SEC("syscall")
int control_drop_unmatched(struct control_drop_unmatched *args)
{
    struct ledger_tenant *tenant = get_tenant(args->tenant);

    return tenant ? tenant_drop_unmatched(tenant, args->expected_leaks) : -ENOENT;
}
