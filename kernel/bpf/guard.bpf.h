/* SPDX-License-Identifier: GPL-2.0-only */
/* The guard's rules: who may name what, what no single machine may do to a shared IOMMUFD, and what
 * a mapping reserves. */
#pragma once

#include "files.bpf.h"
#include "ioctls.h"
#include "pages.bpf.h"
#include "report.bpf.h"
#include "task-state.bpf.h"
#include "xarray.bpf.h"

/* The longest mapping there can be: the kernel itself refuses longer ones, and those of no bytes.
 */
#define LONGEST (1ull << 56)

/* The rules, by the low byte of the ioctl's number. volatile: the compiler may conclude nothing
 * from the values, so that the checks that the verifier wants to see stay. */
#define IOMMUFD_RULE(name, ...) [_IOC_NR(name)] = {.of_iommufd = 1, __VA_ARGS__},
#define VFIO_RULE(name, ...) [_IOC_NR(name)] = {__VA_ARGS__},
static const volatile struct ioctl_rule ioctl_rules[256] = {IOMMUFD_IOCTLS(IOMMUFD_RULE)
                                                                VFIO_FILE_IOCTLS(VFIO_RULE)};
#undef IOMMUFD_RULE
#undef VFIO_RULE

static __always_inline struct ioctl_rule rule_of(__u32 command)
{
    return ioctl_rules[_IOC_NR(command)];
}

/* The bytes of all pages that a range touches. */
static __always_inline __u64 whole_pages(__u64 start, __u64 length)
{
    return (length + (start & (LEDGER_PAGE_SIZE - 1)) + LEDGER_PAGE_SIZE - 1) &
           ~(LEDGER_PAGE_SIZE - 1);
}

/* The begin of an ioctl's argument. At least as long as the longest rule's `bytes`, and a power of
 * two, so that a position can be masked. */
union argument {
    __u8 bytes[64];
    __u32 size;
    __s32 container;
    struct iommu_option option;
    struct iommu_vfio_ioas vfio_ioas;
    struct iommu_ioas_map_file map_file;
    struct iommu_hwpt_alloc hwpt_alloc;
    struct vfio_device_bind_iommufd bind;
    struct vfio_device_attach_iommufd_pt attach;
};

static __always_inline __u32 argument_u32(const union argument *argument, __u32 position)
{
    return *(const __u32 *)&argument->bytes[position & (sizeof(argument->bytes) - 4)];
}

static __always_inline __u64 argument_u64(const union argument *argument, __u32 position)
{
    return *(const __u64 *)&argument->bytes[position & (sizeof(argument->bytes) - 8)];
}

/* Whether the owner may name what iommud made, which is for all machines of the context, or what
 * itself or another process of its machine made. */
static __always_inline bool owner_may_name(const struct ledger_object *entry, __u32 owner_id)
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

/* Whether the owner may have the object that the kernel's table has under the id, or that is in the
 * making there: 0 or -EACCES. One that the ledger has missed is refused to everybody until a
 * reconciliation has found its owner. */
static __noinline int check_object(__u32 context_id, __u32 id, __u64 object, __u32 owner_id)
{
    struct ledger_object_key key = {.context = context_id, .id = id};
    struct ledger_object *entry = bpf_map_lookup_elem(&objects, &key);

    if (object == XARRAY_RESERVED)
        return entry && entry->object && !owner_may_name(entry, owner_id) ? -EACCES : 0;
    return entry && entry->object == object && owner_may_name(entry, owner_id) ? 0 : -EACCES;
}

/* The same of whatever is there now. An id that is free is left to the kernel to answer. */
static __noinline int check_id(__u64 ictx, __u32 context_id, __u32 id, __u32 owner_id)
{
    __u64 span, object = object_at(table_of(ictx), id, &span);

    return object ? check_object(context_id, id, object, owner_id) : 0;
}

/* A device's name; one that does not fit is cut off, and then no entry has it. */
static __always_inline void name_device(const struct device *device, struct ledger_device_key *key)
{
    const char *name = BPF_CORE_READ(device, kobj.name);

    if (bpf_probe_read_kernel_str(key->name, sizeof(key->name), name) >= (long)sizeof(key->name))
        key->name[0] = 0;
}

