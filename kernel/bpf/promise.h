/* SPDX-License-Identifier: GPL-2.0-only OR LGPL-2.1-or-later */
/*
 * What is promised to a machine, and what it maps of it and beyond. Over plain pointers, as
 * reserve.h; any number of processors may be in any of these functions at the same time, and none
 * of them waits.
 *
 * A machine has taken `reserved + borrowed` bytes from its tenant and the host. Of these, `room` is
 * not mapped. At rest
 *
 *   reserved + borrowed == mapped + room
 *
 * and whatever happens `room >= reserved - mapped`: what was promised may always be mapped. Each
 * step below keeps the equation, up to bytes that somebody has in hand, taken from one of its words
 * and not added to another yet; the words are given to in the order that never makes room too
 * small.
 *
 *   a mapping of n       room -= n, if there is so much; what is short is borrowed first
 *   its end              borrowed -= x, x = min(n, borrowed), which tenant and host get back;
 *                        room += n - x
 *   a larger promise     what is borrowed becomes promised, the rest is taken from tenant and host
 * and added to room; then it is promised a smaller one        it is not promised any more, but
 * borrowed; then what of that is not mapped is given back
 *
 * A mapping within the promise exchanges one word, which no other machine has. When the machine is
 * removed its room is closed: what is mapped then is the tenant's from there on, mapping by
 * mapping.
 */
#pragma once

#include "reserve.h"

static __always_inline bool machine_is_closed(const struct ledger_machine *machine)
{
    return LEDGER_IS_CLOSED(READ_ONCE(machine->room));
}

/* What it has mapped, at rest. */
static __always_inline __u64 machine_mapped(const struct ledger_machine *machine)
{
    __s64 mapped = (__s64)(READ_ONCE(machine->reserved) + READ_ONCE(machine->borrowed)) -
                   READ_ONCE(machine->room);

    return mapped > 0 && !machine_is_closed(machine) ? mapped : 0;
}

/* Takes what is in the room, at most so much: how much it was. */
static __always_inline __u64 room_take_some(struct ledger_machine *machine, __u64 most)
{
    __s64 seen = READ_ONCE(machine->room);

    for (int i = 0; i < TRIES && seen > 0; i++) {
        __s64 take = seen < (__s64)most ? seen : (__s64)most;
        __s64 was = COMPARE_AND_SWAP(&machine->room, seen, seen - take);

        if (was == seen)
            return take;
        seen = was;
    }
    return 0;
}

/* Adds to the room. false: it is closed, and nothing was added. */
static __always_inline bool room_add(struct ledger_machine *machine, __s64 bytes)
{
    if (!LEDGER_IS_CLOSED(__sync_fetch_and_add(&machine->room, bytes)))
        return true;
    __sync_fetch_and_add(&machine->room, -bytes);
    return false;
}

/* Takes what is borrowed, at most so much: how much it was. */
static __always_inline __u64 borrowed_take_some(struct ledger_machine *machine, __u64 most)
{
    __u64 seen = READ_ONCE(machine->borrowed);

    for (int i = 0; i < TRIES && seen; i++) {
        __u64 take = seen < most ? seen : most;
        __u64 was = COMPARE_AND_SWAP(&machine->borrowed, seen, seen - take);

        if (was == seen)
            return take;
        seen = was;
    }
    return 0;
}

/*
 * Takes the bytes from the room alone: 0, -EDQUOT if there is not so much, and -ENOENT if it is
 * closed. If TRIES exchanges fail, since so many threads of the machine map at this moment, the
 * bytes are subtracted first: others may then be short only while more is asked for than was
 * promised.
 */
static __always_inline int room_take(struct ledger_machine *machine, __u64 bytes)
{
    __s64 seen = READ_ONCE(machine->room);

    if (bytes > BUDGET_MOST)
        return -EDQUOT;
    for (int i = 0; i < TRIES; i++) {
        __s64 was;

        if (seen < (__s64)bytes)
            return LEDGER_IS_CLOSED(seen) ? -ENOENT : -EDQUOT;
        was = COMPARE_AND_SWAP(&machine->room, seen, seen - (__s64)bytes);
        if (was == seen)
            return 0;
        seen = was;
    }
    seen = __sync_fetch_and_add(&machine->room, -(__s64)bytes);
    if (seen >= (__s64)bytes)
        return 0;
    __sync_fetch_and_add(&machine->room, (__s64)bytes);
    return LEDGER_IS_CLOSED(seen) ? -ENOENT : -EDQUOT;
}

/*
 * More than there is room for: what is short is borrowed of what nobody was promised, and only then
 * the rest taken from the room, which a refusal so never makes smaller for anybody. 0; -EDQUOT:
 * nobody has so much, and nothing was taken; -ENOENT: the machine is closed, and nothing was taken.
 */
SHARED_FUNCTION int machine_borrow(struct ledger_machine *machine, struct ledger_budget *tenant,
                                   struct ledger_budget *host, __u64 bytes,
                                   struct budget_answer *ret_answer)
{
    __u64 in_hand = 0;
    __s64 seen;

