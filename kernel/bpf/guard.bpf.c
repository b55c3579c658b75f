/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The guard: on an IOMMUFD that iommud opened, a machine reaches only what is its own.
 *
 * It hangs on the LSM hook of ioctl(2), where the caller's memory can be read but may still be
 * changed by another thread before the kernel copies it. What the kernel then really uses is
 * checked where it can't be changed any more (recheck.bpf.h). Where the BPF LSM is not enabled the
 * same checks hang on the security_*() functions themselves.
 */
#include "guard.bpf.h"

/* What an ioctl names, and how much it maps. */
struct named {
    __u32 id[3];
    __u64 offset; /* of the mapping in its first page */
    __u64 length;
    bool maps;
};

/* How much of the argument is read: up to the last member that matters. 0: nothing. */
static __always_inline __u32 argument_size(__u32 nr)
{
    switch (nr) {
    case NR_DESTROY:
    case NR_ALLOW_IOVAS:
    case NR_IOVA_RANGES:
    case NR_UNMAP:
    case NR_GET_DIRTY:
    case NR_INVALIDATE:
        return 8;
    case NR_HW_INFO:
    case NR_SET_DIRTY:
    case NR_VDEVICE_ALLOC:
    case NR_VEVENTQ_ALLOC:
    case NR_HW_QUEUE_ALLOC:
    case NR_VFIO_IOAS:
    case NR_ATTACH:
        return 12;
    case NR_COPY:
    case NR_OPTION:
    case NR_HWPT_ALLOC:
        return 16;
    case NR_VIOMMU_ALLOC:
        return 20;
    case NR_MAP:
    case NR_MAP_FILE:
    case NR_VFIO_MAP_OR_HOT_RESET:
        return 32;
    }
    return 0;
}

static __always_inline long read_argument(union argument *to, __u32 size, unsigned long from,
                                          bool may_sleep)
{
    if (size > sizeof(*to))
        return -EFAULT;
    if (may_sleep)
        return bpf_copy_from_user(to, size, (const void *)from);
    return bpf_probe_read_user(to, size, (const void *)from);
}

static __always_inline void name_ids(__u32 nr, const union argument *a, struct named *named)
{
    switch (nr) {
    case NR_DESTROY:
    case NR_ALLOW_IOVAS:
    case NR_IOVA_RANGES:
    case NR_UNMAP:
    case NR_GET_DIRTY:
    case NR_INVALIDATE:
        named->id[0] = a->word[1];
        break;
    case NR_HW_INFO:
    case NR_SET_DIRTY:
    case NR_VEVENTQ_ALLOC:
    case NR_HW_QUEUE_ALLOC:
    case NR_ATTACH:
        named->id[0] = a->word[2];
        break;
    case NR_VDEVICE_ALLOC:
        named->id[0] = a->word[1];
        named->id[1] = a->word[2];
        break;
    case NR_COPY:
    case NR_HWPT_ALLOC:
        named->id[0] = a->word[2];
        named->id[1] = a->word[3];
        break;
    case NR_VIOMMU_ALLOC:
        named->id[0] = a->word[3];
        named->id[1] = a->word[4];
        break;
    case NR_OPTION:
        named->id[0] = a->word[3];
        break;
    case NR_MAP:
    case NR_MAP_FILE:
        named->id[0] = a->word[2];
        named->offset = a->quad[2];
        named->length = a->quad[3];
        named->maps = true;
        break;
    case NR_VFIO_MAP_OR_HOT_RESET:
        named->offset = a->quad[1];
        named->length = a->quad[3];
        named->maps = true;
        break;
    }
}

/* The thread begins an ioctl, as the one who identify() says it is. */
static __always_inline void begin_call(struct call *call, __u32 command, enum stage stage)
{
    lose(call);
    call->stage = call->owner == LEDGER_OWNER_SERVICE ? STAGE_SERVICE : stage;
    call->command = command;
    call->tampered = 0;
    call->mapping = 0;
    call->changing = 0;
}

static __always_inline bool makes_object(__u32 nr)
{
    switch (nr) {
    case NR_BIND:
    case NR_IOAS_ALLOC:
    case NR_HWPT_ALLOC:
    case NR_FAULT_ALLOC:
    case NR_VIOMMU_ALLOC:
    case NR_VDEVICE_ALLOC:
    case NR_VEVENTQ_ALLOC:
    case NR_HW_QUEUE_ALLOC:
        return true;
    }
    return false;
}

/* Where the object itself can't be refused once there is one, its ioctl is. */
static __always_inline int expect_object(struct call *call, const struct ledger_config *options)
{
    return options->flags & LEDGER_CONFIG_EXACT ? 0 : reserve_object(call);
}

