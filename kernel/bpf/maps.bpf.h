/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The maps, and the operations on them that all programs share.
 *
 * Hash maps are preallocated: a hook runs where memory may be short, and a map is full at the size
 * that was configured. The sizes here are defaults; user space sets them before it loads.
 *
 * The verifier checks a function that is not static once, and a static one anew at each call. So
 * functions that search are not static; they can then take numbers only, no pointers of the kernel.
 */
#pragma once

#include "types.bpf.h"

#include "reserve.h"
#include "shared.h"

struct config_map {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct ledger_config);
} config SEC(".maps");

/* No program reads it. The kernel lets a change of a map of maps return only when every program
 * that was running has ended (synchronize_rcu()). */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, 1);
    __type(key, __u32);
    __array(values, struct config_map);
} fence SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct ledger_report);
} loaded SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct ledger_state);
} state SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 4096);
    __type(key, __u64);
    __type(value, struct ledger_context);
} contexts SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 65536);
    __type(key, struct ledger_object_key);
    __type(value, struct ledger_object);
} objects SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 65536);
    __type(key, __u64);
    __type(value, struct ledger_pages);
} pages SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 65536);
    __type(key, __u32);
    __type(value, struct ledger_extent);
} extents SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, LEDGER_RESERVATIONS);
    __type(key, __u32);
    __type(value, struct ledger_reservation);
} reservations SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 8192);
    __type(key, __u32);
    __type(value, struct ledger_process);
} processes SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 8192);
    __type(key, __u32);
    __type(value, struct ledger_owner);
} owners SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 16384);
    __type(key, struct ledger_account_key);
    __type(value, struct ledger_account);
} accounts SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 4096);
    __type(key, __u32);
    __type(value, struct ledger_tenant);
} tenants SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct ledger_budget);
} host SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 8192);
    __type(key, __u32);
    __type(value, struct ledger_machine);
} machines SEC(".maps");

/* cgroup id -> machine, or LEDGER_RELAY */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 8192);
    __type(key, __u64);
    __type(value, __u32);
} cgroups SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 8192);
    __type(key, struct ledger_device_key);
    __type(value, struct ledger_device);
} devices SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 8192);
    __type(key, __u32);
    __type(value, struct ledger_unit);
} units SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 256 * 1024);
} events SEC(".maps");

/* The number of an object's type on the running kernel, in numbers of our own. */
#define TYPE(kernel, own)                                                                          \
    if (bpf_core_enum_value_exists(enum iommufd_object_type, kernel) &&                            \
        type == bpf_core_enum_value(enum iommufd_object_type, kernel))                             \
        return own;

__noinline __u32 own_type(__u32 type)
{
    TYPE(IOMMUFD_OBJ_DEVICE, LEDGER_OBJECT_DEVICE)
    TYPE(IOMMUFD_OBJ_HWPT_PAGING, LEDGER_OBJECT_HWPT_PAGING)
    TYPE(IOMMUFD_OBJ_HWPT_NESTED, LEDGER_OBJECT_HWPT_NESTED)
    TYPE(IOMMUFD_OBJ_IOAS, LEDGER_OBJECT_IOAS)
    TYPE(IOMMUFD_OBJ_ACCESS, LEDGER_OBJECT_ACCESS)
    TYPE(IOMMUFD_OBJ_FAULT, LEDGER_OBJECT_FAULT)
    TYPE(IOMMUFD_OBJ_VIOMMU, LEDGER_OBJECT_VIOMMU)
    TYPE(IOMMUFD_OBJ_VDEVICE, LEDGER_OBJECT_VDEVICE)
    TYPE(IOMMUFD_OBJ_VEVENTQ, LEDGER_OBJECT_VEVENTQ)
    TYPE(IOMMUFD_OBJ_HW_QUEUE, LEDGER_OBJECT_HW_QUEUE)
    return LEDGER_OBJECT_OTHER;
}

#undef TYPE

static __always_inline struct ledger_state *get_state(void)
{
    __u32 zero = 0;

    return bpf_map_lookup_elem(&state, &zero);
}

static __always_inline struct ledger_config *get_config(void)
{
    __u32 zero = 0;

    return bpf_map_lookup_elem(&config, &zero);
}

/* Whether VFIO's containers are its own, and not served by iommufd. */
static __always_inline bool have_containers(void)
{
    return bpf_core_type_exists(struct vfio_container);
}

/* Whether what is opened by that number is an IOMMUFD. */
static __always_inline bool is_iommufd(const struct ledger_config *options, __u32 rdev)
{
    return options->iommu_rdev &&
           (rdev == options->iommu_rdev || (rdev == LEDGER_CONTAINER_RDEV && !have_containers()));
}

#define COUNT(counter)                                                                             \
    ({                                                                                             \
        struct ledger_state *counted = get_state();                                                \
        if (counted)                                                                               \
            __sync_fetch_and_add(&counted->counter, 1);                                            \
    })

static __always_inline struct ledger_context *get_context(const void *ictx)
{
    __u64 key = (__u64)ictx;

    return bpf_map_lookup_elem(&contexts, &key);
}

/* The entry of an IOMMUFD, made if there is none. */
static __noinline struct ledger_context *make_context(__u64 ictx)
{
    struct ledger_context *context = bpf_map_lookup_elem(&contexts, &ictx);
    struct ledger_state *counters = get_state();
    struct ledger_context new = {};

    if (context || !counters)
        return context;
    new.id = __sync_fetch_and_add(&counters->contexts, 1) + 1;
    bpf_map_update_elem(&contexts, &ictx, &new, BPF_NOEXIST);
    context = bpf_map_lookup_elem(&contexts, &ictx);
    if (!context)
        __sync_fetch_and_add(&counters->lost_contexts, 1);
    return context;
}

/* What an owner has in a context; made if there is none. NULL: the map is full. */
static __noinline struct ledger_account *get_account(__u32 context, __u32 owner_id)
{
    struct ledger_account_key key = {.context = context, .owner = owner_id};
    struct ledger_account *account = bpf_map_lookup_elem(&accounts, &key);
    struct ledger_account new = {};
    struct ledger_owner *owner;

    if (account)
        return account;
    owner = bpf_map_lookup_elem(&owners, &owner_id);
    new.tenant = owner ? owner->tenant : 0;
    bpf_map_update_elem(&accounts, &key, &new, BPF_NOEXIST);
    account = bpf_map_lookup_elem(&accounts, &key);
    if (!account)
        COUNT(lost_accounts);
    return account;
}

/* Who is who has changed: every thread looks up anew who it is (identify()). To be called after the
 * change: a thread that sees the old number may still use what it knew before. On x86 the addition
 * is a full barrier (a locked instruction); pairs with the addition of 0 in identify_anew(). */
static __always_inline void note_change(void)
{
    COUNT(changes);
}