/* The process becomes the machine that the device was admitted for, if it is no machine yet and the
 * machine has no process: QEMU binds its devices long before iommud learns its pid. */
static __always_inline int become_machine(struct ledger_owner *owner, __u32 owner_id,
                                          __u32 machine_id)
{
    struct ledger_machine *machine = get_machine(machine_id);
    __u32 was;

    if (!machine)
        return -EACCES;
    was = COMPARE_AND_SWAP(&machine->owner, 0, owner_id);
    if (was && was != owner_id)
        return -EACCES;
    if (!was)
        machine->claimed_by_bind = 1;
    /* Too many to be gone through here: when it is named (name_machine()) they are the machine's.
     */
    if (owner->pages > 0)
        machine->has_others = 1;
    COMPARE_AND_SWAP(&owner->machine, 0, machine_id);
    /* From now on all its threads map out of what is promised to the machine. */
    note_change();
    return 0;
}

/*
 * Whether the owner may bind the device. By device.machine, machine.owner and owner.machine:
 *
 *   device.machine  owner.machine  machine.owner  |
 *   0               any            -              | yes if device.owner is 0 or this owner, and set
 *   M               M              any            | yes
 *   M               0              0              | yes: machine.owner and owner.machine are set,
 *                                                 |   and the machine is claimed by this bind
 *   M               0              this owner     | yes: owner.machine is set
 *   M               0              another        | no
 *   M               another        any            | no
 *
 * device.owner is then this owner. 0 or -EACCES.
 */
static __noinline int check_bind(const struct ledger_device_key *key, __u32 tenant_id,
                                 __u32 owner_id)
{
    struct ledger_device *device = key ? get_device(key) : NULL;
    struct ledger_owner *owner = get_owner(owner_id);
    __u32 machine_id, was;

    if (!device || !owner || device->tenant != tenant_id)
        return -EACCES;
    machine_id = device->machine;
    if (!machine_id) {
        was = COMPARE_AND_SWAP(&device->owner, 0, owner_id);
        return !was || was == owner_id ? 0 : -EACCES;
    }
    if (!owner->machine && become_machine(owner, owner_id, machine_id))
        return -EACCES;
    if (owner->machine != machine_id)
        return -EACCES;
    device->owner = owner_id;
    return 0;
}

/* Whether the owner may use the device, which somebody has bound: 0 or -EACCES. */
static __noinline int check_use(const struct ledger_device_key *key, __u32 tenant_id,
                                __u32 owner_id)
{
    struct ledger_device *device = key ? get_device(key) : NULL;
    struct ledger_owner *owner = get_owner(owner_id);

    if (!device || !owner || device->tenant != tenant_id)
        return -EACCES;
    if (device->owner == owner_id)
        return 0;
    return device->machine && owner->machine == device->machine ? 0 : -EACCES;
}

/* What no single machine may do to an IOMMUFD that others use as well: 0, or -EPERM. */
static __always_inline int check_whole(__u32 command, const struct ioctl_rule *rule,
                                       const union argument *argument, __u32 flags)
{
    if (rule->flags & IOCTL_NOT_SHARED)
        return flags & LEDGER_CONTEXT_SHARED ? -EPERM : 0;
    switch (_IOC_NR(command)) {
    case _IOC_NR(IOMMU_OPTION):
        /* RLIMIT_MODE is the whole context's; reading it is harmless. */
        return argument->option.option_id == IOMMU_OPTION_RLIMIT_MODE &&
                       argument->option.op == IOMMU_OPTION_OP_SET
                   ? -EPERM
                   : 0;
    case _IOC_NR(IOMMU_VFIO_IOAS):
        return flags & LEDGER_CONTEXT_SHARED && argument->vfio_ioas.op != IOMMU_VFIO_IOAS_GET
                   ? -EPERM
                   : 0;
    }
    return 0;
}

/* An ioctl that the guard has no rule for. */
static __always_inline int check_unknown(__u32 guard)
{
    COUNT(unknown_ioctls);
    return guard == LEDGER_GUARD_STRICT ? -EPERM : 0;
}

