/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The guard's second look, with what the kernel itself has copied, and which nobody can change any
 * more. Whatever led here is checked as if nobody had looked before: the first look may have seen
 * another argument, or may have been skipped, or the way may be one that it does not know.
 */
#pragma once

#include "guard.bpf.h"

/*
 * The kernel has copied something else than the guard has seen. The process dies before it returns
 * to its own code, and the event tells iommud to clean up. Whether the call itself still takes
 * effect depends on the kernel (see points.bpf.c, probes.bpf.c and guard_capability()).
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
    }
    COUNT(tampered);
    bpf_send_signal(SIGKILL);
    send_event(&report);
    return -EACCES;
}

/* Whether the first look has left it to the second: all of it, or this id, which it has seen. */
static __always_inline bool was_left(const struct call *call, __u32 id)
{
    return call->stage == STAGE_NONE || call->stage == STAGE_UNKNOWN ||
           (id && (id == call->id[0] || id == call->id[1] || id == call->id[2]));
}

/*
 * What is not to be. Who had another argument checked is killed; and so is everybody where the
 * kernel does not let it be refused. Else it is refused, as the first look would have done.
 */
static __noinline int stop(__u64 ictx, __u32 id, __u32 owner, bool exact)
{
    struct call *call = get_call(true);

    if (!call)
        return -ENOMEM;
    if (exact && was_left(call, id))
        return refuse(owner, ictx, call->command, id, -EACCES);
    return tampered(ictx, id, owner, 0, 0);
}

static __noinline int check_object(__u64 ictx, __u32 id, bool exact)
{
    struct call *call = identify_inside(ictx);

    if (!call)
        return is_guarded(ictx) ? -ENOMEM : 0;
    if (!(call->flags & LEDGER_CONTEXT_GUARDED) || call->owner == LEDGER_OWNER_SERVICE ||
        !may_name(ictx, call->serial, id, call->owner))
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

/* What is mapped has to have been reserved, and is now, if the first look was skipped. Where to is
 * noted, which the range itself does not say when it comes. */
static __noinline int check_length(__u64 ictx, __u64 start, __u64 length, bool exact)
{
    __u64 bytes = (start & (LEDGER_PAGE_SIZE - 1)) + length;
    struct call *call = identify_inside(ictx);
    int error;

    if (!call)
        return is_guarded(ictx) ? -ENOMEM : 0;
    call->mapping = ictx;
    if (!(call->flags & LEDGER_CONTEXT_GUARDED) || !length || length > LONGEST ||
        (bytes <= call->may_map && is_held(call, start, length)))
        return 0;
    /* Nothing at all was let through when the first look was skipped, even if an earlier call's
     * mark is still there: then it is no difference to be killed for. */
    if (call->stage == STAGE_CHECKED && call->may_map) {
        tampered(ictx, 0, call->owner, bytes, call->may_map);
        return -EDQUOT;
    }
    if (call->owner == LEDGER_OWNER_SERVICE)
        return 0;
    error = reserve(call, start, length, UNKNOWN_MEMORY);
    if (error && !exact)
        tampered(ictx, 0, call->owner, bytes, 0);
    return error;
}

/* The file that is mapped, for memory that counts once: whichever number it had. */
static __noinline int check_file(struct file *file)
{
    struct call *call = get_call(false);
    struct ledger_place *place = call ? get_place(call->place) : NULL;

    if (!place || !file || place->source == (__u64)BPF_CORE_READ(file, f_inode))
        return 0;
    tampered(call->mapping, 0, call->owner, call->may_map, 0);
    return -EDQUOT;
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
        call = identify_inside(ictx);
        if (!call)
            return -ENOMEM;
        owner = call->owner;
        if (owner == LEDGER_OWNER_SERVICE || !claim_device(&key, call->tenant, owner, true))
            return 0;
    }
    return stop(ictx, 0, owner, exact);
}

/* An ioctl as a whole: those that name what no other point sees, or nothing at all. */
static __noinline int check_call(__u64 ictx, __u32 command, const void *argument, bool exact)
{
    union argument copy = {};
    struct call *call;
    int error;

    switch (command & 0xff) {
    case NR_DESTROY:
        bpf_probe_read_kernel(&copy, 8, argument);
        return check_object(ictx, copy.word[1], exact);
    case NR_OPTION:
    case NR_VFIO_IOAS:
        bpf_probe_read_kernel(&copy, 12, argument);
        break;
    case NR_CHANGE_PROCESS:
        break;
    default:
        return 0;
    }
    call = identify_inside(ictx);
    if (!call)
        return is_guarded(ictx) ? -ENOMEM : 0;
    if (!(call->flags & LEDGER_CONTEXT_GUARDED))
        return 0;
    error = check_global(command & 0xff, &copy, call->flags, LEDGER_GUARD_KNOWN);
    if (!error || call->owner == LEDGER_OWNER_SERVICE)
        return 0;
    if (!call->stage)
        call->command = command;
    stop(ictx, 0, call->owner, exact);
    return error;
}
