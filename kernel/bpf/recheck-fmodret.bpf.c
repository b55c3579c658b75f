/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The second look where it can refuse: functions of a module that allows it, and that sees to it
 * that these programs are never skipped (kernel/modules/guard-hooks.c). With any other iommufd
 * these are not loaded, but those of recheck-kprobe.bpf.c.
 *
 * What is refused here has done nothing yet, and what it was is the kernel's own copy: whoever
 * changes an argument changes what is checked, and no more.
 */
#include "recheck.bpf.h"

SEC("fmod_ret/iommud_guard_call")
int BPF_PROG(point_call, struct iommufd_ctx *ictx, unsigned int cmd, unsigned long argument)
{
    return check_call((__u64)ictx, cmd, (const void *)argument, true);
}

SEC("fmod_ret/iommud_guard_object")
int BPF_PROG(point_object, struct iommufd_ctx *ictx, struct iommufd_object *object)
{
    return check_object((__u64)ictx, object->id, (__u64)object, true);
}

/* Who makes something in the IOMMUFD: 0, or why it may not be. *ret_call is NULL where there is
 * nothing to check, and nothing known of the thread. */
static __always_inline int begin_point(__u64 ictx, struct call **ret_call, bool *ret_guarded)
{
    struct call *call = identify(ictx);

    *ret_call = call;
    *ret_guarded = call ? call->flags & LEDGER_CONTEXT_GUARDED : is_guarded(ictx);
    if (!*ret_guarded)
        return 0;
    if (!call)
        return -ENOMEM;
    return call->owner ? 0 : stop(ictx, 0, 0, true);
}

/* Whose an object is, and whether there is room to know that, is certain before anybody can name
 * it. */
SEC("fmod_ret/iommud_guard_made")
int BPF_PROG(point_made, struct iommufd_ctx *ictx, struct iommufd_object *object)
{
    struct call *call;
    bool guarded;
    int error = begin_point((__u64)ictx, &call, &guarded);

    if (error)
        return error;
    if (guarded)
        error = reserve_object(call);
    if (!error)
        error = add_object((__u64)ictx, object->id, object->type, (__u64)object);
    return guarded ? error : 0;
}

SEC("fmod_ret/iommud_guard_gone")
int BPF_PROG(point_gone, struct iommufd_ctx *ictx, struct iommufd_object *object)
{
    struct ledger_context *context = get_context(ictx);

    return context ? free_object(context->serial, object->id, (__u64)object) : 0;
}

SEC("fmod_ret/iommud_guard_bind")
int BPF_PROG(point_bind, struct iommufd_ctx *ictx, struct device *dev)
{
    return check_bind((__u64)ictx, (__u64)dev, true);
}

/*
 * A range that the kernel has just made, of memory that it will pin: counted, and in the books,
 * before anything else happens to it, or let go of at once.
 */
SEC("fmod_ret/iommud_guard_pages")
int BPF_PROG(point_pages, struct iommufd_ctx *ictx, struct iopt_pages *range)
{
    struct call *call;
    bool guarded;
    int error = begin_point((__u64)ictx, &call, &guarded);

    if (error)
        return error;
    if (call)
        call->mapping = (__u64)ictx;
    if (guarded && call) {
        call->stage = STAGE_CHECKED;
        error = reserve(call, range->npages << LEDGER_PAGE_SHIFT, range, NULL);
    }
    if (!error)
        error = add_pages(range, range->npages);
    if (call) {
        call->stage = STAGE_NONE;
        call->mapping = 0;
    }
    return guarded ? error : 0;
}
