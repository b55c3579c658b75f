/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The guard's hooks, at which it can refuse: part of iommufd's module (drivers/iommu/iommufd/Kbuild).
 *
 * A security module is asked about an ioctl before its argument is copied, so that another thread
 * can change it after the question. The hooks are called with the kernel's own copies. A BPF program
 * may only watch a function, unless the module that the function is in allows it to return an error
 * in its place: that is what is registered here. Without it (a distribution's own iommufd, or this
 * one with guard_hooks=0) the guard can only kill a process that has changed an argument, after the
 * fact.
 *
 * Preemption is off while a hook runs. The kernel skips a BPF program that another task on the same
 * processor is in the middle of; with preemption a task could be kept there, and the next one's
 * check be skipped.
 *
 * Calls get here through the linker (--wrap), through macros (guard-hooks.h), and through what
 * `prepare` puts into main.c.
 */
#include <linux/btf.h>
#include <linux/btf_ids.h>
#include <linux/err.h>
#include <linux/iommu.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/preempt.h>
#include <uapi/linux/iommufd.h>

#include "guard-hooks.h"
#include "io_pagetable.h"
#include "iommufd_private.h"

static bool guard_hooks = true;
module_param(guard_hooks, bool, 0444);
MODULE_PARM_DESC(guard_hooks, "Let BPF programs refuse ioctls, not only watch them");

/*
 * The hooks themselves. What an attached BPF program returns is returned in their place. They are
 * weak, so that a compiler that sees them return 0 does not drop the callers' checks. barrier() is for
 * the compiler alone, as in the kernel's own empty hooks: it keeps calls of a function that does nothing,
 * and pairs with nothing.
 */
int iommud_guard_call(struct iommufd_ctx *ictx, unsigned int cmd, unsigned long argument);
int iommud_guard_object(struct iommufd_ctx *ictx, struct iommufd_object *object);
int iommud_guard_made(struct iommufd_ctx *ictx, struct iommufd_object *object);
int iommud_guard_gone(struct iommufd_ctx *ictx, struct iommufd_object *object);
int iommud_guard_bind(struct iommufd_ctx *ictx, struct device *dev);
int iommud_guard_pages(struct iommufd_ctx *ictx, struct iopt_pages *pages);

/* An ioctl's argument, copied and checked for its form, of ioctls that are done to the whole IOMMUFD.
 * Passed as a number: which types of pointers a BPF program may take differs by kernel. */
__weak noinline int iommud_guard_call(struct iommufd_ctx *ictx, unsigned int cmd,
				      unsigned long argument)
{
	barrier();
	return 0;
}

/* The object of the id that the caller has named. The table is locked: the caller gets this object,
 * and not one that comes to the same id a moment later. */
__weak noinline int iommud_guard_object(struct iommufd_ctx *ictx, struct iommufd_object *object)
{
	barrier();
	return 0;
}

/* An object that has just got its id, and that nobody else can reach yet. */
__weak noinline int iommud_guard_made(struct iommufd_ctx *ictx, struct iommufd_object *object)
{
	barrier();
	return 0;
}

/* An object that is about to lose its id, which no other can get before. The result is ignored. */
__weak noinline int iommud_guard_gone(struct iommufd_ctx *ictx, struct iommufd_object *object)
{
	barrier();
	return 0;
}

__weak noinline int iommud_guard_bind(struct iommufd_ctx *ictx, struct device *dev)
{
	barrier();
	return 0;
}

/* A range of memory that nothing has been done with yet. */
__weak noinline int iommud_guard_pages(struct iommufd_ctx *ictx, struct iopt_pages *pages)
{
	barrier();
	return 0;
}

#define ASK(hook, ...)                                                         \
	({                                                                     \
		int error;                                                     \
		preempt_disable();                                             \
		error = hook(__VA_ARGS__);                                     \
		preempt_enable();                                              \
		error;                                                         \
	})

/* All other ioctls reach one of the other hooks, and each call of a hook costs something. */
int iommud_guard_ask_call(struct iommufd_ctx *ictx, unsigned int cmd, const void *argument)
{
	switch (cmd) {
	case IOMMU_OPTION:
	case IOMMU_VFIO_IOAS:
#ifdef IOMMU_IOAS_CHANGE_PROCESS
	case IOMMU_IOAS_CHANGE_PROCESS:
#endif
		return ASK(iommud_guard_call, ictx, cmd, (unsigned long)argument);
	}
	return 0;
}

int iommud_guard_ask_object(struct iommufd_ctx *ictx, struct iommufd_object *object)
{
	return object ? ASK(iommud_guard_object, ictx, object) : 0;
}

int iommud_guard_ask_made(struct iommufd_ctx *ictx, struct iommufd_object *object)
{
	return ASK(iommud_guard_made, ictx, object);
}

void iommud_guard_tell_gone(struct iommufd_ctx *ictx, struct iommufd_object *object)
{
	ASK(iommud_guard_gone, ictx, object);
}

/* What iommufd_device_bind() asks before it makes anything; the owner is the context. */
int __real_iommu_device_claim_dma_owner(struct device *dev, void *owner);
int __wrap_iommu_device_claim_dma_owner(struct device *dev, void *owner);
int __wrap_iommu_device_claim_dma_owner(struct device *dev, void *owner)
{
	return ASK(iommud_guard_bind, owner, dev) ?: __real_iommu_device_claim_dma_owner(dev, owner);
}

/* Instead of a range that may not be, its error. Nothing is pinned for one that has just been made. */
struct iopt_pages *iommud_guard_ask_pages(struct iommufd_ctx *ictx, struct iopt_pages *pages)
{
	int rc = IS_ERR(pages) ? 0 : ASK(iommud_guard_pages, ictx, pages);

	if (!rc)
		return pages;
	iopt_put_pages(pages);
	return ERR_PTR(rc);
}

BTF_KFUNCS_START(iommud_guard_hooks)
BTF_ID_FLAGS(func, iommud_guard_call)
BTF_ID_FLAGS(func, iommud_guard_object)
BTF_ID_FLAGS(func, iommud_guard_made)
BTF_ID_FLAGS(func, iommud_guard_gone)
BTF_ID_FLAGS(func, iommud_guard_bind)
BTF_ID_FLAGS(func, iommud_guard_pages)
BTF_KFUNCS_END(iommud_guard_hooks)

static const struct btf_kfunc_id_set iommud_guard_hook_set = {
	.owner = THIS_MODULE,
	.set = &iommud_guard_hooks,
};

void iommud_guard_hooks_init(void)
{
	if (guard_hooks && register_btf_fmodret_id_set(&iommud_guard_hook_set))
		pr_warn("iommufd: BPF can't refuse ioctls, only watch them\n");
}