/*
 * Whether the owner may have one more of what a map has room for: as many as are left for all
 * others. So nobody who wants very many keeps the others from having some.
 */
static __always_inline bool has_capacity(__s64 entries, __u32 max, __s64 own)
{
    return own < (__s64)max - entries;
}

/* An object that finds no room in the ledger would have no owner: it is refused before it is made.
 */
static __noinline int reserve_object(struct task_state *self)
{
    struct ledger_config *options = get_config();
    struct ledger_state *counters = get_state();
    struct ledger_owner *owner;

    if (!self || !options || !counters)
        return -ENOMEM;
    owner = get_owner(self->tenant_owner);
    if (has_capacity(READ_ONCE(counters->objects), options->max_objects,
                     owner ? owner->objects : 0))
        return 0;
    return report_full(self, 0);
}

/* Whether the memory is mapped already, and counts once: then it has one more reference. Where that
 * can be said of no memory here, it stays without a source. */
static __noinline bool find_extent(struct task_state *self, struct iopt_pages *range,
                                   const struct memory *asked, struct memory *memory)
{
    struct ledger_tenant *tenant;

    if (!self || !memory)
        return false;
    tenant = bpf_map_lookup_elem(&tenants, &self->tenant_id);
    if (!tenant || tenant->count != LEDGER_COUNT_UNIQUE)
        return false;
    if (range)
        describe_memory(range, memory);
    else if (asked)
        *memory = *asked;
    memory->tenant = self->tenant_id;
    memory->machine = self->machine;
    /* A promise holds also above the limit. */
    if (memory->source && (memory->machine || !budget_is_over(&tenant->budget)))
        self->extent = extent_get(memory);
    return self->extent;
}

/*
 * Takes the bytes from what is promised to the machine, or from what its tenant has left, unless
 * the same memory is mapped already: 0, or -EDQUOT. Which memory it is says the range, if the
 * kernel has made one, or else `asked`, whose source is 0 for what is to count in full.
 */
static __noinline int reserve_memory(struct task_state *self, __u64 bytes, struct iopt_pages *range,
                                     const struct memory *asked, struct budget_answer *ret_answer)
{
    struct memory memory = {};

    if (!self || !ret_answer)
        return -EDQUOT;
    self->may_map = bytes;
    if (!self->tenant_id || (may_count_unique() && find_extent(self, range, asked, &memory)))
        return 0;
    if (count_take(self->tenant_id, self->machine, bytes, ret_answer))
        return -EDQUOT;
    if (memory.source)
        self->extent = extent_new(&memory);
    if (!self->extent)
        self->reserved = bytes;
    return 0;
}

/* Takes the mapping's bytes before anything is pinned; see reserve_memory().
 * -ENOMEM: the map of ranges has no room for one more of this owner. */
static __noinline int reserve(struct task_state *self, __u64 bytes, struct iopt_pages *range,
                              const struct memory *asked)
{
    struct ledger_config *options = get_config();
    struct ledger_state *counters = get_state();
    struct budget_answer answer = {};
    struct ledger_owner *owner;
    __s64 entries;

    if (!self || !counters || !options)
        return -ENOMEM;
    entries = READ_ONCE(counters->pages);
    /* Mostly there is room even if all entries were its own, and the owner need not be looked up.
     */
    if (!has_capacity(entries, options->max_pages, entries)) {
        owner = get_owner(self->tenant_owner);
        if (!has_capacity(entries, options->max_pages, owner ? owner->pages : 0))
            return report_full(self, bytes);
    }
    if (reserve_memory(self, bytes, range, asked, &answer))
        return report_limit(self, bytes, &answer);
    /* The range that is here already takes it over at once. */
    return range ? 0 : note_reservation(self);
}

/* The same by what an argument says, before there is a range. source 0: it counts in full. */
static __noinline int reserve_argument(struct task_state *self, __u64 start, __u64 length,
                                       __u64 source)
{
    struct memory asked = {.source = source, .start = start & ~(LEDGER_PAGE_SIZE - 1)};

    if (!length || length > LONGEST)
        return 0;
    asked.bytes = whole_pages(start, length);
    return reserve(self, asked.bytes, NULL, &asked);
}
