/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where the guard can refuse: part of iommufd's module (see drivers/iommu/iommufd/Kbuild).
 *
 * A security module is asked about an ioctl before its argument is copied, so that another thread
 * can change it after the question. These functions are called with the kernel's own copies. A BPF
 * program may only watch a function, unless the module that it is in allows it to return an error
 * in its place: that is what is registered here. Without it (a distribution's own iommufd, or this
 * one with guard_points=0) the guard kills whoever changed an argument, after the fact.
 *
 * Preemption is off while they run. The kernel skips a BPF program that another task on the same
 * processor is in the middle of; a task could be kept there to have the next one's check skipped.
 *
 * Calls get here through the linker (--wrap), and one through `prepare`.
 */
#include <linux/btf.h>
#include <linux/btf_ids.h>
#include <linux/err.h>
#include <linux/iommu.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/preempt.h>
#include <uapi/linux/iommufd.h>

#include "guard-points.h"
#include "iommufd_private.h"

static bool guard_points = true;
module_param(guard_points, bool, 0444);
MODULE_PARM_DESC(guard_points, "Let BPF programs refuse ioctls, not only watch them");

/*
 * The points themselves. BPF programs put in their place what they return. They are weak, so that a
 * compiler that sees them return 0 does not conclude that their callers need not look.
 */
int iommud_guard_call(struct iommufd_ctx *ictx, unsigned int cmd, unsigned long argument);
int iommud_guard_object(struct iommufd_ctx *ictx, u32 id);
int iommud_guard_bind(struct iommufd_ctx *ictx, struct device *dev);
int iommud_guard_map(struct iommufd_ctx *ictx, unsigned long start, unsigned long length);
#ifdef HAVE_IOPT_ALLOC_FILE_PAGES
int iommud_guard_file(struct file *file);
#endif

/* An ioctl's argument, copied and checked for its form: of those that do it to the whole IOMMUFD,
 * and of the one that names an object by another way. An address: of pointers, BPF programs take
 * not all types on all kernels. */
__weak noinline int iommud_guard_call(struct iommufd_ctx *ictx, unsigned int cmd,
				      unsigned long argument)
{
	barrier();
	return 0;
}

/* An object that the ioctl names. */
__weak noinline int iommud_guard_object(struct iommufd_ctx *ictx, u32 id)
{
	barrier();
	return 0;
}

__weak noinline int iommud_guard_bind(struct iommufd_ctx *ictx, struct device *dev)
{
	barrier();
	return 0;
}

/* Memory that is about to be mapped, from that address or place in a file on. */
__weak noinline int iommud_guard_map(struct iommufd_ctx *ictx, unsigned long start,
				     unsigned long length)
{
	barrier();
	return 0;
}

#define ASK(point, ...)                                                        \
	({                                                                     \
		int error;                                                     \
		preempt_disable();                                             \
		error = point(__VA_ARGS__);                                    \
		preempt_enable();                                              \
		error;                                                         \
	})

/* What the others do passes one of the points below, and each question costs something. */
int iommud_guard_ask_call(struct iommufd_ctx *ictx, unsigned int cmd, const void *argument)
{
	switch (cmd) {
	case IOMMU_DESTROY:
	case IOMMU_OPTION:
	case IOMMU_VFIO_IOAS:
#ifdef IOMMU_IOAS_CHANGE_PROCESS
	case IOMMU_IOAS_CHANGE_PROCESS:
#endif
		return ASK(iommud_guard_call, ictx, cmd, (unsigned long)argument);
	}
	return 0;
}

struct iommufd_object *__real_iommufd_get_object(struct iommufd_ctx *ictx, u32 id,
						 enum iommufd_object_type type);
struct iommufd_object *__wrap_iommufd_get_object(struct iommufd_ctx *ictx, u32 id,
						 enum iommufd_object_type type);
struct iommufd_object *__wrap_iommufd_get_object(struct iommufd_ctx *ictx, u32 id,
						 enum iommufd_object_type type)
{
	int rc = ASK(iommud_guard_object, ictx, id);

	return rc ? ERR_PTR(rc) : __real_iommufd_get_object(ictx, id, type);
}