/*
 * Whether the second look alone checks what the ioctl names and maps: where it can refuse, it does
 * so before anything has come of it. These are the ones that come often.
 */
static __always_inline bool is_left_to_points(__u32 nr, const struct ledger_config *options)
{
    return options->flags & LEDGER_CONFIG_EXACT &&
           (nr == NR_MAP || nr == NR_MAP_FILE || nr == NR_UNMAP || nr == NR_COPY);
}

/* All that is left to do then: an event will want to say which ioctl it was. */
static __always_inline int leave_to_points(__u32 cmd)
{
    struct call *call = get_call(true);

    if (call)
        call->command = cmd;
    return 0;
}

static __always_inline int guard_context(struct call *call, __u64 ictx, __u32 cmd,
                                         unsigned long arg, struct ledger_config *options,
                                         bool may_sleep)
{
    __u32 nr = cmd & 0xff, size = argument_size(nr), fault = 0;
    union argument argument = {};
    struct named named = {};
    int error;

    if (!call->owner)
        return refuse(call->owner, ictx, cmd, 0, -EACCES);
    if (size && read_argument(&argument, size, arg, may_sleep))
        return -EFAULT;
    name_ids(nr, &argument, &named);
    if (nr == NR_HWPT_ALLOC && argument.word[0] >= 44 && argument.word[1] & (1 << 2)) {
        if (may_sleep ? bpf_copy_from_user(&fault, sizeof(fault), (void *)(arg + 40))
                      : bpf_probe_read_user(&fault, sizeof(fault), (void *)(arg + 40)))
            return -EFAULT;
        named.id[2] = fault;
    }
    begin_call(call, cmd, STAGE_CHECKED);
    if (call->stage == STAGE_CHECKED) {
        error = check_global(nr, &argument, call->flags, options->guard);
        if (error)
            return refuse(call->owner, ictx, cmd, 0, error);
        for (int i = 0; i < 3; i++)
            if (named.id[i] && may_name(ictx, call->serial, named.id[i], call->owner))
                return refuse(call->owner, ictx, cmd, named.id[i], -EACCES);
    }
    if (named.maps && !(options->flags & LEDGER_CONFIG_EXACT))
        return reserve_argument(
            call, named.offset, named.length,
            call->stage != STAGE_CHECKED
                ? 0
                : source_of(nr == NR_MAP_FILE ? (__s64)argument.word[3] : OWN_MEMORY));
    return makes_object(nr) ? expect_object(call, options) : 0;
}

/* The context behind one of the caller's file descriptors. 0: not one that the ledger knows. */
__noinline __u64 context_of_fd(__u32 fd)
{
    struct file *file = (struct file *)file_of(fd);
    __u64 ictx = file ? (__u64)BPF_CORE_READ(file, private_data) : 0;

    return bpf_map_lookup_elem(&contexts, &ictx) ? ictx : 0;
}

static __always_inline int guard_device(struct file *file, __u32 cmd, unsigned long arg,
                                        bool may_sleep)
{
    __u32 nr = cmd & 0xff, owner, size;
    struct vfio_device_file *opened = file->private_data;
    struct ledger_config *options = get_config();
    struct ledger_device_key key = {};
    struct ledger_device *device;
    union argument argument = {};
    struct call *call;
    __u64 ictx;

    if (!options)
        return 0;
    size = nr == NR_BIND ? 12 : argument_size(nr);
    if ((nr == NR_BIND || nr == NR_ATTACH) && read_argument(&argument, size, arg, may_sleep))
        return -EFAULT;
    name_device(BPF_CORE_READ(opened, device, dev), &key);
    device = bpf_map_lookup_elem(&devices, &key);
    if (nr == NR_BIND)
        ictx = context_of_fd(argument.word[2]);
    else
        ictx = (__u64)BPF_CORE_READ(opened, iommufd);
    if (!is_guarded(ictx))
        /* A device that was admitted for a machine goes nowhere but into its tenant's IOMMUFD, and
         * nobody resets it, and its neighbours, while another thread binds it. */
        return device && (nr == NR_BIND || nr == NR_VFIO_MAP_OR_HOT_RESET) &&
                       current_role() != LEDGER_ROLE_SERVICE
                   ? refuse(current_owner(true), 0, cmd, 0, -EACCES)
                   : 0;
    call = identify(ictx);
    if (!call)
        return -ENOMEM;
    owner = call->owner;
    if (owner != LEDGER_OWNER_SERVICE) {
        if (!owner || claim_device(&key, call->tenant, owner, nr == NR_BIND))
            return refuse(owner, ictx, cmd, 0, -EACCES);
        if (nr == NR_VFIO_MAP_OR_HOT_RESET)
            return device && device->flags & LEDGER_DEVICE_RESET_SHARED
                       ? refuse(owner, ictx, cmd, 0, -EACCES)
                       : 0;
        if (nr == NR_ATTACH && may_name(ictx, call->serial, argument.word[2], owner))
            return refuse(owner, ictx, cmd, argument.word[2], -EACCES);
    }
    begin_call(call, cmd, STAGE_DEVICE);
    return call->stage == STAGE_DEVICE && makes_object(nr) ? expect_object(call, options) : 0;
}

