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

static __always_inline void move_pinned(__u32 tenant_id, __s64 pages)
{
    struct ledger_tenant *tenant = get_tenant(tenant_id);

    if (!tenant)
        return;
    __sync_fetch_and_add(&tenant->moves, 1);
    __sync_fetch_and_add(&tenant->pinned, pages);
}

/* What was mapped before the context had its tenant is the tenant's now. */
static long move_range(void *map, const __u64 *key, struct ledger_pages *range, struct move *move)
{
    __u64 charge = READ_ONCE(range->charge), charged = LEDGER_CHARGED(charge);
    __u32 from = range->tenant;

    if (LEDGER_IS_TAKEN(charge) || range->context != move->context || from == move->tenant)
        return 0;
    move_share(range, move->tenant, machine_for(get_owner(range->owner), move->tenant));
    move_pinned(from, -(__s64)charged);
    move_pinned(move->tenant, (__s64)charged);
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

struct join {
    __u32 owner;
    __u32 machine;
    __u32 tenant;
};

static long join_range(void *map, const __u64 *key, struct ledger_pages *range, struct join *join)
{
    if (range->owner == join->owner && range->tenant == join->tenant &&
        !LEDGER_SHARE_MACHINE(READ_ONCE(range->share)))
        move_share(range, join->tenant, join->machine);
    return 0;
}

/* What the owner has mapped before it was the machine counts as the machine's. Its threads know who
 * they are already: what they map from now on is not among it. */
static __noinline int join_ranges(__u32 owner_id, __u32 machine_id, __u32 tenant_id)
{
    struct join join = {.owner = owner_id, .machine = machine_id, .tenant = tenant_id};

    note_change();
    bpf_for_each_map_elem(&pages, join_range, &join, 0);
    return 0;
}

static __always_inline int name_machine(struct control_name_process *args,
                                        struct ledger_process *process)
{
    __u32 machine_id = args->machine, id = process ? process->owner : LEDGER_OWNER_NONE, was;
    struct ledger_machine *machine = get_machine(machine_id);
    struct ledger_owner *owner, *other;
    bool joins;
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
    joins = machine->has_others || !owner->machine;
    owner->machine = machine_id;
    machine->claimed_by_bind = machine->has_others = 0;
    if (joins && owner->pages > 0)
        join_ranges(id, machine_id, machine->tenant);
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
    struct ledger_tenant new = {.budget.limit = args->limit, .count = args->count};
    struct ledger_tenant *tenant = get_tenant(args->tenant);
    struct ledger_state *counters = get_state();
    __u32 tenant_id = args->tenant;

    if (counters && args->count == LEDGER_COUNT_UNIQUE)
        WRITE_ONCE(counters->counts_unique, 1);
    if (!tenant)
        return bpf_map_update_elem(&tenants, &tenant_id, &new, BPF_NOEXIST);
    WRITE_ONCE(tenant->budget.limit, args->limit);
    tenant->count = args->count;
    if (args->count == LEDGER_COUNT_CHARGED) {
        WRITE_ONCE(tenant->budget.credit, 0);
        bpf_for_each_map_elem(&pages, count_range, &tenant_id, 0);
    }
    return 0;
}

/* The host's limit. */
SEC("syscall")
int control_set_budget(struct control_set_budget *args)
{
    struct ledger_budget *budget = get_host();

    if (!budget)
        return -ENOENT;
    WRITE_ONCE(budget->limit, args->limit);
    return 0;
}

/* Sets what is promised to the machine; who maps meanwhile, or makes it another promise, is no
 * obstacle. */
SEC("syscall")
int control_follow_limit(struct control_follow_limit *args)
{
    struct ledger_machine *machine = get_machine(args->machine);

    if (!machine)
        return -ENOENT;
    WRITE_ONCE(machine->plug_reserved, args->reserved);
    /* Last, with a full barrier: who sees it has the other, too. */
    __sync_lock_test_and_set(&machine->plug_limit, args->limit);
    return 0;
}

SEC("syscall")
int control_reserve_machine(struct control_reserve_machine *args)
{
    struct promise_change change = {.bytes = args->bytes, .forced = args->forced};
    struct ledger_machine *machine = get_machine(args->machine);
    struct budget_answer answer = {.left = LEDGER_NO_LIMIT};
    struct ledger_tenant *tenant = machine ? get_tenant(machine->tenant) : NULL;
    int r = -ESTALE;

    if (!machine || !tenant)
        return -ENOENT;
    for (int i = 0; i < TRIES && r == -ESTALE; i++) {
        change.expected = READ_ONCE(machine->reserved);
        r = promise_set(machine, &tenant->budget, get_host(), &change, &answer);
    }
    args->ret_left = answer.left;
    args->ret_of_host = answer.of_host;
    return r;
}

/* The machine is gone, and what was promised to it goes back; its owner's entry follows when
 * nothing is left of it. Its own entry stays, closed, until no program can still know it
 * (machines.c). */
SEC("syscall")
int control_remove_machine(struct control_remove_machine *args)
{
    struct ledger_machine *machine = get_machine(args->machine);
    struct ledger_tenant *tenant;
    struct ledger_owner *owner;
    __u32 id;

    if (!machine)
        return -ENOENT;
    id = machine->owner;
    tenant = get_tenant(machine->tenant);
    machine_close(machine, tenant ? &tenant->budget : NULL, get_host());
    owner = get_owner(id);
    if (owner) {
        owner->machine = 0;
        drop_owner_if_idle(id);
    }
    note_change();
    return 0;
}
