/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel's own table of a context's objects, read without its lock: every read is a probe,
 * which fails on a bad address and doesn't fault, and the search is bounded whatever it meets.
 */
#pragma once

#include "types.bpf.h"

#define XARRAY_LEVELS 6
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
__noinline __u64 object_at(__u64 table, __u64 index, __u64 *ret_span)
{
    __u64 entry = table;
    __u32 shift = 0;

    if (!ret_span)
        return 0;
    *ret_span = 0;
    /* A lone entry is at index 0, which no object has. */
    if (!is_node(entry))
        return 0;
    for (int level = 0; level < XARRAY_LEVELS; level++) {
        struct xa_node *node = (struct xa_node *)(entry - 2);

        shift = BPF_CORE_READ(node, shift);
        if (shift > 30 || (!level && index >> (shift + 6)))
            return 0;
        entry = 0;
        bpf_probe_read_kernel(&entry, sizeof(entry), &node->slots[(index >> shift) & 63]);
        if (!is_node(entry) || !shift)
            break;
    }
    *ret_span = 1ull << shift;
    return entry & 3 && entry != XARRAY_RESERVED ? 0 : entry;
}