/*
 * VFIO's groups lead into an IOMMUFD as well, into one address space for all of them. Which devices
 * then follow only the second look sees, so it must be able to refuse them.
 */
static __noinline int guard_group(__u32 cmd, __u32 fd)
{
    struct ledger_config *options = get_config();
    __u64 ictx = context_of_fd(fd);
    struct call *call;

    if (!options || !is_guarded(ictx))
        return 0;
    call = identify(ictx);
    if (!call)
        return -ENOMEM;
    if (call->owner == LEDGER_OWNER_SERVICE)
        return 0;
    if (!call->owner)
        return refuse(call->owner, ictx, cmd, 0, -EACCES);
    if (call->flags & LEDGER_CONTEXT_SHARED || !(options->flags & LEDGER_CONFIG_EXACT))
        return refuse(call->owner, ictx, cmd, 0, -EPERM);
    begin_call(call, cmd, STAGE_DEVICE);
    return 0;
}

static __always_inline int guard_ioctl(struct file *file, unsigned int cmd, unsigned long arg,
                                       bool may_sleep)
{
    __u32 nr = cmd & 0xff, rdev;
    struct ledger_config *options = get_config();
    __u64 ictx = (__u64)file->private_data;
    union argument argument = {};
    struct call *call;

    if (!options || !options->guard)
        return 0;
    if (is_left_to_points(nr, options))
        return leave_to_points(cmd);
    call = identify(ictx);
    if (call) {
        call->stage = STAGE_NONE;
        return call->flags & LEDGER_CONTEXT_GUARDED
                   ? guard_context(call, ictx, cmd, arg, options, may_sleep)
                   : 0;
    }
    if (is_guarded(ictx))
        return -ENOMEM;
    if (nr == NR_GROUP_SET_CONTAINER)
        return read_argument(&argument, 4, arg, may_sleep) ? -EFAULT
                                                           : guard_group(cmd, argument.word[0]);
    if (nr == NR_GROUP_GET_DEVICE)
        return leave_to_points(cmd);
    if (nr != NR_BIND && nr != NR_ATTACH && nr != NR_DETACH && nr != NR_VFIO_MAP_OR_HOT_RESET)
        return 0;
    rdev = file->f_inode->i_rdev;
    if (!options->vfio_major || rdev >> 20 != options->vfio_major)
        return 0;
    return guard_device(file, cmd, arg, may_sleep);
}

/* Every ioctl of the host passes here: the first thing is to let the others go. */
#define NOT_OURS(cmd) (((cmd) & ~0xffu) != IOCTL_TYPE)

SEC("lsm.s/file_ioctl")
int BPF_PROG(guard_file_ioctl, struct file *file, unsigned int cmd, unsigned long arg, int ret)
{
    if (NOT_OURS(cmd) || ret)
        return ret;
    return guard_ioctl(file, cmd, arg, true);
}

/* An IOMMUFD has no ioctls for 32-bit programs: nothing is to be reserved for one. VFIO's files
 * have. */
static __always_inline int guard_compat(struct file *file, unsigned int cmd, unsigned long arg)
{
    return is_guarded((__u64)file->private_data) ? -ENOTTY
                                                 : guard_ioctl(file, cmd, (__u32)arg, false);
}

/* 32-bit programs; this hook can't sleep, so that memory that is not there is -EFAULT. */
SEC("lsm/file_ioctl_compat")
int BPF_PROG(guard_file_ioctl_compat, struct file *file, unsigned int cmd, unsigned long arg,
             int ret)
{
    if (NOT_OURS(cmd) || ret)
        return ret;
    return guard_compat(file, cmd, arg);
}

SEC("fmod_ret/security_file_ioctl")
int BPF_PROG(guard_ioctl_no_lsm, struct file *file, unsigned int cmd, unsigned long arg, int ret)
{
    if (NOT_OURS(cmd) || ret)
        return ret;
    return guard_ioctl(file, cmd, arg, false);
}

SEC("fmod_ret/security_file_ioctl_compat")
int BPF_PROG(guard_ioctl_compat_no_lsm, struct file *file, unsigned int cmd, unsigned long arg,
             int ret)
{
    if (NOT_OURS(cmd) || ret)
        return ret;
    return guard_compat(file, cmd, arg);
}

