/* SPDX-License-Identifier: GPL-2.0-only */
/* The guard's rules: who may name what, and what follows when an argument was tampered with. */
#pragma once

#include "task-state.bpf.h"
#include "pages.bpf.h"
#include "xarray.bpf.h"

/* The bytes of a mapping that may be; nothing, and anything longer, the kernel refuses. */
#define LONGEST (1ull << 56)

/* The bytes of all pages that a range touches. */
static __always_inline __u64 whole_pages(__u64 start, __u64 length)
{
    return (length + (start & (LEDGER_PAGE_SIZE - 1)) + LEDGER_PAGE_SIZE - 1) &
           ~(LEDGER_PAGE_SIZE - 1);
}

/* The lower bytes of the ioctls' numbers; their type is ';' for iommufd and VFIO alike. */
#define IOCTL_TYPE 0x3b00
enum {
    NR_VFIO_API_VERSION = 0x64,
    NR_VFIO_CHECK_EXTENSION = 0x65,
    NR_VFIO_SET_IOMMU = 0x66,
    NR_GROUP_SET_CONTAINER = 0x68,
    NR_GROUP_GET_DEVICE = 0x6a,
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

/* The argument of an ioctl as far as it names things: the first words of its structure. */
union argument {
    __u32 word[10];
    __u64 quad[5];
};

/* Whether the owner may name what iommud made, which is for all machines of the context, or what
 * itself or another process of its machine made. */
static __always_inline bool is_for(const struct ledger_object *entry, __u32 owner_id)
{
    struct ledger_owner *owner, *other;

    if (!owner_id || !entry->owner)
        return false;
    if (entry->owner == LEDGER_OWNER_SERVICE || entry->owner == owner_id)
        return true;
    owner = get_owner(owner_id);
    other = get_owner(entry->owner);
    return owner && other && owner->machine && owner->machine == other->machine;
}

/*
 * Whether the owner may have the object that the kernel's table has under the id, or that is in the
 * making there. One that the ledger has missed is nobody's until a walk has found its owner.
 */
static __noinline int may_have(__u32 serial, __u32 id, __u64 object, __u32 owner_id)
{
    struct ledger_object_key key = {.context = serial, .id = id};
    struct ledger_object *entry = bpf_map_lookup_elem(&objects, &key);

    if (object == XARRAY_RESERVED)
        return entry && entry->object && !is_for(entry, owner_id) ? -EACCES : 0;
    return entry && entry->object == object && is_for(entry, owner_id) ? 0 : -EACCES;
}

/* The same of whatever is there now. An id that is free is left to the kernel to answer. */
static __noinline int may_name(__u64 ictx, __u32 serial, __u32 id, __u32 owner_id)
{
    __u64 span, object = object_at(table_of(ictx), id, &span);

    return object ? may_have(serial, id, object, owner_id) : 0;
}

/* A device's name; one that does not fit is cut off, and then nobody's. */
static __always_inline void name_device(const struct device *device, struct ledger_device_key *key)
{
    const char *name = BPF_CORE_READ(device, kobj.name);

    if (bpf_probe_read_kernel_str(key->name, sizeof(key->name), name) >= (long)sizeof(key->name))
        key->name[0] = 0;
}

/*
 * Whether the device may be the caller's. A process that has no machine yet becomes the one that
 * the device was admitted for, if nobody has before: QEMU binds its devices long before iommud
 * learns its pid.
 */
static __noinline int claim_device(const struct ledger_device_key *key, __u32 tenant,
                                   __u32 owner_id, bool bind)
{
    struct ledger_device *device = key ? bpf_map_lookup_elem(&devices, key) : NULL;
    struct ledger_owner *owner = get_owner(owner_id);
    struct ledger_machine *machine;
    __u32 token, was;

    if (!device || !owner || device->tenant != tenant)
        return -EACCES;
    token = device->machine;
    if (!bind)
        return device->owner == owner_id || (token && owner->machine == token) ? 0 : -EACCES;
    if (!token) {
        was = COMPARE_AND_SWAP(&device->owner, 0, owner_id);
        return !was || was == owner_id ? 0 : -EACCES;
    }
    if (!owner->machine) {
        machine = bpf_map_lookup_elem(&machines, &token);
        if (!machine)
            return -EACCES;
        was = COMPARE_AND_SWAP(&machine->owner, 0, owner_id);
        if (was && was != owner_id)
            return -EACCES;
        if (!was)
            machine->claimed = 1;
        COMPARE_AND_SWAP(&owner->machine, 0, token);
    }
    if (owner->machine != token)
        return -EACCES;
    device->owner = owner_id;
    return 0;
}

/* Ioctls of an IOMMUFD that the guard has heard of. */
static __always_inline bool is_known(__u32 nr)
{
    return (nr >= NR_DESTROY && nr <= NR_HW_QUEUE_ALLOC) ||
           (nr >= NR_VFIO_API_VERSION && nr <= NR_VFIO_SET_IOMMU) ||
           (nr >= NR_VFIO_GET_INFO && nr <= NR_VFIO_UNMAP);
}

/* What no single machine may do to an IOMMUFD that others use as well. */
static __always_inline int check_global(__u32 nr, const union argument *a, __u32 flags, __u32 guard)
{
    const __u16 set = 0;

    switch (nr) {
    case NR_CHANGE_PROCESS:
        return flags & LEDGER_CONTEXT_SHARED ? -EPERM : 0;
    case NR_OPTION:
        /* RLIMIT_MODE is the whole context's; reading it is harmless. */
        return a->word[1] == 0 && (__u16)a->word[2] == set ? -EPERM : 0;
    case NR_VFIO_IOAS:
        return flags & LEDGER_CONTEXT_SHARED && (__u16)a->word[2] != 0 ? -EPERM : 0;
    case NR_VFIO_SET_IOMMU:
    case NR_VFIO_GET_INFO:
    case NR_VFIO_MAP_OR_HOT_RESET:
    case NR_VFIO_UNMAP:
        /* VFIO's old interface has one address space for the whole context. */
        return flags & LEDGER_CONTEXT_SHARED ? -EPERM : 0;
    }
    if (is_known(nr))
        return 0;
    COUNT(unknown_ioctls);
    return guard == LEDGER_GUARD_STRICT ? -EPERM : 0;
}

/* The machine that has the object of that id right now: ids are reused, so it is asked when the call
 * is refused and travels with the event. 0: the id is free, or no machine's. */
static __noinline __u32 machine_of_object(__u32 serial, __u32 id)
{
    struct ledger_object_key key = {.context = serial, .id = id};
    struct ledger_object *entry = id ? bpf_map_lookup_elem(&objects, &key) : NULL;
    struct ledger_owner *owner = entry && entry->object ? get_owner(entry->owner) : NULL;

    return owner ? owner->machine : 0;
}

static __noinline int refuse(__u32 owner_id, __u64 ictx, __u32 command, __u32 id, int error)
{
    struct ledger_context *context = bpf_map_lookup_elem(&contexts, &ictx);
    struct report report = {
        .kind = LEDGER_EVENT_REFUSED,
        .error = error,
        .command = command,
        .id = id,
        .owner = owner_id,
    };
    struct ledger_book *book;

    if (context) {
        report.context = context->serial;
        report.tenant = context->tenant;
        report.object_machine = machine_of_object(context->serial, id);
        /* QEMU asks for this at each of its starts, and goes on without. */
        book = (command & 0xff) == NR_CHANGE_PROCESS ? NULL : get_book(context->serial, owner_id);
        if (book)
            __sync_fetch_and_add(&book->refused, 1);
    }
    send_event(&report);
    return error;
}

/*
 * Whether the owner may have one more of what a map has room for: as many as are left for all
 * others. So nobody who wants very many keeps the others from having some.
 */
static __always_inline bool has_room(__s64 entries, __u32 max, __s64 own)
{
    return own < (__s64)max - entries;
}

/* bytes: of a mapping; 0: it was an object that found no room. */
static __noinline int say_full(const struct call *call, __u64 bytes)
{
    struct report report = {
        .kind = LEDGER_EVENT_FULL,
        .error = -ENOMEM,
    };

    if (!call)
        return -ENOMEM;
    report.asked = bytes;
    report.context = call->serial;
    report.command = call->command;
    report.tenant = call->tenant;
    report.owner = call->owner;
    send_event(&report);
    return -ENOMEM;
}

/* An object of which the ledger could not know whose it is had better not be made. */
static __noinline int reserve_object(struct call *call)
{
    struct ledger_config *options = get_config();
    struct ledger_state *counters = get_state();
    struct ledger_owner *owner;

    if (!call || !options || !counters)
        return -ENOMEM;
    owner = get_owner(call->owner);
    if (has_room(*(volatile __s64 *)&counters->objects, options->max_objects,
                 owner ? owner->objects : 0))
        return 0;
    return say_full(call, 0);
}

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

/* In place of the number of the file that is mapped. */
#define OWN_MEMORY (-1)

/* What memory is of, its address space or a file's inode. 0: it is not known. */
static __noinline __u64 source_of(__s64 fd)
{
    struct task_struct *task = (struct task_struct *)bpf_get_current_task_btf();
    struct file *file;

    if (fd == OWN_MEMORY)
        return (__u64)BPF_CORE_READ(task, mm);
    file = (struct file *)file_of(fd);
    return file ? (__u64)BPF_CORE_READ(file, f_inode) : 0;
}

/*
 * Takes the bytes from what the tenant has left, unless the same memory is held already: 0, or
 * -EDQUOT. Which memory it is tells the range, if the kernel has made one, or `asked`, whose source
 * is 0 for what is to count in full.
 */
static __noinline int take_memory(struct call *call, __u64 bytes, struct iopt_pages *range,
                                  const struct memory *asked, __u64 *ret_left)
{
    struct memory memory = {};
    struct ledger_tenant *account;
    int error;

    if (!call || !ret_left)
        return -EDQUOT;
    call->may_map = bytes;
    if (!call->tenant)
        return 0;
    /* A tenant that is not known any more, or for whom there was no room, may map nothing. */
    *ret_left = 0;
    account = bpf_map_lookup_elem(&tenants, &call->tenant);
    if (!account)
        return -EDQUOT;
    if (account->count == LEDGER_COUNT_UNIQUE) {
        if (range)
            describe_memory(range, &memory);
        else if (asked)
            memory = *asked;
        memory.tenant = call->tenant;
        if (memory.source && !tenant_is_over(account))
            call->place = take_place(&memory);
        if (call->place)
            return 0;
    }
    error = tenant_reserve(account, bytes, ret_left);
    if (error)
        return error;
    if (memory.source)
        call->place = make_place(&memory);
    if (!call->place)
        call->reserved = bytes;
    return 0;
}

/* Takes the mapping's pages from the tenant before anything is pinned; see take_memory(). */
static __noinline int reserve(struct call *call, __u64 bytes, struct iopt_pages *range,
                              const struct memory *asked)
{
    struct report report = {.kind = LEDGER_EVENT_LIMIT, .error = -EDQUOT};
    struct ledger_config *options = get_config();
    struct ledger_state *counters = get_state();
    __u64 left = LEDGER_NO_LIMIT;
    struct ledger_owner *owner;
    struct ledger_book *book;
    __s64 entries;

    if (!call || !counters || !options)
        return -ENOMEM;
    entries = *(volatile __s64 *)&counters->pages;
    /* In most cases there is room even if all that there are were its own. */
    if (!has_room(entries, options->max_pages, entries)) {
        owner = get_owner(call->owner);
        if (!has_room(entries, options->max_pages, owner ? owner->pages : 0))
            return say_full(call, bytes);
    }
    if (!take_memory(call, bytes, range, asked, &left))
        return 0;
    book = get_book(call->serial, call->owner);
    if (book)
        __sync_fetch_and_add(&book->refused, 1);
    report.context = call->serial;
    report.asked = bytes;
    report.left = left;
    report.command = call->command;
    report.tenant = call->tenant;
    report.owner = call->owner;
    send_event(&report);
    return -EDQUOT;
}

/* The same by what an argument says, before there is a range. source 0: it counts in full. */
static __noinline int reserve_argument(struct call *call, __u64 start, __u64 length, __u64 source)
{
    struct memory asked = {.source = source, .start = start & ~(LEDGER_PAGE_SIZE - 1)};

    if (!length || length > LONGEST)
        return 0;
    asked.bytes = whole_pages(start, length);
    return reserve(call, asked.bytes, NULL, &asked);
}
