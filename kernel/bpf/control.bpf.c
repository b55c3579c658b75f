/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What iommud tells the kernel: run by it with BPF_PROG_RUN, in its own context. Values that the
 * hooks change all the time are changed here in place and never written over from user space.
 */
#include "pages.bpf.h"

struct move {
    __u32 context;
    __u32 tenant;
};

/* What was mapped before the context had its tenant is the tenant's now. */
static long move_range(void *map, const __u64 *key, struct ledger_pages *range, struct move *move)
{
    struct ledger_tenant *account;
    __u64 charge = *(volatile __u64 *)&range->charge, charged = LEDGER_CHARGED(charge);
    __u32 from = range->tenant;

    if (LEDGER_IS_TAKEN(charge) || range->context != move->context || from == move->tenant)
        return 0;
    leave_place(range);
    range->tenant = move->tenant;
    account = bpf_map_lookup_elem(&tenants, &from);
    if (account) {
        __sync_fetch_and_add(&account->moves, 1);
        __sync_fetch_and_add(&account->mapped, -(__s64)range->bytes);
        __sync_fetch_and_add(&account->pinned, -(__s64)charged);
    }
    account = bpf_map_lookup_elem(&tenants, &move->tenant);
    if (account) {
        __sync_fetch_and_add(&account->moves, 1);
        __sync_fetch_and_add(&account->mapped, (__s64)range->bytes);
        __sync_fetch_and_add(&account->pinned, (__s64)charged);
    }
    return 0;
}

/* Registers the IOMMUFD behind one of the caller's file descriptors. */
SEC("syscall")
int control_register(struct ledger_register *args)
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
    /* Now, so that nobody maps for the earlier tenant what is moved below. */
    note_change();
    move.context = context->serial;
    move.tenant = args->tenant;
    bpf_for_each_map_elem(&pages, move_range, &move, 0);
    context->flags = args->flags;
    note_change();
    args->ret_serial = context->serial;
    args->ret_context = ictx;
    return 0;
}

/* What a process forks belongs to it, until it is named as a machine of its own: it then has an
 * owner of its own. What it made before stays its parent's. */
