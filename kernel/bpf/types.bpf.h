/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel's types as far as the programs look into them. libbpf finds the real offsets when it
 * loads the programs (CO-RE), in vmlinux or, for iommufd and vfio, in the modules' own BTF; so
 * the order and the neighbours of members don't matter here, and members may be missing.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#ifndef NULL
#define NULL ((void *)0)
#endif

#define EPERM 1
#define ENOENT 2
#define ESRCH 3
#define EBADF 9
#define EAGAIN 11
#define ENOMEM 12
#define EACCES 13
#define EFAULT 14
#define EBUSY 16
#define EEXIST 17
#define EINVAL 22
#define ENOTTY 25
#define EOPNOTSUPP 95
#define ESTALE 116
#define EDQUOT 122

#define CAP_IPC_LOCK 14
#define SIGKILL 9
#define CLONE_THREAD 0x00010000

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct rb_node {
    unsigned long __rb_parent_color;
    struct rb_node *rb_right;
    struct rb_node *rb_left;
};

struct rb_root {
    struct rb_node *rb_node;
};

struct rb_root_cached {
    struct rb_root rb_root;
};

struct interval_tree_node {
    struct rb_node rb;
    unsigned long start;
    unsigned long last;
};

struct xarray {
    void *xa_head;
};

struct xa_node {
    unsigned char shift;
    void *slots[64];
};

struct super_block {
    unsigned long s_magic;
};

struct inode {
    __u32 i_rdev;
    struct super_block *i_sb;
};

struct qstr {
    const unsigned char *name;
};

struct dentry {
    struct dentry *d_parent;
    struct qstr d_name;
};

struct path {
    struct dentry *dentry;
};

struct file {
    unsigned int f_mode;
    struct inode *f_inode;
    struct path f_path;
    void *private_data;
};

struct fdtable {
    unsigned int max_fds;
    struct file **fd;
};

struct files_struct {
    struct fdtable *fdt;
};

typedef struct {
    int counter;
} atomic_t;

struct signal_struct {
    atomic_t live;
};

struct rlimit {
    unsigned long rlim_cur;
    unsigned long rlim_max;
};

struct mm_struct;
struct cred;
struct user_namespace;

struct task_struct {
    struct mm_struct *mm;
    int pid;
    int tgid;
    __u64 start_boottime;
    struct task_struct *group_leader;
    struct signal_struct *signal;
    struct files_struct *files;
};

/* The numbers are those of 7.2; the programs ask the running kernel for them. */
enum iommufd_object_type {
    IOMMUFD_OBJ_NONE,
    IOMMUFD_OBJ_DEVICE,
    IOMMUFD_OBJ_HWPT_PAGING,
    IOMMUFD_OBJ_HWPT_NESTED,
    IOMMUFD_OBJ_IOAS,
    IOMMUFD_OBJ_ACCESS,
    IOMMUFD_OBJ_FAULT,
    IOMMUFD_OBJ_VIOMMU,
    IOMMUFD_OBJ_VDEVICE,
    IOMMUFD_OBJ_VEVENTQ,
    IOMMUFD_OBJ_HW_QUEUE,
};

struct iommufd_object {
    enum iommufd_object_type type;
    unsigned int id;
};

struct iommufd_ctx {
    struct file *file;
    struct xarray objects;
};

struct iommufd_ucmd {
    struct iommufd_ctx *ictx;
    void *cmd;
};

struct io_pagetable {
    struct rb_root_cached area_itree;
};

struct iommufd_ioas {
    struct iommufd_object obj;
    struct io_pagetable iopt;
};

struct iommufd_hw_pagetable {
    struct iommufd_object obj;
};

struct iommufd_hwpt_paging {
    struct iommufd_hw_pagetable common;
    struct iommufd_ioas *ioas;
};

enum iopt_address_type {
    IOPT_ADDRESS_USER,
    IOPT_ADDRESS_FILE,
    IOPT_ADDRESS_DMABUF,
};

struct refcount_struct {
    atomic_t refs;
};

struct kref {
    struct refcount_struct refcount;
};

struct iopt_pages {
    struct kref kref;
    unsigned long npages;
    unsigned long npinned;
    unsigned long last_npinned;
    struct task_struct *source_task;
    struct mm_struct *source_mm;
    void *uptr;
};

/* Since 6.13 a range may come from a file: two members more, uptr in a union with them. */
struct iopt_pages___files {
    enum iopt_address_type type;
    struct file *file;
    unsigned long start;
};

struct iopt_area {
    struct interval_tree_node node;
    struct iopt_pages *pages;
};

struct iommufd_device;

struct kobject {
    const char *name;
};

struct device {
    struct kobject kobj;
};

struct vfio_device {
    struct device *dev;
};

struct vfio_device_file {
    struct vfio_device *device;
    __u32 devid;
    struct iommufd_ctx *iommufd;
};

struct vfio_iommu_driver_ops {
    char *name;
};

struct vfio_iommu_driver {
    struct vfio_iommu_driver_ops *ops;
};

struct vfio_container {
    struct vfio_iommu_driver *iommu_driver;
    void *iommu_data;
};

/* VFIO's own way to map, type1: there if its module is. */
struct vfio_iommu {
    struct rb_root dma_list;
};

struct vfio_dma {
    struct rb_node node;
    __u64 iova;
    unsigned long vaddr;
    unsigned long size;
    struct task_struct *task;
    struct mm_struct *mm;
    unsigned long locked_vm;
};

#pragma clang attribute pop

/* Contexts of programs have fixed layouts. */
struct seq_file;

struct bpf_iter_meta {
    struct seq_file *seq;
};

struct bpf_iter__task_file {
    struct bpf_iter_meta *meta;
    struct task_struct *task;
    __u64 fd; /* the lower half; little endian, as all targets of iommufd */
    struct file *file;
};

/* Pointers that are errors, as IS_ERR_OR_NULL(). */
static __always_inline bool is_error(const void *pointer)
{
    return !pointer || (unsigned long)pointer >= (unsigned long)-4095;
}
