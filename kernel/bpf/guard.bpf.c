/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The guard: on an IOMMUFD that iommud opened, a machine reaches only what is its own.
 *
 * It hangs on the LSM hook of ioctl(2), where the caller's memory can be read but may still be
 * changed by another thread before the kernel copies it. What the kernel then really uses is
 * compared where it can't be changed any more (ledger.bpf.c), and a difference kills the process.
 * Where the BPF LSM is not enabled the same checks hang on the security_*() functions themselves.
 */
#include "guard.bpf.h"

/* The argument of an ioctl as far as it names things: the first words of its structure. */
union argument {
    __u32 word[10];
    __u64 quad[5];
};

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

/* What no single machine may do to an IOMMUFD that others use as well. */
static __always_inline int check_global(__u32 nr, const union argument *a, __u32 flags, __u32 guard)
{
    const __u16 set = 0;

    switch (nr) {
    case NR_CHANGE_PROCESS:
        return flags & LEDGER_CONTEXT_SHARED ? -EPERM : 0;
    case NR_OPTION:
        /* RLIMIT_MODE is the whole context's; reading it is harmless. */
        return a->word[1] == 0 && (__u16)a->word[2] == set ? -EPERM : 0;
    case NR_VFIO_IOAS:
        return flags & LEDGER_CONTEXT_SHARED && (__u16)a->word[2] != 0 ? -EPERM : 0;
    case NR_VFIO_SET_IOMMU:
    case NR_VFIO_GET_INFO:
    case NR_VFIO_MAP_OR_HOT_RESET:
    case NR_VFIO_UNMAP:
        /* VFIO's old interface has one address space for the whole context. */
        return flags & LEDGER_CONTEXT_SHARED ? -EPERM : 0;
    case NR_VFIO_API_VERSION:
    case NR_VFIO_CHECK_EXTENSION:
        return 0;
    }
    if (nr >= NR_DESTROY && nr <= NR_HW_QUEUE_ALLOC)
        return 0;
    COUNT(unknown_ioctls);
    return guard == LEDGER_GUARD_STRICT ? -EPERM : 0;
}

static __noinline int refuse(__u32 owner_id, __u64 ictx, __u32 command, __u32 id, int error)
{
    struct ledger_context *context = bpf_map_lookup_elem(&contexts, &ictx);
    struct report report = {
        .kind = LEDGER_EVENT_REFUSED,
        .error = error,
        .command = command,
        .id = id,
        .owner = owner_id,
    };
    struct ledger_object_key key = {.id = id};
    struct ledger_object *entry;
    struct ledger_book *book;

    if (context) {
        report.context = key.context = context->serial;
        report.tenant = context->tenant;
        entry = bpf_map_lookup_elem(&objects, &key);
        if (entry)
            report.object_owner = entry->owner;
        /* QEMU asks for this at each of its starts, and goes on without. */
        book = (command & 0xff) == NR_CHANGE_PROCESS ? NULL : get_book(context->serial, owner_id);
        if (book)
            __sync_fetch_and_add(&book->refused, 1);
    }
    send_event(&report);
    return error;
}

/* Takes the mapping's pages from the tenant before anything is pinned. */
static __noinline int reserve(struct call *call, __u32 serial, __u32 max_pages, __u64 offset,
                              __u64 length)
{
    struct report report = {.context = serial};
    struct ledger_state *counters = get_state();
    __u64 bytes, left = 0;
    int error;

    if (!call || !counters)
        return -ENOMEM;
    /* The kernel refuses such lengths itself. */
    if (!length || length > (1ull << 56))
        return 0;
    bytes = (length + (offset & (LEDGER_PAGE_SIZE - 1)) + LEDGER_PAGE_SIZE - 1) &
            ~(LEDGER_PAGE_SIZE - 1);
    report.kind = LEDGER_EVENT_FULL;
    error = -ENOMEM;
    if (*(volatile __s64 *)&counters->pages < max_pages) {
        report.kind = LEDGER_EVENT_LIMIT;
        error = tenant_reserve(call->tenant, bytes, &left);
        if (!error) {
            call->reserved = bytes;
            return 0;
        }
    }
    report.error = error;
    report.asked = bytes;
    report.left = left;
    report.command = call->command;
    report.tenant = call->tenant;
    report.owner = call->owner;
    send_event(&report);
    return error;
}

/* The owner that calls, joined to the context's tenant: or the service; 0: a stranger to it. */
static __noinline __u32 caller(__u32 tenant)
{
    __u32 id = current_owner(true);
    struct ledger_owner *owner;

    if (id == LEDGER_OWNER_SERVICE)
        return id;
    owner = get_owner(id);
    if (!owner)
        return LEDGER_OWNER_NONE;
    if (!owner->tenant)
        COMPARE_AND_SWAP(&owner->tenant, 0, tenant);
    return owner->tenant == tenant ? id : LEDGER_OWNER_NONE;
}

