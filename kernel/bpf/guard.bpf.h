/* SPDX-License-Identifier: GPL-2.0-only */
/* The guard's rules: who may name what, and what follows when an argument was tampered with. */
#pragma once

#include "pages.bpf.h"

/* The lower bytes of the ioctls' numbers; their type is ';' for iommufd and VFIO alike. */
#define IOCTL_TYPE 0x3b00
enum {
    NR_VFIO_API_VERSION = 0x64,
    NR_VFIO_CHECK_EXTENSION = 0x65,
    NR_VFIO_SET_IOMMU = 0x66,
    NR_GROUP_SET_CONTAINER = 0x68,
    NR_VFIO_GET_INFO = 0x70,
    NR_VFIO_MAP_OR_HOT_RESET = 0x71, /* on an IOMMUFD the one, on a device the other */
    NR_VFIO_UNMAP = 0x72,
    NR_BIND = 0x76,
    NR_ATTACH = 0x77,
    NR_DETACH = 0x78,
    NR_DESTROY = 0x80,
    NR_IOAS_ALLOC,
    NR_ALLOW_IOVAS,
    NR_COPY,
    NR_IOVA_RANGES,
    NR_MAP,
    NR_UNMAP,
    NR_OPTION,
    NR_VFIO_IOAS,
    NR_HWPT_ALLOC,
    NR_HW_INFO,
    NR_SET_DIRTY,
    NR_GET_DIRTY,
    NR_INVALIDATE,
    NR_FAULT_ALLOC,
    NR_MAP_FILE,
    NR_VIOMMU_ALLOC,
    NR_VDEVICE_ALLOC,
    NR_CHANGE_PROCESS,
    NR_VEVENTQ_ALLOC,
    NR_HW_QUEUE_ALLOC,
};

/*
 * Whether the owner may name the object. What iommud made is for all machines of the context. An
 * id that is free is left to the kernel to answer, unless the ledger may have missed an object.
 */
static __noinline int may_name(__u64 ictx, __u32 id, __u32 owner_id)
{
    struct ledger_context *context = bpf_map_lookup_elem(&contexts, &ictx);
    struct ledger_object_key key = {.id = id};
    struct ledger_owner *owner, *other;
    struct ledger_object *entry;

    if (!context)
        return 0;
    key.context = context->serial;
    entry = bpf_map_lookup_elem(&objects, &key);
    if (!entry || !entry->object)
        return context->flags & LEDGER_CONTEXT_COMPLETE ? 0 : -EACCES;
    if (entry->owner == LEDGER_OWNER_SERVICE)
        return 0;
    if (!owner_id || !entry->owner)
        return -EACCES;
    if (entry->owner == owner_id)
        return 0;
    owner = get_owner(owner_id);
    other = get_owner(entry->owner);
    if (owner && other && owner->machine && owner->machine == other->machine)
        return 0;
    return -EACCES;
}

/*
 * The kernel has copied something else than the guard has seen. The process dies before it returns
 * to its own code, and the event tells iommud to clean up. Whether the call itself still takes
 * effect depends on the kernel (see refuse_tampered() and guard_capability()).
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
        return 0;
    call->tampered = 1;
    report.command = call->command;
    report.tenant = call->tenant;
    report.owner = call->owner;
    COUNT(tampered);
    bpf_send_signal(SIGKILL);
    return send_event(&report);
}

static __always_inline void compare_id(struct call *call, struct ledger_context *context,
                                       const void *ictx, __u32 id)
{
    if (call->checked && may_name((__u64)ictx, id, call->owner))
        tampered(call, context->serial, id, 0, 0);
}
