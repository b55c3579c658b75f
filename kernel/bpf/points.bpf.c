/* SPDX-License-Identifier: GPL-2.0-only */
/* Refusing what was found tampered with, on an iommufd that allows it. */
#include "guard.bpf.h"

/*
 * Where the module that iommufd is allows it (kernel/modules/guard-points.h), what the ledger's
 * hook on the same function has just found tampered with fails before it takes effect; hooks at a
 * function's entry run before these. Everywhere else these are not loaded. They return 64 bits: two
 * of the functions return a pointer, in whose place an error has to have its upper half, too.
 */
static __always_inline long refuse_tampered(int error)
{
    struct call *call = get_call(false);

    return call && call->tampered ? error : 0;
}

SEC("fmod_ret/iommufd_get_object")
long BPF_PROG(point_get_object)
{
    return refuse_tampered(-EACCES);
}

/* Not when the kernel itself removes an object that it holds: that must not fail. */
SEC("fmod_ret/iommufd_object_remove")
long BPF_PROG(point_object_remove, struct iommufd_ctx *ictx, struct iommufd_object *to_destroy)
{
    return to_destroy ? 0 : refuse_tampered(-EACCES);
}

SEC("fmod_ret/iommufd_device_bind")
long BPF_PROG(point_device_bind)
{
    return refuse_tampered(-EACCES);
}

SEC("fmod_ret/iopt_map_user_pages")
long BPF_PROG(point_map_user)
{
    return refuse_tampered(-EDQUOT);
}

SEC("fmod_ret/iopt_map_file_pages")
long BPF_PROG(point_map_file)
{
    return refuse_tampered(-EDQUOT);
}
