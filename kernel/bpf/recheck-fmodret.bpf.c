/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The re-check where it can refuse: functions of a module that allows it, and that sees to it that
 * these programs are never skipped (kernel/modules/guard-hooks.c). With any other iommufd those of
 * recheck-kprobe.bpf.c are loaded instead.
 *
 * What is refused here has done nothing yet, and what is checked is the kernel's own copy: who
 * changes an argument after the first check changes what is checked here.
 */
#include "objects.bpf.h"
#include "pages.bpf.h"
#include "recheck.bpf.h"

SEC("fmod_ret/iommud_guard_call")
int BPF_PROG(hook_call, struct iommufd_ctx *ictx, unsigned int cmd, unsigned long argument)
{
    return recheck_call((__u64)ictx, cmd, (const void *)argument, true);
}

SEC("fmod_ret/iommud_guard_object")
int BPF_PROG(hook_object, struct iommufd_ctx *ictx, struct iommufd_object *object)
{
    return recheck_object((__u64)ictx, object->id, (__u64)object, true);
}

/* Who makes something in the IOMMUFD: 0, or why it may not be. *ret_self is NULL where there is
 * nothing to check, and nothing is known of the thread. */
static __always_inline int begin_hook(__u64 ictx, struct task_state **ret_self, bool *ret_guarded)
{
    struct task_state *self = identify(ictx);

    *ret_self = self;
    *ret_guarded = self ? self->flags & LEDGER_CONTEXT_GUARDED : is_guarded(ictx);
    if (!*ret_guarded)
        return 0;
    if (!self)
        return -ENOMEM;
    return self->tenant_owner ? 0 : stop(ictx, 0, 0, true);
}

/* Nobody can name the object yet: its owner is noted before anybody can, or it is refused for want
 * of room. */
SEC("fmod_ret/iommud_guard_made")
int BPF_PROG(hook_made, struct iommufd_ctx *ictx, struct iommufd_object *object)
{
    struct task_state *self;
    bool guarded;
    int error = begin_hook((__u64)ictx, &self, &guarded);

    if (error)
        return error;
    if (guarded)
        error = reserve_object(self);
    if (!error)
        error = add_object((__u64)ictx, object->id, object->type, (__u64)object);
    return guarded ? error : 0;
}

SEC("fmod_ret/iommud_guard_gone")
int BPF_PROG(hook_gone, struct iommufd_ctx *ictx, struct iommufd_object *object)
{
    struct ledger_context *context = get_context(ictx);

    return context ? free_object(context->id, object->id, (__u64)object) : 0;
}

SEC("fmod_ret/iommud_guard_bind")
int BPF_PROG(hook_bind, struct iommufd_ctx *ictx, struct device *dev)
{
    return recheck_bind((__u64)ictx, (__u64)dev, true);
}

/* A range that the kernel has just made, of memory that it will pin: it is counted, and has its
 * entry, before anything else happens to it, or is refused. */
SEC("fmod_ret/iommud_guard_pages")
int BPF_PROG(hook_pages, struct iommufd_ctx *ictx, struct iopt_pages *range)
{
    struct task_state *self;
    bool guarded;
    int error = begin_hook((__u64)ictx, &self, &guarded);

    if (error)
        return error;
    if (self)
        self->mapping = (__u64)ictx;
    if (guarded && self) {
        self->phase = PHASE_CHECKED;
        error = reserve(self, range->npages << LEDGER_PAGE_SHIFT, range, NULL);
    }
    if (!error)
        error = add_pages_of(self, range, range->npages);
    if (self) {
        self->phase = PHASE_NONE;
        self->mapping = 0;
    }
    return guarded ? error : 0;
}
