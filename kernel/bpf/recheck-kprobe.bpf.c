/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The second look where it can only watch, and kill: an iommufd as distributions have it.
 *
 * These are kprobes, which run with preemption off. Programs on trampolines (fentry) are skipped
 * while another task on the same processor is in the middle of the same, and a task can be kept
 * there by having many; so nothing that matters here may hang on them.
 */
#include "recheck.bpf.h"

/* Who could not even be looked at, for want of memory, is not let go on: nothing else would. */
static __always_inline int conclude(int result)
{
    if (result == -ENOMEM)
        bpf_send_signal(SIGKILL);
    return 0;
}

SEC("kprobe/iommufd_get_object")
int BPF_KPROBE(probe_get_object, struct iommufd_ctx *ictx, unsigned int id)
{
    return conclude(check_object((__u64)ictx, id, 0, false));
}

/* What it got, which may have come to the id since. */
SEC("kretprobe/iommufd_get_object")
int BPF_KRETPROBE(probe_got_object, struct iommufd_object *object)
{
    struct call *call = get_call(false);

    if (!call || !call->context || is_error(object))
        return 0;
    return conclude(check_object(call->context, BPF_CORE_READ(object, id), (__u64)object, false));
}

/* By its id; the kernel itself removes what it holds. */
SEC("kprobe/iommufd_object_remove")
int BPF_KPROBE(probe_object_remove, struct iommufd_ctx *ictx, struct iommufd_object *to_destroy,
               unsigned int id)
{
    return to_destroy ? 0 : conclude(check_object((__u64)ictx, id, 0, false));
}

SEC("kprobe/iommufd_device_bind")
int BPF_KPROBE(probe_device_bind, struct iommufd_ctx *ictx, struct device *dev)
{
    return conclude(check_bind((__u64)ictx, (__u64)dev, false));
}

SEC("kprobe/iopt_map_user_pages")
int BPF_KPROBE(probe_map_user, struct iommufd_ctx *ictx, void *iopt, unsigned long *iova,
               void *uptr, unsigned long length)
{
    return conclude(check_length((__u64)ictx, (__u64)uptr, length));
}

SEC("kprobe/iommufd_ioas_map_file")
int BPF_KPROBE(probe_map_file, struct iommufd_ucmd *ucmd)
{
    union argument copy = {};

    bpf_probe_read_kernel(&copy, 32, BPF_CORE_READ(ucmd, cmd));
    return conclude(check_length((__u64)BPF_CORE_READ(ucmd, ictx), copy.quad[2], copy.quad[3]));
}

SEC("kprobe/iommufd_ioas_change_process")
int BPF_KPROBE(probe_change_process, struct iommufd_ucmd *ucmd)
{
    return conclude(
        check_call((__u64)BPF_CORE_READ(ucmd, ictx), IOCTL_TYPE | NR_CHANGE_PROCESS, NULL, false));
}
