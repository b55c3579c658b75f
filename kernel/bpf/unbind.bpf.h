/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Nobody waits for himself. Who takes a device away from its VFIO driver (writes to the driver's
 * "unbind" in sysfs) waits in the kernel until its last file is closed. libvirt does that when a
 * start fails for whatever reason after it has opened the machine's devices, with these files still
 * open: its thread then waits for ever, with the domain's lock. So a thread that has opened a VFIO
 * device, whose process still has that very file, is not let open "unbind" of such a driver: EBUSY.
 * The device stays with its driver, and the start fails with what was wrong with it.
 */
#pragma once

#include "maps.bpf.h"

/* The last of them that a thread has opened; a machine can have more, one is enough. */
#define OPENED_FILES 16
/* More descriptors than the kernel lets a process have by default. */
#define MOST_DESCRIPTORS (1 << 20)
#define SYSFS_MAGIC 0x62656572
#define FMODE_WRITE 2

struct vfio_opener {
    __u64 files[OPENED_FILES]; /* addresses; those of closed ones may be another file's by now */
    __u32 opened;
};

struct {
    __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct vfio_opener);
} vfio_openers SEC(".maps");

static __always_inline struct vfio_opener *get_vfio_opener(bool create)
{
    return bpf_task_storage_get(&vfio_openers, bpf_get_current_task_btf(), NULL,
                                create ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
}

static __always_inline bool is_vfio_device(const struct ledger_config *options, __u32 rdev)
{
    return options->vfio_major && rdev >> 20 == options->vfio_major;
}

/* The thread opens a VFIO device. */
static __always_inline void note_vfio_device(const struct file *file)
{
    struct vfio_opener *opener = get_vfio_opener(true);

    if (opener)
        opener->files[opener->opened++ % OPENED_FILES] = (__u64)file;
}

struct file_search {
    const struct vfio_opener *opener;
    const struct ledger_config *options;
    struct file **slots;
    __u32 found;
};

/* Whether this slot of the caller's table has one of the files that it has opened. */
static long search_slot(__u32 i, struct file_search *search)
{
    struct file *file = NULL;

    bpf_probe_read_kernel(&file, sizeof(file), search->slots + i);
    if (!file || !is_vfio_device(search->options, BPF_CORE_READ(file, f_inode, i_rdev)))
        return 0;
    for (int n = 0; n < OPENED_FILES; n++)
        if (search->opener->files[n] == (__u64)file)
            search->found = 1;
    return search->found;
}

static __always_inline bool has_one_open(const struct ledger_config *options,
                                         const struct vfio_opener *opener)
{
    struct task_struct *task = (struct task_struct *)bpf_get_current_task_btf();
    struct fdtable *table = BPF_CORE_READ(task, files, fdt);
    struct file_search search = {.opener = opener, .options = options};
    __u32 slots = BPF_CORE_READ(table, max_fds);

    search.slots = BPF_CORE_READ(table, fd);
    bpf_loop(slots < MOST_DESCRIPTORS ? slots : MOST_DESCRIPTORS, search_slot, &search, 0);
    return search.found;
}

/* Whether the file is "unbind" of a driver whose name has "vfio" in it, as those of all have. */
static __always_inline bool is_vfio_unbind(const struct file *file)
{
    const struct dentry *dentry = file->f_path.dentry;
    char name[24] = {0};

    if (file->f_inode->i_sb->s_magic != SYSFS_MAGIC)
        return false;
    bpf_probe_read_kernel_str(name, sizeof(name), BPF_CORE_READ(dentry, d_name.name));
    if (name[0] != 'u' || name[1] != 'n' || name[2] != 'b' || name[3] != 'i' || name[4] != 'n' ||
        name[5] != 'd' || name[6])
        return false;
    bpf_probe_read_kernel_str(name, sizeof(name), BPF_CORE_READ(dentry, d_parent, d_name.name));
    for (int i = 0; i < (int)sizeof(name) - 4; i++)
        if (name[i] == 'v' && name[i + 1] == 'f' && name[i + 2] == 'i' && name[i + 3] == 'o')
            return true;
    return false;
}

/* Of a file that is opened: whether it would have the caller wait for himself. */
static __always_inline bool waits_for_itself(const struct ledger_config *options,
                                             const struct file *file)
{
    struct vfio_opener *opener;

    if (!(file->f_mode & FMODE_WRITE) || !(opener = get_vfio_opener(false)))
        return false;
    return is_vfio_unbind(file) && has_one_open(options, opener);
}
