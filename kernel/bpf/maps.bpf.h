/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The maps, and the few operations on them that all programs share.
 *
 * Hash maps are preallocated: a hook runs where memory may be short, and what is full is full at a
 * size that was configured. The sizes here are defaults; user space sets them before it loads.
 *
 * A function that is not static is checked by the kernel's verifier once, a static one anew for
 * each place and state that it is called from. Those that search are not static, then, and take
 * numbers only: the kernel's pointers would not do.
 */
#pragma once

#include "types.bpf.h"

#include "shared.h"

#define COMPARE_AND_SWAP __sync_val_compare_and_swap
/* How often an exchange that another processor may spoil is tried. */
#define TRIES 16

struct config_map {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct ledger_config);
} config SEC(".maps");

/* No program reads it: who changes a map of maps is kept waiting for all that run. */
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
    __type(value, struct ledger_place);
} places SEC(".maps");

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
    __type(key, struct ledger_book_key);
    __type(value, struct ledger_book);
} books SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 4096);
    __type(key, __u32);
    __type(value, struct ledger_tenant);
} tenants SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 8192);
    __type(key, __u32);
    __type(value, struct ledger_machine);
} machines SEC(".maps");

/* cgroup id -> machine, or LEDGER_CARRIER */
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
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 256 * 1024);
} events SEC(".maps");

/* What a thread is in the middle of, once the guard has let it through. */
enum stage {
    STAGE_NONE = 0,
    STAGE_SERVICE, /* an ioctl of iommud's own */
    STAGE_CHECKED, /* an ioctl whose argument was looked at */
    STAGE_DEVICE,  /* the same of a device: its end will not be seen */
};

/*
 * Who a thread is to the IOMMUFD that it used last, and what it is in the middle of. To look up who
 * it is is much of what a check costs, and it is the same the next time, unless something has
 * changed since (struct ledger_state).
 */
struct call {
    __u64 context; /* address of that IOMMUFD; 0: of none */
    __u32 changes;
    __u32 serial;
    __u32 tenant;
    __u32 flags; /* enum ledger_context_flags */
    __u32 owner; /* one of the tenant's, or the service; 0: it is a stranger there */
    __u32 maker; /* the same, but also of a stranger */

    __u32 stage; /* enum stage */
    __u32 command;
    __u32 tampered;
    __u64 mapping;  /* address of the IOMMUFD that is being mapped into */
    __u64 may_map;  /* bytes that were let through */
    __u64 reserved; /* of these, what was taken from the tenant and no range has yet */
    __u64 removing; /* address of the object that is being destroyed */
    __u32 changing; /* it moves what is charged from another process to itself */
    __u32 place;    /* that is held for the range to come; may_map is its bytes */
};

struct {
    __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct call);
} calls SEC(".maps");

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

static __always_inline struct call *get_call(bool create)
{
    return bpf_task_storage_get(&calls, bpf_get_current_task_btf(), NULL,
                                create ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
}

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
    new.serial = __sync_fetch_and_add(&counters->contexts, 1) + 1;
    bpf_map_update_elem(&contexts, &ictx, &new, BPF_NOEXIST);
    context = bpf_map_lookup_elem(&contexts, &ictx);
    if (!context)
        __sync_fetch_and_add(&counters->lost_contexts, 1);
    return context;
}

static __always_inline void raise_to(__s64 *peak, __s64 value)
{
    __s64 seen = *(volatile __s64 *)peak;

    for (int i = 0; i < TRIES; i++) {
        __s64 was;

        if (seen >= value)
            break;
        was = COMPARE_AND_SWAP(peak, seen, value);
        if (was == seen)
            break;
        seen = was;
    }
}

static __noinline struct ledger_book *get_book(__u32 context, __u32 owner)
{
    struct ledger_book_key key = {.context = context, .owner = owner};
    struct ledger_book *book = bpf_map_lookup_elem(&books, &key);
    struct ledger_book new = {};
    struct ledger_owner *whose;

    if (book)
        return book;
    whose = bpf_map_lookup_elem(&owners, &owner);
    new.tenant = whose ? whose->tenant : 0;
    bpf_map_update_elem(&books, &key, &new, BPF_NOEXIST);
    book = bpf_map_lookup_elem(&books, &key);
    if (!book)
        COUNT(lost_books);
    return book;
}

