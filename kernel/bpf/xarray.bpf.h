/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel's own table of a context's objects, read without its lock: what is read at a bad
 * address is 0 and no fault, and the search is bounded whatever it meets.
 */
#pragma once

#include "types.bpf.h"

#define XARRAY_LEVELS 6

/* An address as a structure of the kernel's that may be read: by direct loads, since a probe costs
 * a call each, and every id that is checked is looked up here. */
extern void *bpf_rdonly_cast(const void *address, __u32 type) __ksym;
#define AT(type, address)                                                                          \
    ((type *)bpf_rdonly_cast((const void *)(address), bpf_core_type_id_kernel(type)))

/* What stands in the place of an object that is being made (XA_ZERO_ENTRY). */
#define XARRAY_RESERVED (257ull << 2 | 2)

/* An xarray's internal entries have 2 in their lower bits; a node is one of them. */
static __always_inline bool is_node(__u64 entry)
{
    return (entry & 3) == 2 && entry > 4096;
}

/*
 * The object at an index of the table (xa_head): its address, XARRAY_RESERVED, or 0. *ret_span: how
 * many indexes, aligned to that number, are free for the same reason; 0: this and all above.
 */
static __always_inline __u64 table_of(__u64 ictx)
{
    struct iommufd_ctx *kernels = (struct iommufd_ctx *)ictx;

    return (__u64)AT(struct xarray, ictx + bpf_core_field_offset(kernels->objects))->xa_head;
}

__noinline __u64 object_at(__u64 table, __u64 index, __u64 *ret_span)
{
    __u64 entry = table;
    struct xa_node *node;
    __u32 shift = 0;

    if (!ret_span)
        return 0;
    *ret_span = 0;
    /* A lone entry is at index 0, which no object has. */
    if (!is_node(entry))
        return 0;
    for (int level = 0; level < XARRAY_LEVELS; level++) {
        node = AT(struct xa_node, entry - 2);
        shift = node->shift;
        if (shift > 30 || (!level && index >> (shift + 6)))
            return 0;
        /* Its slot, as if it were the first one: only at a fixed place may one be read. */
        node = AT(struct xa_node, entry - 2 + 8 * ((index >> shift) & 63));
        entry = (__u64)node->slots[0];
        if (!is_node(entry) || !shift)
            break;
    }
    *ret_span = 1ull << shift;
    return entry & 3 && entry != XARRAY_RESERVED ? 0 : entry;
}
