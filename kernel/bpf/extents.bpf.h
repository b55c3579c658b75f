/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory that counts once however often it is mapped, for tenants that count unique bytes.
 *
 * With a vIOMMU, QEMU maps the same RAM once for each device's address space, within milliseconds:
 * a walk comes too late to tell that it is the same. So a range that is mapped again from end to
 * end, out of the same address space or file, is found here and only held once more; its bytes are
 * the place's, and the last holder gives them back. Ranges that merely overlap count in full until
 * the walk finds it out (control_credit()). A place that two threads make at the same time is made
 * twice, and a window that is full has room for no more: both count too much, never too little.
 *
 * Places are elements of an array, since those are never freed: an element of a hash map may be
 * given to another key while it is looked at. Whoever has compared a place and then exchanges its
 * state for one more holder knows that it was about the same memory all the time, because each new
 * use of the place begins with another number in the state.
 *
 * What this trusts: that memory stays the same under its address while it is mapped. A process can
 * put other memory there (munmap(), madvise(), a hole in a file) and have that pinned beside the
 * old, which stays pinned, too. LEDGER_COPIES bounds by how much such a process can deceive the
 * count, not by nothing: the limit times that many. What really holds its memory down is the
 * memory controller of its cgroup, to which every page it was given is charged exactly once.
 */
#pragma once

#include "maps.bpf.h"

#define PLACE_WINDOW 16
#define PLACE_HOLDERS 0x7fffffffull
#define PLACE_WRITING 0x80000000ull

/* Whole pages of an address space, or of a file, as one tenant maps them. */
struct memory {
    __u64 source; /* address of the struct mm_struct or inode: both live while it is mapped */
    __u64 start;
    __u64 bytes;
    __u32 tenant;
};

static __always_inline struct ledger_place *get_place(__u32 number)
{
    __u32 index = number - 1;

    return number ? bpf_map_lookup_elem(&places, &index) : NULL;
}

static __always_inline bool is_about(const struct ledger_place *place, const struct memory *memory)
{
    return *(volatile __u64 *)&place->start == memory->start &&
           *(volatile __u64 *)&place->source == memory->source &&
           *(volatile __u64 *)&place->bytes == memory->bytes &&
           *(volatile __u32 *)&place->tenant == memory->tenant;
}

static __always_inline __u32 first_place(const struct memory *memory)
{
    __u64 hash = (memory->source ^ memory->start * 0x9e3779b97f4a7c15) * 0xd6e8feb86659fd93;

    hash = ((hash ^ hash >> 32) + memory->bytes + memory->tenant) * 0x9e3779b97f4a7c15;
    return hash >> 32;
}

/* One more holder, unless the place is another's by now. */
static __always_inline bool hold_place(struct ledger_place *place, const struct memory *memory)
{
    for (int i = 0; i < TRIES; i++) {
        /* Not merely read: what it is about must not be read before. */
        __u64 state = __sync_fetch_and_add(&place->state, 0), holders = state & PLACE_HOLDERS;

        if (!holders || holders >= LEDGER_COPIES || state & PLACE_WRITING ||
            !is_about(place, memory))
            return false;
        if (COMPARE_AND_SWAP(&place->state, state, state + 1) == state)
            return true;
    }
    return false;
}

/* The number of the place that is about this memory, held once more. 0: there is none. */
static __noinline __u32 take_place(const struct memory *memory)
{
    struct ledger_config *options = get_config();

    if (!memory || !options)
        return 0;
    for (__u32 i = 0; i < PLACE_WINDOW; i++) {
        __u32 number = ((first_place(memory) + i) & (options->places - 1)) + 1;
        struct ledger_place *place = get_place(number);

        if (place && is_about(place, memory) && hold_place(place, memory))
            return number;
    }
    return 0;
}

/* A new place with one holder, to which the bytes belong from now on. 0: there is no room. */
static __noinline __u32 make_place(const struct memory *memory)
{
    struct ledger_config *options = get_config();

    if (!memory || !options)
        return 0;
    for (__u32 i = 0; i < PLACE_WINDOW; i++) {
        __u32 number = ((first_place(memory) + i) & (options->places - 1)) + 1;
        struct ledger_place *place = get_place(number);
        __u64 state, next;

        if (!place)
            continue;
        state = *(volatile __u64 *)&place->state;
        next = ((state >> 32) + 1) << 32;
        if (state & (PLACE_HOLDERS | PLACE_WRITING) ||
            COMPARE_AND_SWAP(&place->state, state, next | PLACE_WRITING) != state)
            continue;
        place->source = memory->source;
        place->start = memory->start;
        place->bytes = memory->bytes;
        place->tenant = memory->tenant;
        __sync_lock_test_and_set(&place->state, next | 1);
        return number;
    }
    return 0;
}

/* One holder less: the bytes to be given back, which is none before the last. */
static __always_inline __u64 drop_place(__u32 number)
{
    struct ledger_place *place = get_place(number);
    __u64 bytes;

    if (!place)
        return 0;
    bytes = *(volatile __u64 *)&place->bytes;
    return (__sync_fetch_and_add(&place->state, -1) & PLACE_HOLDERS) == 1 ? bytes : 0;
}
