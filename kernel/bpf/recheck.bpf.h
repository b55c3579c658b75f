/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The guard's second look, with what the kernel itself has copied, and which nobody can change any
 * more. Whatever led here is checked as if nobody had looked before: the first look may have seen
 * another argument, or may have been skipped, or the way may be one that it does not know.
 */
#pragma once

#include "guard.bpf.h"

/*
 * The kernel has copied something else than the guard has seen, and nobody can refuse it any more
 * (recheck-kprobe.bpf.c). The process dies before it returns to its own code, and the event tells iommud to
 * clean up what the call has done.
 */
static __noinline int tampered(__u64 ictx, __u32 id, __u32 owner, __u64 asked, __u64 checked)
{
    struct ledger_context *context = bpf_map_lookup_elem(&contexts, &ictx);
    struct call *call = get_call(true);
    struct report report = {
        .kind = LEDGER_EVENT_TAMPERED,
        .asked = asked,
        .left = checked,
        .id = id,
        .owner = owner,
    };

    if (!call || call->tampered)
        return -EACCES;
    call->tampered = 1;
    report.command = call->command;
    if (context) {
        report.context = context->serial;
        report.tenant = context->tenant;
        report.object_machine = machine_of_object(context->serial, id);
    }
    COUNT(tampered);
    bpf_send_signal(SIGKILL);
    send_event(&report);
    return -EACCES;
}

/* What is not to be: it is refused, or its caller killed where the kernel does not let it be
 * refused any more. */
static __noinline int stop(__u64 ictx, __u32 id, __u32 owner, bool exact)
{
    struct call *call = get_call(true);

    if (!call)
        return -ENOMEM;
    return exact ? refuse(owner, ictx, call->command, id, -EACCES)
                 : tampered(ictx, id, owner, 0, 0);
}

/* Who it is now where it can be refused; else who the first look has let through. */
static __always_inline struct call *identify_again(__u64 ictx, bool exact)
{
    return exact ? identify(ictx) : identify_inside(ictx);
}

/* object 0: whatever there is under the id. */
static __noinline int check_object(__u64 ictx, __u32 id, __u64 object, bool exact)
{
    struct call *call = identify_again(ictx, exact);

    if (!call)
        return is_guarded(ictx) ? -ENOMEM : 0;
    if (!(call->flags & LEDGER_CONTEXT_GUARDED) || call->owner == LEDGER_OWNER_SERVICE)
        return 0;
    if (!(object ? may_have(call->serial, id, object, call->owner)
                 : may_name(ictx, call->serial, id, call->owner)))
        return 0;
    return stop(ictx, id, call->owner, exact);
}

/* Of memory that counts once: the very same that is held. */
static __always_inline bool is_held(const struct call *call, __u64 start, __u64 length)
{
    struct ledger_place *place = get_place(call->place);

    return !place || (place->start == (start & ~(LEDGER_PAGE_SIZE - 1)) &&
                      place->bytes == whole_pages(start, length));
}

/* Where it can't be refused, what is mapped has to have been reserved, and is now if the first look
 * was skipped. Where to is noted, which the range itself does not say when it comes. */
static __noinline int check_length(__u64 ictx, __u64 start, __u64 length)
{
    __u64 bytes = (start & (LEDGER_PAGE_SIZE - 1)) + length;
    struct call *call = identify_inside(ictx);

    if (!call)
        return is_guarded(ictx) ? -ENOMEM : 0;
    call->mapping = ictx;
    if (!(call->flags & LEDGER_CONTEXT_GUARDED) || !length || length > LONGEST ||
        (bytes <= call->may_map && is_held(call, start, length)))
        return 0;
    /* Nothing at all was let through when the first look was skipped, even if an earlier call's
     * mark is still there: then it is no difference to be killed for. */
    if (call->stage == STAGE_CHECKED && call->may_map)
        return tampered(ictx, 0, call->owner, bytes, call->may_map);
    if (call->owner != LEDGER_OWNER_SERVICE && reserve_argument(call, start, length, 0))
        tampered(ictx, 0, call->owner, bytes, 0);
    return 0;
}

/* Which device is bound to which context, whichever number its file had. A device that was admitted
 * for a machine goes nowhere but into its tenant's IOMMUFD. */
static __noinline int check_bind(__u64 ictx, __u64 device, bool exact)
{
    struct ledger_device_key key = {};
    struct call *call;
    __u32 owner;

    name_device((struct device *)device, &key);
    if (!is_guarded(ictx)) {
        if (!bpf_map_lookup_elem(&devices, &key) || current_role() == LEDGER_ROLE_SERVICE)
            return 0;
        owner = current_owner(true);
    } else {
        call = identify_again(ictx, exact);
        if (!call)
            return -ENOMEM;
        owner = call->owner;
        if (owner == LEDGER_OWNER_SERVICE || !claim_device(&key, call->tenant, owner, true))
            return 0;
    }
    return stop(ictx, 0, owner, exact);
}

/* An ioctl as a whole: those that name nothing, but do it to the whole IOMMUFD. */
static __noinline int check_call(__u64 ictx, __u32 command, const void *argument, bool exact)
{
    union argument copy = {};
    struct call *call;
    int error;

    switch (command & 0xff) {
    case NR_OPTION:
    case NR_VFIO_IOAS:
        bpf_probe_read_kernel(&copy, 12, argument);
        break;
    case NR_CHANGE_PROCESS:
        break;
    default:
        return 0;
    }
    call = identify_again(ictx, exact);
    if (!call)
        return is_guarded(ictx) ? -ENOMEM : 0;
    if (!(call->flags & LEDGER_CONTEXT_GUARDED))
        return 0;
    if (!call->owner)
        return stop(ictx, 0, 0, exact);
    error = check_global(command & 0xff, &copy, call->flags, LEDGER_GUARD_KNOWN);
    if (!error || call->owner == LEDGER_OWNER_SERVICE)
        return 0;
    call->command = command;
    stop(ictx, 0, call->owner, exact);
    return error;
}
