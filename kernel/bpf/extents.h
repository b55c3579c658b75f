/* SPDX-License-Identifier: GPL-2.0-only OR LGPL-2.1-or-later */
/*
 * Extents: memory that several ranges of one machine map from end to end, and that counts once for
 * tenants that count unique bytes. They are counted by reference.
 *
 * With a vIOMMU, QEMU maps the same RAM once for each device's address space, within milliseconds:
 * a reconciliation comes too late to tell that it is the same. So a range that is mapped again from
 * end to end, out of the same address space or file, takes one more reference to the extent; its
 * bytes are the extent's, and whoever drops the last reference gives them back. Ranges that merely
 * overlap count in full until a reconciliation finds it out (set_dedup_credit() in control.bpf.c).
 * An extent that two threads make at the same time is made twice, and one for which the window is
 * full is not made: both count too much, never too little.
 *
 * Extents are elements of an array, which are never freed; an element of a hash map may be given to
 * another key while it is looked at. `state` begins with a number that each new use of an element
 * raises: who compares an extent with the memory, and then exchanges `state` for one reference
 * more, knows that the extent was about that memory all the time.
 *
 * This trusts that memory stays the same under its address while it is mapped. A process can put
 * other memory there (munmap(), madvise(), a hole in a file) and have that pinned beside the old,
 * which stays pinned, too. Such a process can pin up to LEDGER_EXTENT_MAX_REFS times its limit.
 * What really bounds its memory is the memory controller of its cgroup, to which each page is
 * charged exactly once.
 */
#pragma once

#include "portable.h"

/* Elements in which an extent may stand, from that of its hash on. */
#define EXTENT_WINDOW 16
#define EXTENT_REFS 0x7fffffffull
#define EXTENT_WRITING 0x80000000ull

/* Whole pages of an address space, or of a file, as one machine maps them. */
struct memory {
    __u64 source; /* address of the struct mm_struct or inode: both live while it is mapped */
    __u64 start;
    __u64 bytes;
    __u32 tenant;
    __u32 machine; /* that its bytes are taken from; 0: the tenant */
};

/* Defined by who includes this: the extent of that number, from 1 on. NULL: there is none. */
static __always_inline struct ledger_extent *extent_at(__u32 number);

static __always_inline bool extent_is_of(const struct ledger_extent *extent,
                                         const struct memory *memory)
{
    return READ_ONCE(extent->start) == memory->start &&
           READ_ONCE(extent->source) == memory->source &&
           READ_ONCE(extent->bytes) == memory->bytes &&
           READ_ONCE(extent->tenant) == memory->tenant &&
           READ_ONCE(extent->machine) == memory->machine;
}

static __always_inline __u32 memory_hash(const struct memory *memory)
{
    __u64 hash = (memory->source ^ memory->start * 0x9e3779b97f4a7c15) * 0xd6e8feb86659fd93;

    hash = ((hash ^ hash >> 32) + memory->bytes + memory->tenant) * 0x9e3779b97f4a7c15;
    return hash >> 32;
}

/* One more reference, unless the extent is another memory's by now, or has as many as may be. */
static __always_inline bool extent_ref(struct ledger_extent *extent, const struct memory *memory)
{
    for (int i = 0; i < TRIES; i++) {
        /* The addition of 0 is a read with a full barrier: the members below are read after it.
         * Pairs with the exchange at the end of extent_make(), which comes after they are written.
         */
        __u64 state = __sync_fetch_and_add(&extent->state, 0), refs = state & EXTENT_REFS;

        if (!refs || refs >= LEDGER_EXTENT_MAX_REFS || state & EXTENT_WRITING ||
            !extent_is_of(extent, memory))
            return false;
        if (COMPARE_AND_SWAP(&extent->state, state, state + 1) == state)
            return true;
    }
    return false;
}

/* Makes an element that nobody refers to the extent of this memory, with one reference. */
static __always_inline bool extent_make(struct ledger_extent *extent, const struct memory *memory)
{
    __u64 state = READ_ONCE(extent->state), next = ((state >> 32) + 1) << 32;

    if (state & (EXTENT_REFS | EXTENT_WRITING) ||
        COMPARE_AND_SWAP(&extent->state, state, next | EXTENT_WRITING) != state)
        return false;
    extent->source = memory->source;
    extent->start = memory->start;
    extent->bytes = memory->bytes;
    extent->tenant = memory->tenant;
    extent->machine = memory->machine;
    __sync_lock_test_and_set(&extent->state, next | 1);
    return true;
}

/* The number of the memory's extent with one reference more; make: of a new one. 0: there is none,
 * or no room for one. entries: a power of two. */
static __noinline __u32 extent_search(const struct memory *memory, __u32 entries, bool make)
{
    if (!memory)
        return 0;
    for (__u32 i = 0; i < EXTENT_WINDOW; i++) {
        __u32 number = ((memory_hash(memory) + i) & (entries - 1)) + 1;
        struct ledger_extent *extent = extent_at(number);

        if (extent && (make ? extent_make(extent, memory)
                            : extent_is_of(extent, memory) && extent_ref(extent, memory)))
            return number;
    }
    return 0;
}

/* One reference less: the bytes to be given back, which are none before the last one goes. */
static __always_inline __u64 extent_put(__u32 number)
{
    struct ledger_extent *extent = extent_at(number);
    __u64 bytes;

    if (!extent)
        return 0;
    /* Read before: after the last reference the element may be another memory's. */
    bytes = READ_ONCE(extent->bytes);
    return (__sync_fetch_and_add(&extent->state, -1) & EXTENT_REFS) == 1 ? bytes : 0;
}
