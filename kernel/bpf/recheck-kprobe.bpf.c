/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The re-check where it can only watch, and kill: an iommufd as distributions have it.
 *
 * These are kprobes, which run with preemption off. Programs on trampolines (fentry) are skipped
 * while another task on the same processor is in the middle of the same one, and a task can be kept
 * there by starting many; so these checks must not be on trampolines.
 */
#include "recheck.bpf.h"

/* Without memory for its state a thread can't be checked, and nothing else could stop it. */
static __always_inline int conclude(int result)
{
    if (result == -ENOMEM)
        bpf_send_signal(SIGKILL);
    return 0;
}

SEC("kprobe/iommufd_get_object")
int BPF_KPROBE(probe_get_object, struct iommufd_ctx *ictx, unsigned int id)
{
    return conclude(recheck_object((__u64)ictx, id, 0, false));
}

/* What it got: another object may have come to the id since the first check. */
SEC("kretprobe/iommufd_get_object")
int BPF_KRETPROBE(probe_got_object, struct iommufd_object *object)
{
    struct task_state *self = get_task_state(false);

    if (!self || !self->context || is_error(object))
        return 0;
    return conclude(recheck_object(self->context, BPF_CORE_READ(object, id), (__u64)object, false));
}

/* By its id; the kernel itself removes what it holds. */
SEC("kprobe/iommufd_object_remove")
int BPF_KPROBE(probe_object_remove, struct iommufd_ctx *ictx, struct iommufd_object *to_destroy,
               unsigned int id)
{
    return to_destroy ? 0 : conclude(recheck_object((__u64)ictx, id, 0, false));
}

SEC("kprobe/iommufd_device_bind")
int BPF_KPROBE(probe_device_bind, struct iommufd_ctx *ictx, struct device *dev)
{
    return conclude(recheck_bind((__u64)ictx, (__u64)dev, false));
}

SEC("kprobe/iopt_map_user_pages")
int BPF_KPROBE(probe_map_user, struct iommufd_ctx *ictx, void *iopt, unsigned long *iova,
               void *uptr, unsigned long length)
{
    return conclude(recheck_length((__u64)ictx, (__u64)uptr, length));
}

SEC("kprobe/iommufd_ioas_map_file")
int BPF_KPROBE(probe_map_file, struct iommufd_ucmd *ucmd)
{
    struct iommu_ioas_map_file copy = {};

    bpf_probe_read_kernel(&copy, sizeof(copy), BPF_CORE_READ(ucmd, cmd));
    return conclude(recheck_length((__u64)BPF_CORE_READ(ucmd, ictx), copy.start, copy.length));
}

SEC("kprobe/iommufd_ioas_change_process")
int BPF_KPROBE(probe_change_process, struct iommufd_ucmd *ucmd)
{
    return conclude(
        recheck_call((__u64)BPF_CORE_READ(ucmd, ictx), IOMMU_IOAS_CHANGE_PROCESS, NULL, false));
}
