/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The second look where it can refuse: functions of a module that allows it, and that sees to it
 * that these programs are never skipped (kernel/modules/guard-points.c). With any other iommufd
 * these are not loaded, but those of probes.bpf.c.
 */
#include "inside.bpf.h"

SEC("fmod_ret/iommud_guard_call")
int BPF_PROG(point_call, struct iommufd_ctx *ictx, unsigned int cmd, unsigned long argument)
{
    return check_call((__u64)ictx, cmd, (const void *)argument, true);
}

SEC("fmod_ret/iommud_guard_object")
int BPF_PROG(point_object, struct iommufd_ctx *ictx, unsigned int id)
{
    return check_object((__u64)ictx, id, true);
}

SEC("fmod_ret/iommud_guard_bind")
int BPF_PROG(point_bind, struct iommufd_ctx *ictx, struct device *dev)
{
    return check_bind((__u64)ictx, (__u64)dev, true);
}

SEC("fmod_ret/iommud_guard_map")
int BPF_PROG(point_map, struct iommufd_ctx *ictx, unsigned long start, unsigned long length)
{
    return check_length((__u64)ictx, start, length, true);
}

SEC("fmod_ret/iommud_guard_file")
int BPF_PROG(point_file, struct file *file)
{
    return check_file(file);
}
