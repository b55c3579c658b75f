/* SPDX-License-Identifier: GPL-2.0-only OR LGPL-2.1-or-later */
/*
 * Claims of units: of what must not be parted (an IOMMU group, with what a reset of it reaches), so
 * that one machine has all of it or another. A unit knows the machine, and how many of its devices
 * that has claimed, in one word; what a machine claims no other gets until it has given all of them
 * back, or is removed. Over plain pointers, as reserve.h.
 */
#pragma once

#include "portable.h"

/* One more device of the unit for the machine: 0; -EBUSY: another has some, *ret_holder; -EAGAIN:
 * so many others claim. gone: a machine that is removed, whose claim counts for nothing; 0: none.
 */
static __always_inline int unit_claim(struct ledger_unit *unit, __u32 machine, __u32 gone,
                                      __u32 *ret_holder)
{
    __u64 seen = READ_ONCE(unit->claim);

    for (int i = 0; i < TRIES; i++) {
        __u32 holder = LEDGER_CLAIM_MACHINE(seen);
        __u32 devices = holder == machine ? LEDGER_CLAIM_DEVICES(seen) : 0;
        __u64 was;

        if (seen && holder != machine && holder != gone) {
            *ret_holder = holder;
            return -EBUSY;
        }
        was = COMPARE_AND_SWAP(&unit->claim, seen, LEDGER_CLAIM(machine, devices + 1));
        if (was == seen)
            return 0;
        seen = was;
    }
    return -EAGAIN;
}

/* One device less. Nothing, if the machine has none of it. */
static __always_inline void unit_release(struct ledger_unit *unit, __u32 machine)
{
    __u64 seen = READ_ONCE(unit->claim);

    for (int i = 0; i < TRIES; i++) {
        __u32 devices = LEDGER_CLAIM_DEVICES(seen);
        __u64 was;

        if (LEDGER_CLAIM_MACHINE(seen) != machine || !devices)
            return;
        was = COMPARE_AND_SWAP(&unit->claim, seen,
                               devices > 1 ? LEDGER_CLAIM(machine, devices - 1) : 0);
        if (was == seen)
            return;
        seen = was;
    }
}