/* Marks the thread as being in an ioctl that was let through, and for whom. */
static __always_inline struct call *begin_call(__u64 ictx, __u32 tenant, __u32 owner, __u32 command,
                                               bool checked)
{
    struct call *call = get_call(true);

    if (!call)
        return NULL;
    refund(call);
    call->context = ictx;
    call->tenant = tenant;
    call->owner = owner;
    call->command = command;
    call->binding = 0;
    call->tampered = 0;
    call->checked = checked;
    return call;
}

static __always_inline int guard_context(struct ledger_context *context, __u64 ictx, __u32 cmd,
                                         unsigned long arg, struct ledger_config *options,
                                         bool may_sleep)
{
    __u32 nr = cmd & 0xff, size = argument_size(nr), owner, fault = 0;
    __u32 tenant = context->tenant, flags = context->flags, serial = context->serial;
    union argument argument = {};
    struct named named = {};
    struct call *call;
    bool service;
    int error;

    owner = caller(tenant);
    service = owner == LEDGER_OWNER_SERVICE;
    if (!owner)
        return refuse(owner, ictx, cmd, 0, -EACCES);
    if (size && read_argument(&argument, size, arg, may_sleep))
        return -EFAULT;
    name_ids(nr, &argument, &named);
    if (nr == NR_HWPT_ALLOC && argument.word[0] >= 44 && argument.word[1] & (1 << 2)) {
        if (may_sleep ? bpf_copy_from_user(&fault, sizeof(fault), (void *)(arg + 40))
                      : bpf_probe_read_user(&fault, sizeof(fault), (void *)(arg + 40)))
            return -EFAULT;
        named.id[2] = fault;
    }
    call = begin_call(ictx, tenant, owner, cmd, !service);
    if (!call)
        return -ENOMEM;
    if (!service) {
        error = check_global(nr, &argument, flags, options->guard);
        if (error)
            return refuse(owner, ictx, cmd, 0, error);
        for (int i = 0; i < 3; i++) {
            if (named.id[i] && may_name(ictx, named.id[i], owner))
                return refuse(owner, ictx, cmd, named.id[i], -EACCES);
        }
    }
    if (named.maps)
        return reserve(call, serial, options->max_pages, named.offset, named.length);
    return 0;
}

/* The context behind one of the caller's file descriptors. 0: not one that the ledger knows. */
static __noinline __u64 context_of_fd(__u32 fd)
{
    struct task_struct *task = (struct task_struct *)bpf_get_current_task_btf();
    struct fdtable *table = BPF_CORE_READ(task, files, fdt);
    struct file **slots, *file = NULL;
    __u64 ictx;

    if (fd >= BPF_CORE_READ(table, max_fds))
        return 0;
    slots = BPF_CORE_READ(table, fd);
    bpf_probe_read_kernel(&file, sizeof(file), slots + fd);
    if (!file)
        return 0;
    ictx = (__u64)BPF_CORE_READ(file, private_data);
    return bpf_map_lookup_elem(&contexts, &ictx) ? ictx : 0;
}

/*
 * Whether the device may be the caller's. A process that has no machine yet becomes the one that
 * the device was admitted for, if nobody has before: QEMU binds its devices long before iommud
 * learns its pid.
 */
static __noinline int claim_device(const struct ledger_device_key *key, __u32 tenant,
                                   __u32 owner_id, bool bind)
{
    struct ledger_device *device = key ? bpf_map_lookup_elem(&devices, key) : NULL;
    struct ledger_owner *owner = get_owner(owner_id);
    struct ledger_machine *machine;
    __u32 token, was;

    if (!device || !owner || device->tenant != tenant)
        return -EACCES;
    token = device->machine;
    if (!bind)
        return device->owner == owner_id || (token && owner->machine == token) ? 0 : -EACCES;
    if (!token) {
        was = COMPARE_AND_SWAP(&device->owner, 0, owner_id);
        return !was || was == owner_id ? 0 : -EACCES;
    }
    if (!owner->machine) {
        machine = bpf_map_lookup_elem(&machines, &token);
        if (!machine)
            return -EACCES;
        was = COMPARE_AND_SWAP(&machine->owner, 0, owner_id);
        if (was && was != owner_id)
            return -EACCES;
        if (!was)
            machine->claimed = 1;
        COMPARE_AND_SWAP(&owner->machine, 0, token);
    }
    if (owner->machine != token)
        return -EACCES;
    device->owner = owner_id;
    return 0;
}

/* A device's name; one that does not fit is cut off, and then nobody's. */
static __always_inline void name_device(const struct vfio_device_file *opened,
                                        struct ledger_device_key *key)
{
    const char *name = BPF_CORE_READ(opened, device, dev, kobj.name);

    if (bpf_probe_read_kernel_str(key->name, sizeof(key->name), name) >= (long)sizeof(key->name))
        key->name[0] = 0;
}