    if (!machine || !ret_answer || bytes > BUDGET_MOST)
        return -EDQUOT;
    seen = READ_ONCE(machine->room);
    for (int i = 0; i <= TRIES; i++) {
        /* In the end without the room, which so many others exchange. */
        __u64 room = seen > 0 && i < TRIES ? seen : 0, need;
        __s64 was;

        if (LEDGER_IS_CLOSED(seen)) {
            budgets_add(tenant, host, -(__s64)in_hand);
            return -ENOENT;
        }
        if (bytes > in_hand + room) {
            __u64 more = bytes - in_hand - room;

            if (budgets_take(tenant, host, more, false, ret_answer)) {
                budgets_add(tenant, host, -(__s64)in_hand);
                /* What could be mapped, and not only what could be borrowed. */
                if (ret_answer->left != LEDGER_NO_LIMIT)
                    ret_answer->left += in_hand + room;
                return -EDQUOT;
            }
            in_hand += more;
        }
        need = bytes - in_hand;
        was = need ? COMPARE_AND_SWAP(&machine->room, seen, seen - (__s64)need) : seen;
        if (was == seen)
            break;
        seen = was;
    }
    __sync_fetch_and_add(&machine->borrowed, in_hand);
    return 0;
}

/* Counts bytes that are mapped already, whatever is left: how many of them tenant and host are to
 * be charged with. If the room is closed, with all of them, and they are the tenant's. */
static __always_inline __u64 machine_add(struct ledger_machine *machine, __u64 bytes)
{
    __u64 more = bytes - room_take_some(machine, bytes);

    __sync_fetch_and_add(&machine->borrowed, more);
    return more;
}

/* Takes back bytes that the machine has mapped: how many of them tenant and host get back. If the
 * room is closed, all of them. */
static __always_inline __u64 machine_release(struct ledger_machine *machine, __u64 bytes)
{
    __u64 back = borrowed_take_some(machine, bytes);

    return back == bytes || room_add(machine, (__s64)(bytes - back)) ? back : bytes;
}

/* Gives back what is borrowed and not mapped: how many bytes tenant and host get back. */
static __always_inline __u64 machine_trim(struct ledger_machine *machine)
{
    __u64 in_hand = borrowed_take_some(machine, BUDGET_MOST);
    __u64 back = room_take_some(machine, in_hand);

    __sync_fetch_and_add(&machine->borrowed, in_hand - back);
    return back;
}

/* How a promise is changed. */
struct promise_change {
    __u64 expected; /* what was promised: -ESTALE if it is something else by now */
    __u64 bytes;    /* what is to be */
    __u32 forced;   /* whatever is left: it was promised before */
};

/* What was gathered for a larger promise is not needed: it is borrowed, and given back. */
static __always_inline void promise_undo(struct ledger_machine *machine,
                                         struct ledger_budget *tenant, struct ledger_budget *host,
                                         __u64 bytes)
{
    __sync_fetch_and_add(&machine->borrowed, bytes);
    budgets_add(tenant, host, -(__s64)machine_trim(machine));
}

/* The promise becomes larger by so much. */
static __always_inline int promise_raise(struct ledger_machine *machine,
                                         struct ledger_budget *tenant, struct ledger_budget *host,
                                         const struct promise_change *change,
                                         struct budget_answer *ret_answer)
{
    __u64 more = change->bytes - change->expected;
    __u64 borrowed = borrowed_take_some(machine, more);
    __u64 taken = more - borrowed;

    if (change->forced) {
        budgets_add(tenant, host, (__s64)taken);
    } else if (taken && budgets_take(tenant, host, taken, true, ret_answer)) {
        __sync_fetch_and_add(&machine->borrowed, borrowed);
        /* By how much more could be promised. */
        if (ret_answer->left != LEDGER_NO_LIMIT)
            ret_answer->left += borrowed;
        return -EDQUOT;
    }
    if (!room_add(machine, (__s64)taken)) {
        budgets_add(tenant, host, -(__s64)taken);
        return -ENOENT;
    }
    /* Last: from here on it may be mapped. */
    if (COMPARE_AND_SWAP(&machine->reserved, change->expected, change->bytes) == change->expected)
        return 0;
    promise_undo(machine, tenant, host, more);
    return -ESTALE;
}

/* The promise becomes smaller. What of it is mapped stays, as borrowed. */
static __always_inline int promise_lower(struct ledger_machine *machine,
                                         struct ledger_budget *tenant, struct ledger_budget *host,
                                         const struct promise_change *change)
{
    /* First: what is given back below nobody may rely on any more. */
    if (COMPARE_AND_SWAP(&machine->reserved, change->expected, change->bytes) != change->expected)
        return -ESTALE;
    promise_undo(machine, tenant, host, change->expected - change->bytes);
    return 0;
}

/*
 * Sets what is promised to the machine: 0; -EDQUOT: tenant or host have not so much left, as the
 * answer says; -ESTALE: something else is promised by now; -ENOENT: it is removed. Nothing has
 * changed then.
 */
SHARED_FUNCTION int promise_set(struct ledger_machine *machine, struct ledger_budget *tenant,
                                struct ledger_budget *host, const struct promise_change *change,
                                struct budget_answer *ret_answer)
{
    if (!machine || !change || !ret_answer || change->bytes > BUDGET_MOST)
        return -EDQUOT;
    if (machine_is_closed(machine))
        return -ENOENT;
    if (change->bytes < change->expected)
        return promise_lower(machine, tenant, host, change);
    return promise_raise(machine, tenant, host, change, ret_answer);
}

/*
 * The machine is removed: what it has not mapped goes back to tenant and host, and what it has is
 * the tenant's. The exchange takes exactly what nobody else has taken; who has something in hand at
 * this moment, of the room or for it, finds it closed and settles with tenant and host himself.
 */
static __always_inline void machine_close(struct ledger_machine *machine,
                                          struct ledger_budget *tenant, struct ledger_budget *host)
{
    __s64 room;

    if (machine_is_closed(machine))
        return;
    room = __sync_lock_test_and_set(&machine->room, LEDGER_ROOM_CLOSED);
    if (!LEDGER_IS_CLOSED(room))
        budgets_add(tenant, host, -room);
}
