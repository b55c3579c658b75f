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
#include "unbind.bpf.h"
#include "plug.bpf.h"

/* Both programs of a check: of the LSM hook, and of the function security_NAME() without the BPF
 * LSM, with the hook's arguments, of which `ret` is what was answered before. */
#define GUARD_HOOK(name, lsm, lsm_check, function, function_check, ...)                            \
    SEC(lsm) int BPF_PROG(guard_##name, __VA_ARGS__)                                               \
    {                                                                                              \
        return ret ? ret : lsm_check;                                                              \
    }                                                                                              \
    SEC("fmod_ret/security_" function) int BPF_PROG(guard_##name##_no_lsm, __VA_ARGS__)            \
    {                                                                                              \
        return ret ? ret : function_check;                                                         \
    }

/* Copies `bytes` of the caller's memory; to has room for all that a rule has read. */
static __always_inline long read_user(void *to, __u32 bytes, unsigned long from, bool may_sleep)
{
    if (may_sleep)
        return bpf_copy_from_user(to, bytes, (const void *)from);
    return bpf_probe_read_user(to, bytes, (const void *)from);
}

static __always_inline int read_argument(union argument *argument, const struct ioctl_rule *rule,
                                         unsigned long from, bool may_sleep)
{
    __u32 bytes = rule->bytes;

    if (!bytes)
        return 0;
    if (bytes > sizeof(*argument))
        return -EFAULT;
    return read_user(argument, bytes, from, may_sleep) ? -EFAULT : 0;
}

/* The thread begins an ioctl, as the one who identify() says it is. */
static __always_inline void begin_call(struct task_state *self, __u32 command, enum phase phase)
{
    leak_reservation(self);
    self->phase = self->tenant_owner == LEDGER_OWNER_SERVICE ? PHASE_SERVICE : phase;
    self->command = command;
    self->argument_changed = 0;
    self->mapping = 0;
    self->changing = 0;
}

/* An ioctl that makes an object is refused here for want of room, where the object itself can't be
 * refused later. */
static __always_inline int expect_object(struct task_state *self, const struct ioctl_rule *rule,
                                         const struct ledger_config *options)
{
    return rule->flags & IOCTL_MAKES && !(options->flags & LEDGER_CONFIG_CAN_REFUSE_LATE)
               ? reserve_object(self)
               : 0;
}

/* All that the guard does with an ioctl that is left to the re-check: events name it. */
static __always_inline int leave_to_recheck(__u32 command)
{
    struct task_state *self = get_task_state(true);

    if (self)
        self->command = command;
    return 0;
}

/* Whether the ioctl may do what it does to the whole IOMMUFD: 0 or -EPERM. */
static __always_inline int check_command(__u32 command, const struct ioctl_rule *rule,
                                         const union argument *argument, __u32 flags, __u32 guard)
{
    return rule->of_iommufd ? check_whole(command, rule, argument, flags) : check_unknown(guard);
}

/* Refuses the first of the ids that the argument names and the owner may not have. */
static __always_inline int check_ids(const struct task_state *self, __u64 ictx, __u32 command,
                                     const struct ioctl_rule *rule, const union argument *argument,
                                     __u32 fault_id)
{
    for (int i = 0; i < 3; i++) {
        __u32 position = i < 2 ? rule->ids[i] : 0;
        __u32 id = i < 2 ? (position ? argument_u32(argument, position) : 0) : fault_id;

        if (id && check_id(ictx, self->context_id, id, self->tenant_owner))
            return refuse(self->tenant_owner, ictx, command, id, -EACCES);
    }
    return 0;
}

/* The fault queue that HWPT_ALLOC names if it says so, in a member that older callers don't have.
 */
static __always_inline int read_fault_id(const struct ioctl_rule *rule,
                                         const union argument *argument, unsigned long arg,
                                         bool may_sleep, __u32 *ret_id)
{
    *ret_id = 0;
    if (!(rule->flags & IOCTL_NAMES_FAULT) ||
        argument->size < IOCTL_END(iommu_hwpt_alloc, fault_id) ||
        !(argument->hwpt_alloc.flags & IOMMU_HWPT_FAULT_ID_VALID))
        return 0;
    return read_user(ret_id, sizeof(*ret_id), arg + IOCTL_AT(iommu_hwpt_alloc, fault_id), may_sleep)
               ? -EFAULT
               : 0;
}

/* Reserves what the ioctl maps, where the range itself can't be refused (recheck-fmodret.bpf.c). */
static __always_inline int reserve_mapping(struct task_state *self, const struct ioctl_rule *rule,
                                           const union argument *argument)
{
    __u64 source = 0;

    if (self->phase == PHASE_CHECKED)
        source = rule->flags & IOCTL_MAPS_FILE ? source_of_file(argument->map_file.fd)
                                               : source_of_memory();
    return reserve_argument(self, argument_u64(argument, rule->start),
                            argument_u64(argument, rule->length), source);
}

/* An ioctl on a guarded IOMMUFD: who it is, what it does to the whole, what it names, what it maps.
 */
static __always_inline int guard_context(struct task_state *self, __u64 ictx, __u32 command,
                                         unsigned long arg, const struct ioctl_rule *rule,
                                         struct ledger_config *options, bool may_sleep)
{
    union argument argument = {};
    __u32 fault_id;
    int error;

    if (!self->tenant_owner)
        return refuse(0, ictx, command, 0, -EACCES);
    if (rule->of_iommufd && read_argument(&argument, rule, arg, may_sleep))
        return -EFAULT;
    if (read_fault_id(rule, &argument, arg, may_sleep, &fault_id))
        return -EFAULT;
    begin_call(self, command, PHASE_CHECKED);
    if (self->phase == PHASE_CHECKED) {
        error = check_command(command, rule, &argument, self->flags, options->guard);
        if (error)
            return refuse(self->tenant_owner, ictx, command, 0, error);
        error = check_ids(self, ictx, command, rule, &argument, fault_id);
        if (error)
            return error;
    }
    if (rule->length && !(options->flags & LEDGER_CONFIG_CAN_REFUSE_LATE))
        return reserve_mapping(self, rule, &argument);
    return rule->of_iommufd ? expect_object(self, rule, options) : 0;
}

/* A device's file, and the caller of an ioctl on it. */
struct device_call {
    struct ledger_device_key key;
    __u64 ictx; /* the IOMMUFD that it is bound to, or is to be bound to */
    __u32 command;
    __u32 attach_to; /* id of an object */
};

/*
 * A device that is not, and would not be, bound to a guarded IOMMUFD. One that was admitted for a
 * machine goes nowhere but into its tenant's IOMMUFD, and nobody resets it, and its neighbours,
 * while another thread binds it.
 */
static __always_inline int guard_device_outside(const struct device_call *call, __u32 class)
{
    if (!get_device(&call->key) || (class != IOCTL_DEVICE_BIND && class != IOCTL_DEVICE_RESET) ||
        current_role() == LEDGER_ROLE_SERVICE)
        return 0;
    return refuse(current_owner(true), 0, call->command, 0, -EACCES);
}

static __always_inline int guard_bind(const struct task_state *self, const struct device_call *call)
{
    return check_bind(&call->key, self->tenant_id, self->tenant_owner)
               ? refuse(self->tenant_owner, call->ictx, call->command, 0, -EACCES)
               : 0;
}

/* Attach and detach. */
static __always_inline int guard_attach(const struct task_state *self,
                                        const struct device_call *call)
{
    if (check_use(&call->key, self->tenant_id, self->tenant_owner))
        return refuse(self->tenant_owner, call->ictx, call->command, 0, -EACCES);
    return call->attach_to &&
                   check_id(call->ictx, self->context_id, call->attach_to, self->tenant_owner)
               ? refuse(self->tenant_owner, call->ictx, call->command, call->attach_to, -EACCES)
               : 0;
}

static __always_inline int guard_reset(const struct task_state *self,
                                       const struct device_call *call)
{
    struct ledger_device *device = get_device(&call->key);

    return check_use(&call->key, self->tenant_id, self->tenant_owner) ||
                   (device && device->flags & LEDGER_DEVICE_RESET_SHARED)
               ? refuse(self->tenant_owner, call->ictx, call->command, 0, -EACCES)
               : 0;
}

/* An ioctl on a VFIO device's file. */
static __always_inline int guard_device(struct file *file, __u32 command, unsigned long arg,
                                        const struct ioctl_rule *rule,
                                        const struct ledger_config *options, bool may_sleep)
{
    struct vfio_device_file *opened = file->private_data;
    struct device_call call = {.command = command};
    union argument argument = {};
    struct task_state *self;
    int error = 0;

    if ((rule->device == IOCTL_DEVICE_BIND || rule->device == IOCTL_DEVICE_ATTACH) &&
        read_argument(&argument, rule, arg, may_sleep))
        return -EFAULT;
    name_device(BPF_CORE_READ(opened, device, dev), &call.key);
    if (rule->device == IOCTL_DEVICE_BIND)
        call.ictx = context_of_fd(argument.bind.iommufd);
    else
        call.ictx = (__u64)BPF_CORE_READ(opened, iommufd);
    if (rule->device == IOCTL_DEVICE_ATTACH)
        call.attach_to = argument.attach.pt_id;
    if (!is_guarded(call.ictx))
        return guard_device_outside(&call, rule->device);
    self = identify(call.ictx);
    if (!self)
        return -ENOMEM;
    if (!self->tenant_owner)
        return refuse(0, call.ictx, command, 0, -EACCES);
    if (self->tenant_owner != LEDGER_OWNER_SERVICE) {
        if (rule->device == IOCTL_DEVICE_RESET)
            return guard_reset(self, &call);
        error =
            rule->device == IOCTL_DEVICE_BIND ? guard_bind(self, &call) : guard_attach(self, &call);
        if (error)
            return error;
    }
    begin_call(self, command, PHASE_DEVICE);
    return self->phase == PHASE_DEVICE ? expect_object(self, rule, options) : 0;
}

/*
 * VFIO's groups lead into an IOMMUFD as well, into one address space for all of them. Which devices
 * then follow only the re-check sees, so it must be able to refuse them.
 */
static __noinline int guard_group(__u32 command, __u32 fd)
{
    struct ledger_config *options = get_config();
    __u64 ictx = context_of_fd(fd);
    struct task_state *self;

    if (!options || !is_guarded(ictx))
        return 0;
    self = identify(ictx);
    if (!self)
        return -ENOMEM;
    if (self->tenant_owner == LEDGER_OWNER_SERVICE)
        return 0;
    if (!self->tenant_owner)
        return refuse(0, ictx, command, 0, -EACCES);
    if (self->flags & LEDGER_CONTEXT_SHARED || !(options->flags & LEDGER_CONFIG_CAN_REFUSE_LATE))
        return refuse(self->tenant_owner, ictx, command, 0, -EPERM);
    begin_call(self, command, PHASE_DEVICE);
    return 0;
}

/* An ioctl on another file than an IOMMUFD's that the ledger knows. */
static __always_inline int guard_vfio(struct file *file, __u32 command, unsigned long arg,
                                      const struct ioctl_rule *rule,
                                      const struct ledger_config *options, bool may_sleep)
{
    __u32 fd = 0;

    switch (rule->device) {
    case IOCTL_DEVICE_NONE:
        return 0;
    case IOCTL_GROUP_CONTAINER:
        return read_user(&fd, sizeof(fd), arg, may_sleep) ? -EFAULT : guard_group(command, fd);
    case IOCTL_GROUP_DEVICE:
        return leave_to_recheck(command);
    }
    if (!is_vfio_device(options, file->f_inode->i_rdev))
        return 0;
    return guard_device(file, command, arg, rule, options, may_sleep);
}

static __always_inline int guard_ioctl(struct file *file, unsigned int command, unsigned long arg,
                                       bool may_sleep)
{
    struct ledger_config *options = get_config();
    __u64 ictx = (__u64)file->private_data;
    struct ioctl_rule rule = rule_of(command);
    struct task_state *self;

    if (!options || !options->guard)
        return 0;
    /* Where the re-check can refuse, it checks all that these name and map before anything has come
     * of it. */
    if (rule.flags & IOCTL_RECHECKED && options->flags & LEDGER_CONFIG_CAN_REFUSE_LATE)
        return leave_to_recheck(command);
    self = identify(ictx);
    if (self) {
        self->phase = PHASE_NONE;
        return self->flags & LEDGER_CONTEXT_GUARDED
                   ? guard_context(self, ictx, command, arg, &rule, options, may_sleep)
                   : 0;
    }
    if (is_guarded(ictx))
        return -ENOMEM;
    return guard_vfio(file, command, arg, &rule, options, may_sleep);
}

/* Every ioctl of the host passes here: the first thing is to let the others go. The type is ';' for
 * iommufd and VFIO alike. */
static __always_inline bool is_ours(unsigned int command)
{
    return (command & ~0xffu) == _IO(IOMMUFD_TYPE, 0);
}

/* An IOMMUFD has no ioctls for 32-bit programs: nothing is to be reserved for one. VFIO's files
 * have. */
static __always_inline int guard_compat(struct file *file, unsigned int command, unsigned long arg)
{
    return is_guarded((__u64)file->private_data) ? -ENOTTY
                                                 : guard_ioctl(file, command, (__u32)arg, false);
}

GUARD_HOOK(file_ioctl, "lsm.s/file_ioctl", is_ours(cmd) ? guard_ioctl(file, cmd, arg, true) : 0,
           "file_ioctl", is_ours(cmd) ? guard_ioctl(file, cmd, arg, false) : 0, struct file *file,
           unsigned int cmd, unsigned long arg, int ret)

/* 32-bit programs; this hook can't sleep, so that memory that is not there is -EFAULT. */
GUARD_HOOK(file_ioctl_compat, "lsm/file_ioctl_compat",
           is_ours(cmd) ? guard_compat(file, cmd, arg) : 0, "file_ioctl_compat",
           is_ours(cmd) ? guard_compat(file, cmd, arg) : 0, struct file *file, unsigned int cmd,
           unsigned long arg, int ret)

/* Whether the current process is of the tenant, or passes guarded files on. */
static __always_inline bool may_receive(__u32 tenant_id)
{
    struct ledger_process *process = current_process();
    struct ledger_machine *machine;
    struct ledger_owner *owner;
    __u32 assigned;

    if (process && process->role != LEDGER_ROLE_USER)
        return true;
    owner = process ? get_owner(process->owner) : NULL;
    if (owner && owner->tenant == tenant_id)
        return true;
    assigned = assigned_to_cgroup();
    if (assigned == LEDGER_RELAY)
        return true;
    machine = process ? NULL : get_machine(assigned);
    return machine && machine->tenant == tenant_id;
}

/* Who may be handed a tenant's IOMMUFD: those who pass it on, and the tenant's own. */
static __always_inline int guard_receive(struct file *file)
{
    struct ledger_config *options = get_config();
    struct ledger_context *context;
    __u64 ictx;

    if (!options || !options->guard || !is_iommufd(options, file->f_inode->i_rdev))
        return 0;
    ictx = (__u64)file->private_data;
    context = bpf_map_lookup_elem(&contexts, &ictx);
    if (!context || !(context->flags & LEDGER_CONTEXT_RESTRICTED) || may_receive(context->tenant))
        return 0;
    return refuse(current_owner(true), ictx, 0, 0, -EACCES);
}

GUARD_HOOK(file_receive, "lsm/file_receive", guard_receive(file), "file_receive",
           guard_receive(file), struct file *file, int ret)

/* What an IOMMUFD shows by mmap(2), registers of queues, is found by an offset that names no owner.
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

/* The function has one argument less than the LSM hook. */
SEC("lsm/mmap_file")
int BPF_PROG(guard_mmap_file, struct file *file, unsigned long reqprot, unsigned long prot,
             unsigned long flags, int ret)
{
    return ret ? ret : guard_mmap(file);
}

SEC("fmod_ret/security_mmap_file")
int BPF_PROG(guard_mmap_file_no_lsm, struct file *file, unsigned long prot, unsigned long flags,
             int ret)
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

static __always_inline int check_open(struct file *file)
{
    struct ledger_config *options = get_config();

    if (!options)
        return 0;
    if (is_vfio_device(options, file->f_inode->i_rdev))
        note_vfio_device(file);
    else if (waits_for_itself(options, file))
        return -EBUSY;
    return guard_open(file);
}

GUARD_HOOK(file_open, "lsm/file_open", check_open(file), "file_open", check_open(file),
           struct file *file, int ret)

/*
 * The one question that the kernel asks a security module between copying a mapping's argument and
 * pinning. A process that was caught loses the privilege that exempts it from RLIMIT_MEMLOCK.
 */
static __always_inline int guard_capability(int capability)
{
    struct task_state *self;

    if (capability != CAP_IPC_LOCK)
        return 0;
    self = get_task_state(false);
    return self && self->argument_changed ? -EPERM : 0;
}

GUARD_HOOK(capable, "lsm/capable", guard_capability(capability), "capable",
           guard_capability(capability), const struct cred *cred, struct user_namespace *ns,
           int capability, unsigned int opts, int ret)

GUARD_HOOK(task_setrlimit, "lsm/task_setrlimit", guard_setrlimit(task, resource, limit),
           "task_setrlimit", guard_setrlimit(task, resource, limit), struct task_struct *task,
           unsigned int resource, struct rlimit *limit, int ret)