static __always_inline int guard_device(struct file *file, __u32 cmd, unsigned long arg,
                                        bool may_sleep)
{
    __u32 nr = cmd & 0xff, owner, size;
    struct vfio_device_file *opened = file->private_data;
    struct ledger_device_key key = {};
    struct ledger_context *context;
    struct ledger_device *device;
    union argument argument = {};
    struct call *call;
    __u64 ictx;

    size = nr == NR_BIND ? 12 : argument_size(nr);
    if ((nr == NR_BIND || nr == NR_ATTACH) && read_argument(&argument, size, arg, may_sleep))
        return -EFAULT;
    /* What an earlier call was let through for is not for this one. */
    call = get_call(nr == NR_BIND);
    if (call)
        call->binding = 0;
    name_device(opened, &key);
    device = bpf_map_lookup_elem(&devices, &key);
    if (nr == NR_BIND)
        ictx = context_of_fd(argument.word[2]);
    else
        ictx = (__u64)BPF_CORE_READ(opened, iommufd);
    context = bpf_map_lookup_elem(&contexts, &ictx);
    if (!context || !(context->flags & LEDGER_CONTEXT_GUARDED))
        /* A device that was admitted for a machine goes nowhere but into its tenant's IOMMUFD. */
        return device && nr == NR_BIND && current_role() != LEDGER_ROLE_SERVICE
                   ? refuse(current_owner(true), 0, cmd, 0, -EACCES)
                   : 0;
    owner = caller(context->tenant);
    if (owner == LEDGER_OWNER_SERVICE)
        return begin_call(ictx, context->tenant, owner, cmd, false) ? 0 : -ENOMEM;
    if (!owner || claim_device(&key, context->tenant, owner, nr == NR_BIND))
        return refuse(owner, ictx, cmd, 0, -EACCES);
    if (nr == NR_VFIO_MAP_OR_HOT_RESET)
        return device && device->flags & LEDGER_DEVICE_RESET_SHARED
                   ? refuse(owner, ictx, cmd, 0, -EACCES)
                   : 0;
    if (nr == NR_ATTACH && may_name(ictx, argument.word[2], owner))
        return refuse(owner, ictx, cmd, argument.word[2], -EACCES);
    call = begin_call(ictx, context->tenant, owner, cmd, true);
    if (!call)
        return -ENOMEM;
    call->context = 0; /* no ioctl of the IOMMUFD itself, whose end would be seen */
    call->binding = nr == NR_BIND ? ictx : 0;
    return 0;
}

/* VFIO's groups lead into an IOMMUFD as well, into one address space for all of them. */
static __noinline int guard_group(__u32 cmd, __u32 fd)
{
    __u64 ictx = context_of_fd(fd);
    struct ledger_context *context = bpf_map_lookup_elem(&contexts, &ictx);
    __u32 owner;

    if (!context || !(context->flags & LEDGER_CONTEXT_GUARDED))
        return 0;
    owner = caller(context->tenant);
    return owner == LEDGER_OWNER_SERVICE ? 0 : refuse(owner, ictx, cmd, 0, -EPERM);
}

static __always_inline int guard_ioctl(struct file *file, unsigned int cmd, unsigned long arg,
                                       bool may_sleep)
{
    __u32 nr = cmd & 0xff, rdev;
    struct ledger_context *context;
    struct ledger_config *options;
    union argument argument = {};
    __u64 ictx;

    ictx = (__u64)file->private_data;
    context = bpf_map_lookup_elem(&contexts, &ictx);
    options = get_config();
    if (!options || !options->guard)
        return 0;
    if (context)
        return context->flags & LEDGER_CONTEXT_GUARDED
                   ? guard_context(context, ictx, cmd, arg, options, may_sleep)
                   : 0;
    if (nr == NR_GROUP_SET_CONTAINER)
        return read_argument(&argument, 4, arg, may_sleep) ? -EFAULT
                                                           : guard_group(cmd, argument.word[0]);
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

/* 32-bit programs; this hook can't sleep, so that memory that is not there is -EFAULT. */
SEC("lsm/file_ioctl_compat")
int BPF_PROG(guard_file_ioctl_compat, struct file *file, unsigned int cmd, unsigned long arg,
             int ret)
{
    if (NOT_OURS(cmd) || ret)
        return ret;
    return guard_ioctl(file, cmd, (__u32)arg, false);
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
    return guard_ioctl(file, cmd, (__u32)arg, false);
}

/* Who may be handed a tenant's IOMMUFD: those who pass it on, and the tenant's own. */
static __always_inline int guard_receive(struct file *file)
{
    __u64 ictx = (__u64)file->private_data;
    struct ledger_context *context = bpf_map_lookup_elem(&contexts, &ictx);
    struct ledger_process *process;
    struct ledger_config *options;
    struct ledger_machine *machine;
    struct ledger_owner *owner;
    __u32 holder;

    if (!context || !(context->flags & LEDGER_CONTEXT_CLOSED_CIRCLE))
        return 0;
    options = get_config();
    if (!options || !options->guard)
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

/* Opening /dev/iommu, or what /proc/PID/fd shows of it, makes an IOMMUFD that nobody limits. */
static __always_inline int guard_open(struct file *file)
{
    struct ledger_config *options = get_config();
    struct ledger_process *process;
    struct ledger_owner *owner;

    if (!options || !options->guard || !(options->flags & LEDGER_CONFIG_NO_OPEN) ||
        !options->iommu_rdev || file->f_inode->i_rdev != options->iommu_rdev)
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
