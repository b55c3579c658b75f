/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel's own table of a context's objects, read without its lock: what is read at a bad
 * address is 0 and no fault, and the search is bounded whatever it meets.
 */
#pragma once

#include "types.bpf.h"

#define XARRAY_LEVELS 6

/*
 * Direct loads: a probe costs a call each time, and every id that is checked is looked up here. The
 * verifier allows them at fixed places in structures that it knows. word_at() is for all others:
 * the first member of that structure is a number.
 */
extern void *bpf_rdonly_cast(const void *address, __u32 type) __ksym;

#define AT(type, address)                                                                          \
    ((const type *)bpf_rdonly_cast((const void *)(address), bpf_core_type_id_kernel(type)))

static __always_inline __u64 word_at(__u64 address)
{
    return AT(struct rb_node, address)->__rb_parent_color;
}

/* What stands in the place of an object that is being made (XA_ZERO_ENTRY). */
#define XARRAY_RESERVED (257ull << 2 | 2)

/* An xarray's internal entries have 2 in their lower bits; a node is one of them. */
static __always_inline bool is_node(__u64 entry)
{
    return (entry & 3) == 2 && entry > 4096;
}

static __always_inline __u64 table_of(__u64 ictx)
{
    struct iommufd_ctx *kernels = (struct iommufd_ctx *)ictx;

    return word_at(ictx + bpf_core_field_offset(kernels->objects.xa_head));
}

/*
 * The object at an index of the table (xa_head): its address, XARRAY_RESERVED, or 0. *ret_span: how
 * many indexes, aligned to that number, are free for the same reason; 0: this and all above.
 */
__noinline __u64 object_at(__u64 table, __u64 index, __u64 *ret_span)
{
    __u64 entry = table;
    const struct xa_node *node;
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
        entry = word_at(entry - 2 + bpf_core_field_offset(struct xa_node, slots) +
                        8 * ((index >> shift) & 63));
        if (!is_node(entry) || !shift)
            break;
    }
    *ret_span = 1ull << shift;
    return entry & 3 && entry != XARRAY_RESERVED ? 0 : entry;
}
