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
static __noinline int tampered(struct call *call, __u32 context, __u32 id, __u64 asked,
                               __u64 checked)
{
    struct report report = {
        .kind = LEDGER_EVENT_TAMPERED,
        .asked = asked,
        .left = checked,
        .context = context,
        .id = id,
    };

    if (!call || call->tampered)
        return -EACCES;
    call->tampered = 1;
    report.command = call->command;
    report.tenant = call->tenant;
    report.owner = call->owner;
    COUNT(tampered);
    bpf_send_signal(SIGKILL);
    send_event(&report);
    return -EACCES;
}

/*
 * What is not to be. Who had another argument checked is killed; and so is everybody where the
 * kernel does not let it be refused. Else it is refused, as the first look would have done.
 */
static __noinline int stop(struct call *call, __u64 ictx, __u32 id, __u32 owner, bool exact)
{
    struct ledger_context *context = bpf_map_lookup_elem(&contexts, &ictx);

    if (!call)
        return -ENOMEM;
    if (exact && !call->checked)
        return refuse(owner, ictx, call->command, id, -EACCES);
    call->owner = owner;
    if (context)
        call->tenant = context->tenant;
    return tampered(call, context ? context->serial : 0, id, 0, 0);
}

static __always_inline bool is_guarded(const struct ledger_context *context)
{
    return context && context->flags & LEDGER_CONTEXT_GUARDED;
}

static __noinline int check_object(__u64 ictx, __u32 id, bool exact)
{
    struct ledger_context *context = bpf_map_lookup_elem(&contexts, &ictx);
    struct call *call;
    __u32 owner;

    if (!is_guarded(context))
        return 0;
    call = get_call(true);
    if (!call)
        return -ENOMEM;
    owner = call->checked ? call->owner : caller(context->tenant);
    if (owner == LEDGER_OWNER_SERVICE || !may_name(ictx, id, owner))
        return 0;
    return stop(call, ictx, id, owner, exact);
}

/* What is mapped has to have been reserved, and is now, if the first look was skipped. */
static __noinline int check_length(__u64 ictx, __u64 start, __u64 length, bool exact)
{
    __u64 bytes = (start & (LEDGER_PAGE_SIZE - 1)) + length;
    struct ledger_context *context = bpf_map_lookup_elem(&contexts, &ictx);
    struct call *call;
    int error;

    if (!is_guarded(context) || length > (1ull << 56))
        return 0;
    call = get_call(true);
    if (!call)
        return -ENOMEM;
    if (bytes <= call->reserved)
        return 0;
    /* Nothing at all is reserved when the first look was skipped, even if an earlier call's mark is
     * still there: then it is no difference to be killed for. */
    if (call->checked && call->reserved) {
        tampered(call, context->serial, 0, bytes, call->reserved);
        return -EDQUOT;
    }
    call->owner = caller(context->tenant);
    if (call->owner == LEDGER_OWNER_SERVICE)
        return 0;
    call->tenant = context->tenant;
    error = reserve(call, context->serial, start, length);
    if (error && !exact)
        tampered(call, context->serial, 0, bytes, 0);
    return error;
}

/* Which device is bound to which context, whichever number its file had. A device that was admitted
 * for a machine goes nowhere but into its tenant's IOMMUFD. */
static __noinline int check_bind(__u64 ictx, __u64 device, bool exact)
{
    struct ledger_context *context = bpf_map_lookup_elem(&contexts, &ictx);
    struct ledger_device_key key = {};
    __u32 owner;

    name_device((struct device *)device, &key);
    if (!is_guarded(context)) {
        if (!bpf_map_lookup_elem(&devices, &key) || current_role() == LEDGER_ROLE_SERVICE)
            return 0;
        owner = current_owner(true);
    } else {
        owner = caller(context->tenant);
        if (owner == LEDGER_OWNER_SERVICE || !claim_device(&key, context->tenant, owner, true))
            return 0;
    }
    return stop(get_call(true), ictx, 0, owner, exact);
}

/* An ioctl as a whole. */
static __noinline int check_call(__u64 ictx, __u32 command, const void *argument, bool exact)
{
    struct ledger_context *context = bpf_map_lookup_elem(&contexts, &ictx);
    union argument copy = {};
    struct call *call;
    __u32 owner;
    int error;

    if (!is_guarded(context))
        return 0;
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
    error = check_global(command & 0xff, &copy, context->flags, LEDGER_GUARD_KNOWN);
    if (!error)
        return 0;
    owner = caller(context->tenant);
    if (owner == LEDGER_OWNER_SERVICE)
        return 0;
    call = get_call(true);
    if (call && !call->checked)
        call->command = command;
    stop(call, ictx, 0, owner, exact);
    return error;
}
