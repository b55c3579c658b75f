/* SPDX-License-Identifier: GPL-2.0-only */
/* The extents in their map (extents.h says what they are). */
#pragma once

#include "maps.bpf.h"

#include "extents.h"

static __always_inline struct ledger_extent *extent_at(__u32 number)
{
    __u32 index = number - 1;

    return number ? bpf_map_lookup_elem(&extents, &index) : NULL;
}

__noinline __u32 extent_find(const struct memory *memory, bool make)
{
    struct ledger_config *options = get_config();

    return memory && options ? extent_search(memory, options->extents, make) : 0;
}

/* A reference to the extent of memory that is mapped already. 0: there is none. */
static __always_inline __u32 extent_get(const struct memory *memory)
{
    return extent_find(memory, false);
}

/* A new extent, to which the bytes belong from now on. 0: there is no room. */
static __always_inline __u32 extent_new(const struct memory *memory)
{
    return extent_find(memory, true);
}
