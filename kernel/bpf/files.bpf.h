/* SPDX-License-Identifier: GPL-2.0-only */
/* What is behind the caller's file descriptors. */
#pragma once

#include "maps.bpf.h"

/* The file behind one of the caller's file descriptors, an address. 0: there is none. */
__noinline __u64 file_of(__u32 fd)
{
    struct task_struct *task = (struct task_struct *)bpf_get_current_task_btf();
    struct fdtable *table = BPF_CORE_READ(task, files, fdt);
    struct file **slots, *file = NULL;

    if (fd >= BPF_CORE_READ(table, max_fds))
        return 0;
    slots = BPF_CORE_READ(table, fd);
    bpf_probe_read_kernel(&file, sizeof(file), slots + fd);
    return (__u64)file;
}

/* The context behind one of the caller's file descriptors. 0: not one that the ledger knows. */
__noinline __u64 context_of_fd(__u32 fd)
{
    struct file *file = (struct file *)file_of(fd);
    __u64 ictx = file ? (__u64)BPF_CORE_READ(file, private_data) : 0;

    return bpf_map_lookup_elem(&contexts, &ictx) ? ictx : 0;
}

/* What the caller's own memory is of: its address space. */
static __always_inline __u64 source_of_memory(void)
{
    return (__u64)BPF_CORE_READ((struct task_struct *)bpf_get_current_task_btf(), mm);
}

/* What a file's memory is of: its inode. 0: there is no such file. */
static __noinline __u64 source_of_file(__u32 fd)
{
    struct file *file = (struct file *)file_of(fd);

    return file ? (__u64)BPF_CORE_READ(file, f_inode) : 0;
}