/* What threads know about themselves is to be looked up anew. After the change. */
static __always_inline void note_change(void)
{
    COUNT(changes);
}

/* Adds to what a tenant has mapped, without a look at its limit; negative bytes give back. */
static __always_inline void tenant_add(__u32 tenant, __s64 bytes)
{
    struct ledger_tenant *account;

    if (!tenant || !bytes)
        return;
    account = bpf_map_lookup_elem(&tenants, &tenant);
    if (account)
        __sync_fetch_and_add(&account->mapped, bytes);
}

/*
 * Gives back memory that was mapped. What is known to be mapped twice shrinks with it by as much
 * as it can have shrunk, so that the credit never exceeds the truth; the next walk finds it anew.
 */
static __always_inline void tenant_release(__u32 tenant, __u64 bytes)
{
    struct ledger_tenant *account;
    __s64 seen;

    if (!tenant || !bytes)
        return;
    account = bpf_map_lookup_elem(&tenants, &tenant);
    if (!account)
        return;
    __sync_fetch_and_add(&account->releases, 1);
    seen = *(volatile __s64 *)&account->credit;
    for (int i = 0; i < TRIES && seen > 0; i++) {
        __s64 less = seen > (__s64)bytes ? seen - (__s64)bytes : 0;
        __s64 was;

        /* The last try takes it all: too little credit harms nobody. */
        was = COMPARE_AND_SWAP(&account->credit, seen, i == TRIES - 1 ? 0 : less);
        if (was == seen)
            break;
        seen = was;
    }
    __sync_fetch_and_add(&account->mapped, -(__s64)bytes);
}

/* What the tenant has left when so much is mapped. */
static __always_inline __u64 tenant_left(const struct ledger_tenant *account, __s64 mapped)
{
    __s64 credit = *(volatile __s64 *)&account->credit;
    __u64 limit = *(volatile __u64 *)&account->limit;
    __u64 used = mapped > credit ? mapped - credit : 0;

    if (limit == LEDGER_NO_LIMIT)
        return LEDGER_NO_LIMIT;
    return used > limit ? 0 : limit - used;
}

/*
 * Takes bytes from what the tenant has left: 0, or -EDQUOT with nothing taken. Nobody sees the
 * sum above the limit, so that of two that race for the last bytes one always wins; unless so many
 * others map at this moment that no exchange succeeds: then the bytes are added first, and taken
 * back if they were too many.
 */
static __always_inline int tenant_reserve(struct ledger_tenant *account, __u64 bytes,
                                          __u64 *ret_left)
{
    __s64 seen = *(volatile __s64 *)&account->mapped;

    for (int i = 0; i < TRIES; i++) {
        __s64 was;

        *ret_left = tenant_left(account, seen);
        if (bytes > *ret_left)
            return -EDQUOT;
        was = COMPARE_AND_SWAP(&account->mapped, seen, seen + (__s64)bytes);
        if (was == seen)
            return 0;
        seen = was;
    }
    *ret_left = tenant_left(account, __sync_fetch_and_add(&account->mapped, (__s64)bytes));
    if (bytes <= *ret_left)
        return 0;
    __sync_fetch_and_add(&account->mapped, -(__s64)bytes);
    return -EDQUOT;
}

/* More counts than may: it was lowered, or something was mapped that was not checked. */
static __always_inline bool tenant_is_over(const struct ledger_tenant *account)
{
    __u64 limit = *(volatile __u64 *)&account->limit;
    __s64 used = *(volatile __s64 *)&account->mapped - *(volatile __s64 *)&account->credit;

    return limit != LEDGER_NO_LIMIT && used > 0 && (__u64)used > limit;
}

/* What counts against the tenant, and of which no range is known: until a walk settles it. */
static __always_inline void tenant_lose(__u32 tenant, __u64 bytes)
{
    struct ledger_tenant *account;

    if (!tenant || !bytes)
        return;
    account = bpf_map_lookup_elem(&tenants, &tenant);
    if (!account)
        return;
    __sync_fetch_and_add(&account->losses, 1);
    __sync_fetch_and_add(&account->unsettled, (__s64)bytes);
}