/* Who may be handed a tenant's IOMMUFD: those who pass it on, and the tenant's own. */
static __always_inline int guard_receive(struct file *file)
{
    struct ledger_config *options = get_config();
    struct ledger_process *process;
    struct ledger_context *context;
    struct ledger_machine *machine;
    struct ledger_owner *owner;
    __u32 holder;
    __u64 ictx;

    if (!options || !options->guard || !is_iommufd(options, file->f_inode->i_rdev))
        return 0;
    ictx = (__u64)file->private_data;
    context = bpf_map_lookup_elem(&contexts, &ictx);
    if (!context || !(context->flags & LEDGER_CONTEXT_CLOSED_CIRCLE))
        return 0;
    process = current_process();
    if (process && process->role != LEDGER_ROLE_USER)
        return 0;
    owner = process ? get_owner(process->owner) : NULL;
    if (owner && owner->tenant == context->tenant)
        return 0;
    holder = holder_of_cgroup();
    if (holder == LEDGER_CARRIER)
        return 0;
    machine = process ? NULL : bpf_map_lookup_elem(&machines, &holder);
    if (machine && machine->tenant == context->tenant)
        return 0;
    return refuse(current_owner(true), ictx, 0, 0, -EACCES);
}

SEC("lsm/file_receive")
int BPF_PROG(guard_file_receive, struct file *file, int ret)
{
    return ret ? ret : guard_receive(file);
}

SEC("fmod_ret/security_file_receive")
int BPF_PROG(guard_receive_no_lsm, struct file *file, int ret)
{
    return ret ? ret : guard_receive(file);
}

/* What an IOMMUFD shows by mmap(2), registers of queues, is found by an offset that tells no owner.
 */
static __always_inline int guard_mmap(struct file *file)
{
    struct ledger_config *options = get_config();
    struct ledger_context *context;
    __u64 ictx;

    if (!file || !options || !options->guard || !is_iommufd(options, file->f_inode->i_rdev))
        return 0;
    ictx = (__u64)file->private_data;
    context = bpf_map_lookup_elem(&contexts, &ictx);
    if (!context || !(context->flags & LEDGER_CONTEXT_GUARDED) ||
        !(context->flags & LEDGER_CONTEXT_SHARED) || current_role() == LEDGER_ROLE_SERVICE)
        return 0;
    return refuse(current_owner(true), ictx, 0, 0, -EACCES);
}

SEC("lsm/mmap_file")
int BPF_PROG(guard_mmap_file, struct file *file, unsigned long reqprot, unsigned long prot,
             unsigned long flags, int ret)
{
    return ret ? ret : guard_mmap(file);
}

SEC("fmod_ret/security_mmap_file")
int BPF_PROG(guard_mmap_no_lsm, struct file *file, unsigned long prot, unsigned long flags, int ret)
{
    return ret ? ret : guard_mmap(file);
}

/* Opening /dev/iommu, or what /proc/PID/fd shows of it, makes an IOMMUFD that nobody limits. */
static __always_inline int guard_open(struct file *file)
{
    struct ledger_config *options = get_config();
    struct ledger_process *process;
    struct ledger_owner *owner;

    if (!options || !options->guard || !(options->flags & LEDGER_CONFIG_NO_OPEN) ||
        !is_iommufd(options, file->f_inode->i_rdev))
        return 0;
    process = current_process();
    if (process && process->role != LEDGER_ROLE_USER)
        return 0;
    owner = process ? get_owner(process->owner) : NULL;
    if (process ? !owner || !owner->tenant : !machine_of_cgroup())
        return 0;
    return refuse(process ? process->owner : 0, 0, 0, 0, -EACCES);
}

SEC("lsm/file_open")
int BPF_PROG(guard_file_open, struct file *file, int ret)
{
    return ret ? ret : guard_open(file);
}

SEC("fmod_ret/security_file_open")
int BPF_PROG(guard_open_no_lsm, struct file *file, int ret)
{
    return ret ? ret : guard_open(file);
}

/*
 * The one question the kernel asks a security module between copying a mapping's argument and
 * pinning. A process that was caught loses the privilege that exempts it from RLIMIT_MEMLOCK.
 */
static __always_inline int guard_capability(int capability)
{
    struct call *call;

    if (capability != CAP_IPC_LOCK)
        return 0;
    call = get_call(false);
    return call && call->tampered ? -EPERM : 0;
}

SEC("lsm/capable")
int BPF_PROG(guard_capable, const struct cred *cred, struct user_namespace *ns, int capability,
             unsigned int opts, int ret)
{
    return ret ? ret : guard_capability(capability);
}

SEC("fmod_ret/security_capable")
int BPF_PROG(guard_capable_no_lsm, const struct cred *cred, struct user_namespace *ns,
             int capability, unsigned int opts, int ret)
{
    return ret ? ret : guard_capability(capability);
}
