/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Whose devices are: programs that iommud runs with BPF_PROG_RUN. A device is claimed by an
 * exchange of its entry's holder, after its unit (claim.h); who finds another holder changes
 * nothing. A holder that is removed holds nothing: so a machine gives all of its devices back at
 * once.
 */
#include "counts.bpf.h"

#include "claim.h"

/* The machine, if it is one that is removed. */
static __always_inline __u32 gone_machine(__u32 machine_id)
{
    return machine_id && !get_machine(machine_id) ? machine_id : 0;
}

static __always_inline struct ledger_unit *get_unit(__u32 number, bool make)
{
    struct ledger_unit *unit = bpf_map_lookup_elem(&units, &number), none = {};

    if (unit || !make)
        return unit;
    bpf_map_update_elem(&units, &number, &none, BPF_NOEXIST);
    return bpf_map_lookup_elem(&units, &number);
}

static __always_inline int claim_unit(struct control_admit_device *args)
{
    struct ledger_unit *unit = args->unit ? get_unit(args->unit, true) : NULL;
    __u32 holder = 0;
    int r;

    if (!args->unit)
        return 0;
    if (!unit)
        return -ENOMEM;
    r = unit_claim(unit, args->machine, gone_machine(LEDGER_CLAIM_MACHINE(READ_ONCE(unit->claim))),
                   &holder);
    args->ret_machine = holder;
    return r;
}

static __always_inline void release_unit(__u32 number, __u32 machine_id)
{
    struct ledger_unit *unit = number ? get_unit(number, false) : NULL;

    if (unit)
        unit_release(unit, machine_id);
}

/* The device's entry, which stays once it is made: who has found it may exchange its holder. */
static __always_inline struct ledger_device *make_device(const struct ledger_device_key *key)
{
    struct ledger_device *device = bpf_map_lookup_elem(&devices, key), none = {};

    if (device)
        return device;
    bpf_map_update_elem(&devices, key, &none, BPF_NOEXIST);
    return bpf_map_lookup_elem(&devices, key);
}

/* Whether the holder of an entry still has it. */
static __always_inline bool is_held(__u64 holder)
{
    __u32 machine_id = (__u32)holder, tenant_id = holder >> 32;

    return holder && (machine_id ? !gone_machine(machine_id) : get_tenant(tenant_id) != NULL);
}

/* The device may be bound. The same again: only the flags are new, and who has bound it is kept. */
SEC("syscall")
int control_admit_device(struct control_admit_device *args)
{
    __u64 wanted = (__u64)args->tenant << 32 | args->machine, holder;
    struct ledger_device_key key = args->device;
    struct ledger_device *device;
    int r;

    args->ret_machine = 0;
    if (!wanted || (args->unit && !args->machine))
        return -EINVAL;
    device = make_device(&key);
    if (!device)
        return -ENOMEM;
    holder = READ_ONCE(device->holder);
    if (holder == wanted) {
        device->flags = args->flags;
        return 0;
    }
    if (is_held(holder)) {
        args->ret_machine = (__u32)holder;
        return -EBUSY;
    }
    r = claim_unit(args);
    if (r)
        return r;
    if (COMPARE_AND_SWAP(&device->holder, holder, wanted) != holder) {
        release_unit(args->unit, args->machine);
        return -EAGAIN;
    }
    device->owner = 0;
    device->flags = args->flags;
    device->unit = args->unit;
    return 0;
}

/* Who has it gives it back: nobody may bind it any more. */
SEC("syscall")
int control_dismiss_device(struct control_dismiss_device *args)
{
    struct ledger_device_key key = args->device;
    struct ledger_device *device = get_device(&key);
    __u64 holder;
    __u32 unit;

    if (!device)
        return -ENOENT;
    holder = READ_ONCE(device->holder);
    if ((__u32)holder != args->machine)
        return -EBUSY;
    unit = device->unit;
    if (COMPARE_AND_SWAP(&device->holder, holder, 0) != holder)
        return -EBUSY;
    release_unit(unit, args->machine);
    return 0;
}
