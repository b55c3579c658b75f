/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The ledger: who owns which object of which IOMMUFD, and how many pages the kernel has pinned for
 * whom.
 *
 * All of it is taken from what the kernel has copied and decided already; nothing is refused. A
 * program on a trampoline is skipped while another task on the same processor is in the middle of
 * it. What is missed that way stays counted where a limit depends on it (leak_reservation()), is
 * refused to everybody where it is an object (check_id()), and is found by the next reconciliation.
 */
#include "objects.bpf.h"
#include "pages.bpf.h"

SEC("fexit/iommufd_fops_open")
int BPF_PROG(ledger_open, struct inode *inode, struct file *filp, int ret)
{
    __u64 ictx;

    if (ret)
        return 0;
    ictx = (__u64)BPF_CORE_READ(filp, private_data);
    /* An entry at this address is that of a context whose end was missed. */
    close_context(ictx);
    make_context(ictx);
    note_change();
    return 0;
}

/*
 * The last reference is gone, nobody else is in the context. The entries go before the kernel frees
 * the structure, since a new one may get its address at once. Its pages are uncharged after this,
 * each range by itself.
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
    struct task_state *self = get_task_state(false);

    if (!self)
        return 0;
    if (ret)
        release_reservation(self);
    else
        leak_reservation(self); /* nothing is left of it, unless a hook was skipped */
    self->phase = PHASE_NONE;
    self->command = 0;
    self->argument_changed = 0;
    self->mapping = 0;
    return 0;
}

/* It moves what is charged from one process to another, range by range. */
SEC("fentry/iommufd_ioas_change_process")
int BPF_PROG(ledger_change_process, struct iommufd_ucmd *ucmd)
{
    struct task_state *self = identify_inside((__u64)ucmd->ictx);

    if (self)
        self->changing = 1;
    return 0;
}

SEC("fexit/iommufd_ioas_change_process")
int BPF_PROG(ledger_process_changed)
{
    struct task_state *self = get_task_state(false);

    if (self)
        self->changing = 0;
    return 0;
}

/* Where to is mapped, if no guard notes it (check_length()). */
static __always_inline int note_mapping(const struct iommufd_ctx *ictx)
{
    struct task_state *self = identify_inside((__u64)ictx);

    if (self)
        self->mapping = (__u64)ictx;
    return 0;
}

SEC("fentry/iopt_map_user_pages")
int BPF_PROG(ledger_map_user, struct iommufd_ctx *ictx)
{
    return note_mapping(ictx);
}

SEC("fentry/iopt_map_file_pages")
int BPF_PROG(ledger_map_file, struct iommufd_ctx *ictx)
{
    return note_mapping(ictx);
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
static __always_inline int abort_object(const struct iommufd_ctx *ictx,
                                        struct iommufd_object *object)
{
    struct ledger_context *context = get_context(ictx);

    return context ? free_object(context->id, BPF_CORE_READ(object, id), (__u64)object) : 0;
}

SEC("fentry/iommufd_object_abort")
int BPF_PROG(ledger_object_abort, struct iommufd_ctx *ictx, struct iommufd_object *object)
{
    return abort_object(ictx, object);
}

/* Calls the other one, which a compiler may have put inside it. */
SEC("fentry/iommufd_object_abort_and_destroy")
int BPF_PROG(ledger_object_abort_2, struct iommufd_ctx *ictx, struct iommufd_object *object)
{
    return abort_object(ictx, object);
}

SEC("fentry/iommufd_object_remove")
int BPF_PROG(ledger_object_remove, struct iommufd_ctx *ictx, struct iommufd_object *to_destroy,
             unsigned int id)
{
    struct ledger_context *context = get_context(ictx);
    struct ledger_object_key key = {.id = id};
    struct ledger_object *entry;
    struct task_state *self;

    if (!context)
        return 0;
    self = get_task_state(true);
    if (!self)
        return 0;
    key.context = context->id;
    entry = bpf_map_lookup_elem(&objects, &key);
    self->removing = entry ? entry->object : 0;
    return 0;
}

SEC("fexit/iommufd_object_remove")
int BPF_PROG(ledger_object_removed, struct iommufd_ctx *ictx, struct iommufd_object *to_destroy,
             unsigned int id, unsigned int flags, int ret)
{
    struct ledger_context *context = get_context(ictx);
    struct task_state *self = get_task_state(false);

    if (ret || !context || !self)
        return 0;
    free_object(context->id, id, self->removing);
    self->removing = 0;
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

/* It has four arguments, or five since 7.2, so that what it returns has no fixed position. */
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
int BPF_PROG(ledger_release_pages)
{
    __u64 kref;

    if (!bpf_get_func_arg(ctx, 0, &kref))
        forget_pages(kref);
    return 0;
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

/*
 * What an owner forks belongs to it: ledger_fork adds the child's entry. From Linux 7.0 on
 * tracepoints can be preempted, and the kernel then skips the program for what another task forks
 * on the same processor. It never skips a program of the BPF LSM, but when that one runs the child
 * has no pid yet to be entered under: it leaves the owner with the child's task, and inherit() adds
 * the entry at the child's first use.
 *
 * A thread is no process of its own. current_process() adds the entry of its process, if that was
 * forked without one.
 */
static __always_inline int leave_to_child(struct task_struct *child, __u64 flags)
{
    struct ledger_process *process = current_process();
    __u32 *parent;

    if (!process || process->role != LEDGER_ROLE_USER || flags & CLONE_THREAD)
        return 0;
    parent = bpf_task_storage_get(&parents, child, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
    if (parent)
        *parent = process->owner;
    return 0;
}

SEC("lsm/task_alloc")
int BPF_PROG(ledger_birth, struct task_struct *child, unsigned long flags, int ret)
{
    return ret ? ret : leave_to_child(child, flags);
}

SEC("fmod_ret/security_task_alloc")
int BPF_PROG(ledger_birth_no_lsm, struct task_struct *child, unsigned long flags, int ret)
{
    return ret ? ret : leave_to_child(child, flags);
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(ledger_fork, struct task_struct *parent, struct task_struct *child)
{
    struct ledger_process *process;
    struct ledger_owner *owner;
    __u32 tgid = child->tgid;

    if ((__u32)parent->tgid == tgid)
        return 0;
    process = current_process();
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
    struct task_state *self = get_task_state(false);

    if (self)
        leak_reservation(self);
    if (BPF_CORE_READ(task, signal, live.counter) > 0)
        return 0;
    return end_process(task->tgid);
}