/* What iommufd_device_bind() asks before it makes anything; the owner is the context. */
int __real_iommu_device_claim_dma_owner(struct device *dev, void *owner);
int __wrap_iommu_device_claim_dma_owner(struct device *dev, void *owner);
int __wrap_iommu_device_claim_dma_owner(struct device *dev, void *owner)
{
	return ASK(iommud_guard_bind, owner, dev) ?: __real_iommu_device_claim_dma_owner(dev, owner);
}

int __real_iopt_map_user_pages(struct iommufd_ctx *ictx, struct io_pagetable *iopt,
			       unsigned long *iova, void __user *uptr, unsigned long length,
			       int iommu_prot, unsigned int flags);
int __wrap_iopt_map_user_pages(struct iommufd_ctx *ictx, struct io_pagetable *iopt,
			       unsigned long *iova, void __user *uptr, unsigned long length,
			       int iommu_prot, unsigned int flags);
int __wrap_iopt_map_user_pages(struct iommufd_ctx *ictx, struct io_pagetable *iopt,
			       unsigned long *iova, void __user *uptr, unsigned long length,
			       int iommu_prot, unsigned int flags)
{
	return ASK(iommud_guard_map, ictx, (unsigned long)uptr, length) ?:
		       __real_iopt_map_user_pages(ictx, iopt, iova, uptr, length, iommu_prot, flags);
}

#ifdef HAVE_IOPT_ALLOC_FILE_PAGES
/* The file that is about to be mapped. */
__weak noinline int iommud_guard_file(struct file *file)
{
	barrier();
	return 0;
}

struct iopt_pages *__real_iopt_alloc_file_pages(struct file *file, unsigned long start_byte,
						unsigned long start, unsigned long length,
						bool writable);
struct iopt_pages *__wrap_iopt_alloc_file_pages(struct file *file, unsigned long start_byte,
						unsigned long start, unsigned long length,
						bool writable);
struct iopt_pages *__wrap_iopt_alloc_file_pages(struct file *file, unsigned long start_byte,
						unsigned long start, unsigned long length,
						bool writable)
{
	int rc = ASK(iommud_guard_file, file);

	return rc ? ERR_PTR(rc) :
		    __real_iopt_alloc_file_pages(file, start_byte, start, length, writable);
}
#endif

#ifdef HAVE_IOPT_MAP_FILE_PAGES
/* The file is its descriptor's number, or a pointer in some versions: passed on as it is. */
int __real_iopt_map_file_pages(struct iommufd_ctx *ictx, struct io_pagetable *iopt,
			       unsigned long *iova, unsigned long file, unsigned long start,
			       unsigned long length, int iommu_prot, unsigned int flags);
int __wrap_iopt_map_file_pages(struct iommufd_ctx *ictx, struct io_pagetable *iopt,
			       unsigned long *iova, unsigned long file, unsigned long start,
			       unsigned long length, int iommu_prot, unsigned int flags);
int __wrap_iopt_map_file_pages(struct iommufd_ctx *ictx, struct io_pagetable *iopt,
			       unsigned long *iova, unsigned long file, unsigned long start,
			       unsigned long length, int iommu_prot, unsigned int flags)
{
	return ASK(iommud_guard_map, ictx, start, length) ?:
		       __real_iopt_map_file_pages(ictx, iopt, iova, file, start, length, iommu_prot,
						  flags);
}
#endif

BTF_KFUNCS_START(iommud_guard_points)
BTF_ID_FLAGS(func, iommud_guard_call)
BTF_ID_FLAGS(func, iommud_guard_object)
BTF_ID_FLAGS(func, iommud_guard_bind)
BTF_ID_FLAGS(func, iommud_guard_map)
#ifdef HAVE_IOPT_ALLOC_FILE_PAGES
BTF_ID_FLAGS(func, iommud_guard_file)
#endif
BTF_KFUNCS_END(iommud_guard_points)

static const struct btf_kfunc_id_set iommud_guard_point_set = {
	.owner = THIS_MODULE,
	.set = &iommud_guard_points,
};

void iommud_guard_points_init(void)
{
	if (guard_points && register_btf_fmodret_id_set(&iommud_guard_point_set))
		pr_warn("iommufd: BPF can't refuse ioctls, only watch them\n");
}