static __noinline __u32 leave_parent(struct ledger_process *process, __u32 tgid, __u32 token)
{
    struct ledger_owner *owner;
    __u32 was, id;

    if (!process)
        return LEDGER_OWNER_NONE;
    was = process->owner;
    id = owner_of_machine(token, tgid, process->start);
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

/* One process can't be of two tenants that there are. */
static __always_inline int join_tenant(struct ledger_owner *owner, __u32 tenant)
{
    __u32 was = owner->tenant;

    if (was && was != tenant && bpf_map_lookup_elem(&tenants, &was))
        return -EEXIST;
    owner->tenant = tenant;
    return 0;
}

static __always_inline int name_role(struct ledger_name *args, struct ledger_process *process)
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

/* A process that nobody knows gets an owner of its own. Another's, when another thread was faster.
 */
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
static __always_inline int name_client(struct ledger_name *args, struct ledger_process *process)
{
    __u32 id = process ? process->owner : LEDGER_OWNER_NONE;
    struct ledger_owner *owner;

    if (!id)
        id = make_process(args->tgid, args->start);
    owner = get_owner(id);
    if (!owner)
        return process ? -ESRCH : -ENOMEM;
    args->ret_owner = id;
    return join_tenant(owner, args->tenant);
}

/* The owner that the process is to have as this machine. */
static __always_inline __u32 owner_as(struct ledger_name *args, struct ledger_process *process)
{
    __u32 id = process ? process->owner : LEDGER_OWNER_NONE, token = args->machine;
    struct ledger_owner *owner;

    if (!id) {
        id = owner_of_machine(token, args->tgid, args->start);
        return id && add_process(args->tgid, args->start, id, LEDGER_ROLE_USER) == id ? id : 0;
    }
    owner = get_owner(id);
    if (!owner)
        return LEDGER_OWNER_NONE;
    if (owner->tgid != args->tgid && owner->machine != token)
        return leave_parent(process, args->tgid, token);
    return id;
}

static __always_inline int name_machine(struct ledger_name *args, struct ledger_process *process)
{
    __u32 token = args->machine, id = process ? process->owner : LEDGER_OWNER_NONE, was;
    struct ledger_machine *machine = bpf_map_lookup_elem(&machines, &token);
    struct ledger_owner *owner, *other;
    int r;

    if (!machine)
        return -ENOENT;
    was = machine->owner;
    other = get_owner(was);
    /* Who bound a device under the machine's name before its leader was known is a usurper. */
    if (machine->claimed && was != id && other && other->processes > 0)
        return -EEXIST;
    id = owner_as(args, process);
    owner = get_owner(id);
    if (!owner)
        return -ENOMEM;
    if (owner->machine && owner->machine != token)
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
    owner->machine = token;
    machine->claimed = 0;
    args->ret_owner = id;
    return 0;
}

static __always_inline int name_process(struct ledger_name *args)
{
    struct ledger_process *process = get_process(args->tgid, args->start);

    if (args->role != LEDGER_ROLE_USER)
        return name_role(args, process);
    return args->machine ? name_machine(args, process) : name_client(args, process);
}

/* Makes a process known: its role, or the machine and the tenant that it belongs to. */
SEC("syscall")
int control_name(struct ledger_name *args)
{
    int r = name_process(args);

    note_change();
    return r;
}

/* The device may be bound. The same again: only the flags are new, and who has bound it is kept. */
SEC("syscall")
int control_admit(struct ledger_admit *args)
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

/* What counted once, as another range's, counts for itself. */
static long count_range(void *map, const __u64 *key, struct ledger_pages *range, __u32 *tenant)
{
    if (range->tenant == *tenant)
        leave_place(range);
    return 0;
}

SEC("syscall")
int control_limit(struct ledger_limit *args)
{
    struct ledger_tenant new = {.limit = args->limit, .count = args->count}, *account;
    __u32 tenant = args->tenant;

    account = bpf_map_lookup_elem(&tenants, &tenant);
    if (account) {
        *(volatile __u64 *)&account->limit = args->limit;
        account->count = args->count;
        if (args->count == LEDGER_COUNT_CHARGED) {
            *(volatile __s64 *)&account->credit = 0;
            bpf_for_each_map_elem(&pages, count_range, &tenant, 0);
        }
        return 0;
    }
    return bpf_map_update_elem(&tenants, &tenant, &new, BPF_NOEXIST);
}

/* What the walk found to be mapped more than once, unless something was given back since. */
SEC("syscall")
int control_credit(struct ledger_credit *args)
{
    struct ledger_tenant *account;
    __u32 tenant = args->tenant;
    __s64 was;

    account = bpf_map_lookup_elem(&tenants, &tenant);
    if (!account)
        return -ENOENT;
    if (account->count == LEDGER_COUNT_CHARGED)
        return -EINVAL;
    was = *(volatile __s64 *)&account->credit;
    if (*(volatile __u64 *)&account->releases != args->releases)
        return -ESTALE;
    if (COMPARE_AND_SWAP(&account->credit, was, args->credit) != was)
        return -ESTALE;
    /* A release between the two looks has shrunk the old credit, not this one. */
    if (*(volatile __u64 *)&account->releases == args->releases)
        return 0;
    *(volatile __s64 *)&account->credit = 0;
    return -ESTALE;
}

/* The machine is gone; its owner's entry follows when nothing is left of it. */
SEC("syscall")
int control_forget(struct ledger_forget *args)
{
    __u32 token = args->machine, id;
    struct ledger_machine *machine = bpf_map_lookup_elem(&machines, &token);
    struct ledger_owner *owner;

    if (!machine)
        return -ENOENT;
    id = machine->owner;
    bpf_map_delete_elem(&machines, &token);
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

/* A range that was missed: what it counts may be counted already, as lost. */
__noinline int tenant_find(__u32 tenant, __s64 bytes)
{
    struct ledger_tenant *account = bpf_map_lookup_elem(&tenants, &tenant);
    __s64 lost, take;

    if (!account)
        return 0;
    lost = *(volatile __s64 *)&account->unsettled;
    take = lost < bytes ? lost : bytes;
    if (take > 0 && COMPARE_AND_SWAP(&account->unsettled, lost, lost - take) == lost)
        bytes -= take;
    __sync_fetch_and_add(&account->mapped, bytes);
    return 0;
}

/*
 * Whether there is a range of that length at the address. What has been let go of has no reference
 * left for as long as its memory is nothing else. Ranges come and go at the same addresses, so that
 * one that two looks have missed may be another one by now.
 */
static __always_inline bool is_alive(__u64 address, __u64 bytes)
{
    struct iopt_pages *range = (struct iopt_pages *)address;

    return BPF_CORE_READ(range, kref.refcount.refs.counter) > 0 &&
           BPF_CORE_READ(range, npages) << LEDGER_PAGE_SHIFT == bytes;
}

/* A range that the ledger has missed. */
static __always_inline int add_range(struct ledger_mend *args, struct ledger_state *counters)
{
    struct ledger_pages new = {
        .bytes = args->bytes,
        .context = args->context,
        .tenant = args->tenant,
    };
    struct ledger_owner *owner;
    __u64 key = args->pages;

    if (!is_alive(key, new.bytes))
        return -ESTALE;
    new.charge = new_charge(counters, args->is);
    new.owner = owner_of(args->tgid, args->start);
    if (bpf_map_update_elem(&pages, &key, &new, BPF_NOEXIST))
        return -ENOMEM;
    __sync_fetch_and_add(&counters->pages, 1);
    owner = get_owner(new.owner);
    if (owner)
        __sync_fetch_and_add(&owner->pages, 1);
    tenant_find(new.tenant, (__s64) new.bytes);
    book_bytes(new.context, new.owner, (__s64) new.bytes);
    return book_pages(new.context, new.owner, new.tenant, (__s64)args->is);
}

/* Where it was mapped to was not seen. What the range counts follows it; was: as it was, with its
 * charge mended. */
static __noinline int move_range_to(struct ledger_pages *entry, const struct ledger_pages *was,
                                    const struct ledger_mend *args)
{
    if (!entry || !was || !args)
        return -EINVAL;
    leave_place(entry);
    entry->context = args->context;
    entry->tenant = args->tenant;
    book_bytes(was->context, was->owner, -(__s64)was->bytes);
    book_bytes(args->context, was->owner, (__s64)was->bytes);
    tenant_add(was->tenant, -(__s64)was->bytes);
    tenant_find(args->tenant, (__s64)was->bytes);
    book_pages(was->context, was->owner, was->tenant, -(__s64)args->is);
    return book_pages(args->context, was->owner, args->tenant, (__s64)args->is);
}

/*
 * Corrects one range's entry, or adds it. Done only if the entry still is what the walk compared
 * with; a charge that comes in between is then not counted twice.
 */
SEC("syscall")
int control_mend(struct ledger_mend *args)
{
    struct ledger_state *counters = get_state();
    struct ledger_pages *entry, was;
    __u64 key = args->pages;

    if (!counters || args->is >= LEDGER_CHARGE_TAKEN)
        return -EINVAL;
    if (!args->known)
        return add_range(args, counters);
    entry = bpf_map_lookup_elem(&pages, &key);
    if (!entry || LEDGER_IS_TAKEN(args->was))
        return -ESTALE;
    /* Read before: once it has been exchanged, the entry may end at any time. */
    was = *entry;
    if (COMPARE_AND_SWAP(&entry->charge, args->was, LEDGER_CHARGE(args->was, args->is)) !=
        args->was)
        return -ESTALE;
    book_pages(was.context, was.owner, was.tenant,
               (__s64)args->is - (__s64)LEDGER_CHARGED(args->was));
    if (was.context == args->context && was.tenant == args->tenant)
        return 0;
    return move_range_to(entry, &was, args);
}

/* The object was nobody's, and somebody's it is. */
static __always_inline int name_object(struct ledger_object *entry, struct ledger_seed *args)
{
    __u32 id = owner_of(args->tgid, args->start);
    struct ledger_owner *owner = get_owner(id);

    if (!owner || COMPARE_AND_SWAP(&entry->owner, LEDGER_OWNER_NONE, id))
        return -EEXIST;
    __sync_fetch_and_add(&owner->objects, 1);
    return 0;
}

/* An object that the ledger did not see being made. tgid 0: nobody knows whose it is. */
SEC("syscall")
int control_seed(struct ledger_seed *args)
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
    /* Another may have come to the id since it was looked for. */
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

/* The end of a range was missed: what it counted is given back. */
SEC("syscall")
int control_drop(struct ledger_drop *args)
{
    __u64 key = args->pages;
    struct ledger_pages *entry = bpf_map_lookup_elem(&pages, &key);

    if (!entry)
        return -ENOENT;
    if (is_alive(key, entry->bytes))
        return -EBUSY;
    return take_range(entry, args->was) ? 0 : -ESTALE;
}

/* Makes a sum what the entries say, unless it has moved since they were looked at. */
SEC("syscall")
int control_balance(struct ledger_balance *args)
{
    __u32 tenant = args->tenant;
    struct ledger_tenant *account;
    struct ledger_book *book;

    if (!tenant) {
        book = get_book(args->context, args->owner);
        if (!book || *(volatile __u64 *)&book->moves != args->moves)
            return -ESTALE;
        COMPARE_AND_SWAP(&book->mapped, args->mapped_was, args->mapped_is);
        COMPARE_AND_SWAP(&book->pinned, args->pinned_was, args->pinned_is);
        return 0;
    }
    account = bpf_map_lookup_elem(&tenants, &tenant);
    if (!account || *(volatile __u64 *)&account->moves != args->moves)
        return -ESTALE;
    COMPARE_AND_SWAP(&account->pinned, args->pinned_was, args->pinned_is);
    return 0;
}

SEC("syscall")
int control_retire(struct ledger_retire *args)
{
    struct ledger_book_key key = args->book;
    struct ledger_book *book = bpf_map_lookup_elem(&books, &key), was;
    struct ledger_tenant *account;
    __u32 tenant = args->tenant;

    if (!book)
        return -ENOENT;
    was = *book;
    if (was.pinned || was.mapped)
        return -EBUSY;
    if (bpf_map_delete_elem(&books, &key))
        return -ENOENT;
    account = bpf_map_lookup_elem(&tenants, &tenant);
    if (!account)
        return 0;
    __sync_fetch_and_add(&account->maps, was.maps);
    __sync_fetch_and_add(&account->unmaps, was.unmaps);
    __sync_fetch_and_add(&account->refused, was.refused);
    return 0;
}

SEC("syscall")
int control_free(struct ledger_free *args)
{
    struct ledger_object_key key = {.context = args->context, .id = args->id};
    struct ledger_object *entry = bpf_map_lookup_elem(&objects, &key);
    __u64 span;

    /* Its id and its place may have been taken again since it was looked for. */
    if (!entry || entry->object != args->object)
        return -ESTALE;
    if (args->ictx && object_at(table_of(args->ictx), args->id, &span) == args->object)
        return -EBUSY;
    return free_object(args->context, args->id, args->object);
}

SEC("syscall")
int control_close(struct ledger_close *args)
{
    __u64 key = args->context;
    struct ledger_context *context = bpf_map_lookup_elem(&contexts, &key);

    if (!context || context->serial != args->serial)
        return -ESTALE;
    return close_context(key);
}

SEC("syscall")
int control_bury(struct ledger_bury *args)
{
    return get_process(args->tgid, args->start) ? end_process(args->tgid) : -ESTALE;
}

SEC("syscall")
int control_recount(struct ledger_recount *args)
{
    struct ledger_owner *owner = get_owner(args->owner);

    if (!owner)
        return -ENOENT;
    COMPARE_AND_SWAP(&owner->objects, args->objects_was, args->objects_is);
    COMPARE_AND_SWAP(&owner->pages, args->pages_was, args->pages_is);
    drop_owner_if_idle(args->owner);
    return 0;
}

/* Unless more was lost since the walk began, for which it can't have found a range. */
SEC("syscall")
int control_settle(struct ledger_settle *args)
{
    struct ledger_tenant *account;
    __u32 tenant = args->tenant;
    __s64 bytes;

    account = bpf_map_lookup_elem(&tenants, &tenant);
    if (!account)
        return -ENOENT;
    bytes = *(volatile __s64 *)&account->unsettled;
    if (*(volatile __u64 *)&account->losses != args->losses ||
        COMPARE_AND_SWAP(&account->unsettled, bytes, 0) != bytes)
        return -ESTALE;
    __sync_fetch_and_add(&account->mapped, -bytes);
    return 0;
}
