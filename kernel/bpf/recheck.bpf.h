/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The guard's re-check, of what the kernel itself has copied and nobody can change any more. It
 * relies on nothing that the first check found: that may have seen another argument, may have been
 * skipped, or does not know the way that led here.
 *
 * can_refuse: the caller is a program whose return value the kernel obeys (recheck-fmodret.bpf.c).
 * Otherwise (recheck-kprobe.bpf.c) it can only kill.
 */
#pragma once

#include "guard.bpf.h"

/* Refuses the call or, where nothing can refuse it any more, kills its caller. */
static __noinline int stop(__u64 ictx, __u32 id, __u32 owner_id, bool can_refuse)
{
    struct task_state *self = get_task_state(true);

    if (!self)
        return -ENOMEM;
    return can_refuse ? refuse(owner_id, ictx, self->command, id, -EACCES)
                      : argument_changed(ictx, id, owner_id, 0, 0);
}

/* Who it is now, where it can be refused; else who the first check has let through. */
static __always_inline struct task_state *identify_again(__u64 ictx, bool can_refuse)
{
    return can_refuse ? identify(ictx) : identify_inside(ictx);
}

/* object 0: whatever there is under the id. */
static __noinline int recheck_object(__u64 ictx, __u32 id, __u64 object, bool can_refuse)
{
    struct task_state *self = identify_again(ictx, can_refuse);

    if (!self)
        return is_guarded(ictx) ? -ENOMEM : 0;
    if (!(self->flags & LEDGER_CONTEXT_GUARDED) || self->tenant_owner == LEDGER_OWNER_SERVICE)
        return 0;
    if (!(object ? check_object(self->context_id, id, object, self->tenant_owner)
                 : check_id(ictx, self->context_id, id, self->tenant_owner)))
        return 0;
    return stop(ictx, id, self->tenant_owner, can_refuse);
}

/* Of memory that counts once: whether it is that of the extent that was reserved. */
static __always_inline bool is_of_extent(const struct task_state *self, __u64 start, __u64 length)
{
    struct ledger_extent *extent = extent_at(self->extent);

    return !extent || (extent->start == (start & ~(LEDGER_PAGE_SIZE - 1)) &&
                       extent->bytes == whole_pages(start, length));
}

/* Where it can't be refused, what is mapped has to have been reserved, and is reserved now if the
 * first check was skipped. Notes which IOMMUFD is mapped into: the range that comes does not say.
 */
static __noinline int recheck_length(__u64 ictx, __u64 start, __u64 length)
{
    __u64 bytes = (start & (LEDGER_PAGE_SIZE - 1)) + length;
    struct task_state *self = identify_inside(ictx);

    if (!self)
        return is_guarded(ictx) ? -ENOMEM : 0;
    self->mapping = ictx;
    if (!(self->flags & LEDGER_CONTEXT_GUARDED) || !length || length > LONGEST ||
        (bytes <= self->may_map && is_of_extent(self, start, length)))
        return 0;
    /* With nothing let through the first check was skipped, even if the phase is still that of an
     * earlier call: then the argument has not changed, and nobody is killed for it. */
    if (self->phase == PHASE_CHECKED && self->may_map)
        return argument_changed(ictx, 0, self->tenant_owner, bytes, self->may_map);
    if (self->tenant_owner != LEDGER_OWNER_SERVICE && reserve_argument(self, start, length, 0))
        argument_changed(ictx, 0, self->tenant_owner, bytes, 0);
    return 0;
}

/* Which device is bound to which context, whatever the file descriptors were. A device that was
 * admitted for a machine goes nowhere but into its tenant's IOMMUFD. */
static __noinline int recheck_bind(__u64 ictx, __u64 device, bool can_refuse)
{
    struct ledger_device_key key = {};
    struct task_state *self;
    __u32 owner_id;

    name_device((struct device *)device, &key);
    if (!is_guarded(ictx)) {
        if (!get_device(&key) || current_role() == LEDGER_ROLE_SERVICE)
            return 0;
        owner_id = current_owner(true);
    } else {
        self = identify_again(ictx, can_refuse);
        if (!self)
            return -ENOMEM;
        owner_id = self->tenant_owner;
        if (owner_id == LEDGER_OWNER_SERVICE || !check_bind(&key, self->tenant_id, owner_id))
            return 0;
    }
    return stop(ictx, 0, owner_id, can_refuse);
}

/* An ioctl as a whole: those that name nothing, but are done to the whole IOMMUFD. */
static __noinline int recheck_call(__u64 ictx, __u32 command, const void *from, bool can_refuse)
{
    struct ioctl_rule rule = rule_of(command);
    union argument argument = {};
    struct task_state *self;
    int error;

    switch (_IOC_NR(command)) {
    case _IOC_NR(IOMMU_OPTION):
        bpf_probe_read_kernel(&argument, IOCTL_END(iommu_option, op), from);
        break;
    case _IOC_NR(IOMMU_VFIO_IOAS):
        bpf_probe_read_kernel(&argument, IOCTL_END(iommu_vfio_ioas, op), from);
        break;
    case _IOC_NR(IOMMU_IOAS_CHANGE_PROCESS):
        break;
    default:
        return 0;
    }
    self = identify_again(ictx, can_refuse);
    if (!self)
        return is_guarded(ictx) ? -ENOMEM : 0;
    if (!(self->flags & LEDGER_CONTEXT_GUARDED))
        return 0;
    if (!self->tenant_owner)
        return stop(ictx, 0, 0, can_refuse);
    error = check_whole(command, &rule, &argument, self->flags);
    if (!error || self->tenant_owner == LEDGER_OWNER_SERVICE)
        return 0;
    self->command = command;
    stop(ictx, 0, self->tenant_owner, can_refuse);
    return error;
}
