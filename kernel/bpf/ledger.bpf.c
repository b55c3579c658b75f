/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The ledger: who owns which object of which IOMMUFD, and how many pages the kernel has pinned
 * for whom.
 *
 * Everything is taken from what the kernel has copied and decided already; it refuses nothing. A
 * program here is skipped while another task on the same processor is in the middle of it: what is
 * missed that way stays counted where a limit depends on it (tenant_lose()), is refused to
 * everybody where it is an object (may_name()), and is found by the next walk.
 */
#include "recheck.bpf.h"

/* Frees an object's entry, if it is still about this object and not about one that came since. */
static __noinline int free_object(__u32 context, __u32 id, __u64 object)
{
    struct ledger_object_key key = {.context = context, .id = id};
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

static long forget_object(__u32 index, void *data)
{
    struct ledger_object_key key = {.context = *(__u32 *)data, .id = index + 1};
    struct ledger_object *entry = bpf_map_lookup_elem(&objects, &key);

    if (!entry)
        return 0;
    free_object(key.context, key.id, entry->object);
    remove_object_entry(&key);
    return 0;
}

__noinline int close_context(__u64 ictx)
{
    struct ledger_context *context = bpf_map_lookup_elem(&contexts, &ictx);
    __u32 serial;

    if (!context)
        return 0;
    serial = context->serial;
    bpf_loop(context->max_id, forget_object, &serial, 0);
    bpf_map_delete_elem(&contexts, &ictx);
    note_change();
    return 0;
}

SEC("fexit/iommufd_fops_open")
int BPF_PROG(ledger_open, struct inode *inode, struct file *filp, int ret)
{
    __u64 ictx;

    if (ret)
        return 0;
    ictx = (__u64)BPF_CORE_READ(filp, private_data);
    /* Whatever is known about this address is about a context whose end was missed. */
    close_context(ictx);
    make_context(ictx);
    note_change();
    return 0;
}

/*
 * The last reference is gone, nobody else is in the context. The entries go before the kernel
 * frees the structure, since a new one may get its address at once. The pages are uncharged after
 * this, each range on its own.
 */
SEC("fentry/iommufd_fops_release")
int BPF_PROG(ledger_release, struct inode *inode, struct file *filp)
{
    close_context((__u64)BPF_CORE_READ(filp, private_data));
    return 0;
}

/* The end of every ioctl, which may have reserved something. */
SEC("fexit/iommufd_fops_ioctl")
int BPF_PROG(ledger_ioctl_done, struct file *filp, unsigned int cmd, unsigned long arg, long ret)
{
    struct call *call = get_call(false);

    if (!call)
        return 0;
    if (ret)
        refund(call);
    else
        lose(call); /* nothing is left to lose, unless a hook was skipped */
    call->stage = STAGE_NONE;
    call->command = 0;
    call->tampered = 0;
    call->mapping = 0;
    return 0;
}

/* It moves what is charged from one process to another, range by range. */
SEC("fentry/iommufd_ioas_change_process")
int BPF_PROG(ledger_change_process, struct iommufd_ucmd *ucmd)
{
    struct call *call = identify_inside((__u64)ucmd->ictx);

    if (call)
        call->changing = 1;
    return 0;
}

SEC("fexit/iommufd_ioas_change_process")
int BPF_PROG(ledger_process_changed)
{
    struct call *call = get_call(false);

    if (call)
        call->changing = 0;
    return 0;
}

/* Where to is mapped, if there is no guard that notes it (check_length()). */
static __always_inline int note_mapping(const struct iommufd_ctx *ictx)
{
    struct call *call = identify_inside((__u64)ictx);

    if (call)
        call->mapping = (__u64)ictx;
    return 0;
}

SEC("fentry/iopt_map_user_pages")
int BPF_PROG(ledger_alone_map_user, struct iommufd_ctx *ictx)
{
    return note_mapping(ictx);
}

SEC("fentry/iopt_map_file_pages")
int BPF_PROG(ledger_alone_map_file, struct iommufd_ctx *ictx)
{
    return note_mapping(ictx);
}

/* 0, or -ENOMEM: it is not known whose it is. */
static __noinline int add_object(__u64 ictx, __u32 id, __u32 type, __u64 object)
{
    struct ledger_context *context = make_context(ictx);
    struct ledger_object_key key = {.id = id};
    struct ledger_object new = {}, *entry;
    struct ledger_owner *owner;
    __u32 seen, was;

    if (!context)
        return -ENOMEM;
    key.context = context->serial;
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
    /* In place, the address last: an older object's removal can't take the new entry with it. */
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

    seen = *(volatile __u32 *)&context->max_id;
    for (int i = 0; i < TRIES && seen < key.id; i++) {
        was = COMPARE_AND_SWAP(&context->max_id, seen, key.id);
        if (was == seen)
            break;
        seen = was;
    }
    return 0;
}

SEC("fexit/_iommufd_object_alloc")
int BPF_PROG(ledger_object, struct iommufd_ctx *ictx, unsigned long size, unsigned int type,
             struct iommufd_object *object)
{
    if (!is_error(object))
        add_object((__u64)ictx, BPF_CORE_READ(object, id), type, (__u64)object);
    return 0;
}

/* An object that was never published: its creation failed. */
SEC("fentry/iommufd_object_abort")
int BPF_PROG(ledger_object_abort, struct iommufd_ctx *ictx, struct iommufd_object *object)
{
    struct ledger_context *context = get_context(ictx);

    if (context)
        free_object(context->serial, BPF_CORE_READ(object, id), (__u64)object);
    return 0;
}

/* Calls the other one, which a compiler may have put inside it. */
SEC("fentry/iommufd_object_abort_and_destroy")
int BPF_PROG(ledger_object_abort_2, struct iommufd_ctx *ictx, struct iommufd_object *object)
{
    struct ledger_context *context = get_context(ictx);

    if (context)
        free_object(context->serial, BPF_CORE_READ(object, id), (__u64)object);
    return 0;
}

SEC("fentry/iommufd_object_remove")
int BPF_PROG(ledger_object_remove, struct iommufd_ctx *ictx, struct iommufd_object *to_destroy,
             unsigned int id)
{
    struct ledger_context *context = get_context(ictx);
    struct ledger_object_key key = {.id = id};
    struct ledger_object *entry;
    struct call *call;

    if (!context)
        return 0;
    call = get_call(true);
    if (!call)
        return 0;
    key.context = context->serial;
    entry = bpf_map_lookup_elem(&objects, &key);
    call->removing = entry ? entry->object : 0;
    return 0;
}

SEC("fexit/iommufd_object_remove")
int BPF_PROG(ledger_object_removed, struct iommufd_ctx *ictx, struct iommufd_object *to_destroy,
             unsigned int id, unsigned int flags, int ret)
{
    struct ledger_context *context = get_context(ictx);
    struct call *call = get_call(false);

    if (ret || !context || !call)
        return 0;
    free_object(context->serial, id, call->removing);
    call->removing = 0;
    return 0;
}

/*
 * The new range takes over what was reserved for it: the place that is held for this very memory,
 * or bytes of its own.
 */
static __always_inline void take_reserved(struct call *call, struct iopt_pages *range,
                                          struct ledger_pages *new)
{
    struct ledger_place *place = get_place(call->place);
    struct memory memory = {.tenant = new->tenant};
    __u64 reserved = call->reserved;
    __u32 number = call->place;

    call->place = 0;
    call->reserved = call->may_map = 0;
    if (place) {
        describe_memory(range, &memory);
        if (is_about(place, &memory)) {
            new->place = number;
            return;
        }
        /* The file behind the number is another by now, and nobody could refuse it. */
        tenant_release(new->tenant, drop_place(number));
        tampered(call->mapping, 0, call->owner, new->bytes, 0);
    }
    if (new->bytes != reserved)
        tenant_add(new->tenant, (__s64)(new->bytes - reserved));
}

/* A memory range: what it counts, and what was reserved for it. */
static __always_inline int add_pages(struct iopt_pages *range, __u64 npages)
{
    struct ledger_state *counters = get_state();
    struct call *call = get_call(false);
    struct ledger_pages new = {.bytes = npages << LEDGER_PAGE_SHIFT};
    struct ledger_owner *owner;
    struct ledger_book *book;
    __u64 key = (__u64)range;

    if (!counters)
        return 0;
    new.charge = new_charge(counters, 0);
    call = call ? identify_inside(call->mapping) : NULL;
    if (call) {
        new.context = call->serial;
        new.tenant = call->tenant;
        new.owner = call->maker;
        take_reserved(call, range, &new);
    } else {
        new.owner = current_owner(true);
    }
    if (bpf_map_update_elem(&pages, &key, &new, BPF_NOEXIST)) {
        /* Is it full, or has it an older range at this address, whose end was missed? */
        forget_pages(key);
        if (bpf_map_update_elem(&pages, &key, &new, BPF_NOEXIST)) {
            if (new.place && !drop_place(new.place))
                tenant_add(new.tenant, (__s64) new.bytes);
            tenant_lose(new.tenant, new.bytes);
            __sync_fetch_and_add(&counters->lost_pages, 1);
            /* One that a look is about to remove is in the way: the next look finds the range. */
            return bpf_map_lookup_elem(&pages, &key) ? 0 : -ENOMEM;
        }
    }
    __sync_fetch_and_add(&counters->pages, 1);
    owner = get_owner(new.owner);
    if (owner)
        __sync_fetch_and_add(&owner->pages, 1);
    book = book_bytes(new.context, new.owner, (__s64) new.bytes);
    if (book)
        __sync_fetch_and_add(&book->maps, 1);
    return 0;
}

SEC("fexit/iopt_alloc_user_pages")
int BPF_PROG(ledger_user_pages, void *uptr, unsigned long length, bool writable,
             struct iopt_pages *range)
{
    if (!is_error(range))
        add_pages(range, range->npages);
    return 0;
}

/* It has four arguments, or five since 7.2; what it returns is asked for, not counted to. */
SEC("fexit/iopt_alloc_file_pages")
int BPF_PROG(ledger_file_pages)
{
    struct iopt_pages *range;
    __u64 returned;

    if (bpf_get_func_ret(ctx, &returned))
        return 0;
    range = (struct iopt_pages *)returned;
    if (!is_error(range))
        add_pages(range, BPF_CORE_READ(range, npages));
    return 0;
}

/* Until 6.12 there was no other kind than of user memory. */
SEC("fexit/iopt_alloc_pages")
int BPF_PROG(ledger_pages_6_12, void *uptr, unsigned long length, bool writable,
             struct iopt_pages *range)
{
    if (!is_error(range))
        add_pages(range, range->npages);
    return 0;
}

/* kref is the first member of struct iopt_pages. */
SEC("fentry/iopt_release_pages")
int BPF_PROG(ledger_release_pages, void *kref)
{
    forget_pages((__u64)kref);
    return 0;
}

/*
 * A charge or uncharge of what is not in the map. CHANGE_PROCESS charges the new process through a
 * structure on its stack. Anything else is a range that found the map full, whose hook was skipped,
 * or that is older than the ledger: it is counted as a whole when the walk finds it.
 */
static __noinline int update_unknown(struct iopt_pages *range, __s64 delta)
{
    struct call *call = get_call(false);
    struct ledger_context *context;
    struct ledger_process *process;
    struct task_struct *task;

    if (!call || !call->changing)
        return 0;
    task = BPF_CORE_READ(range, source_task);
    process = get_process(BPF_CORE_READ(task, tgid), start_ticks(task));
    context = get_context((void *)call->context);
    return book_pages(context ? context->serial : 0, process ? process->owner : LEDGER_OWNER_NONE,
                      context ? context->tenant : 0, delta);
}

/*
 * The kernel's one place of accounting. A charge counts when it succeeded. What is uncharged is
 * unpinned whatever is returned: a dead process's pages give -EINVAL.
 */
static __always_inline int update_pinned(struct iopt_pages *range, unsigned long npages, bool inc,
                                         int ret)
{
    __u64 key = (__u64)range, is, was;
    struct ledger_pages *entry;
    bool stored = false;
    struct call *call;
    __u32 owner;

    if (inc && ret)
        return 0;
    entry = bpf_map_lookup_elem(&pages, &key);
    if (!entry)
        return update_unknown(range, inc ? (__s64)npages : -(__s64)npages);
    /* What there is now, not what has changed: a walk may have seen it, and mended the entry, since
     * the kernel has changed its own count. */
    is = range->npinned;
    for (int i = 0; i < TRIES && !stored; i++) {
        was = *(volatile __u64 *)&entry->charge;
        if (LEDGER_IS_TAKEN(was))
            return 0;
        stored = COMPARE_AND_SWAP(&entry->charge, was, LEDGER_CHARGE(was, is)) == was;
    }
    if (!stored)
        return 0;
    was = LEDGER_CHARGED(was);
    if (is != was)
        return book_pages(entry->context, entry->owner, entry->tenant, (__s64)(is - was));
    call = get_call(false);
    if (inc || !call || !call->changing)
        return 0;
    /* The old process is uncharged, the pages stay pinned and belong to the caller now. */
    owner = entry->owner;
    move_pages(entry, current_owner(true));
    return book_pages(entry->context, owner, entry->tenant, -(__s64)npages);
}

SEC("fexit/iopt_pages_update_pinned")
int BPF_PROG(ledger_pinned, struct iopt_pages *range, unsigned long npages, bool inc, void *user,
             int ret)
{
    return update_pinned(range, npages, inc, ret);
}

/* Its name until 6.13. */
SEC("fexit/do_update_pinned")
int BPF_PROG(ledger_pinned_6_12, struct iopt_pages *range, unsigned long npages, bool inc,
             void *user, int ret)
{
    return update_pinned(range, npages, inc, ret);
}

/* What an owner forks belongs to it. A thread is no process of its own. */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(ledger_fork, struct task_struct *parent, struct task_struct *child)
{
    struct ledger_process *process;
    struct ledger_owner *owner;
    __u32 tgid = child->tgid;

    if ((__u32)parent->tgid == tgid)
        return 0;
    process = get_process(parent->tgid, start_ticks(parent));
    if (!process || process->role != LEDGER_ROLE_USER)
        return 0;
    owner = get_owner(process->owner);
    if (owner && owner->processes < PROCESSES_PER_OWNER)
        add_process(tgid, start_ticks(child), process->owner, LEDGER_ROLE_USER);
    return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(ledger_exit, struct task_struct *task)
{
    struct call *call;

    call = bpf_task_storage_get(&calls, bpf_get_current_task_btf(), NULL, 0);
    if (call)
        lose(call);
    if (BPF_CORE_READ(task, signal, live.counter) > 0)
        return 0;
    return end_process(task->tgid);
}
