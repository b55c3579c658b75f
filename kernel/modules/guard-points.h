/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where the guard can refuse. Included before iommufd's main.c (see drivers/iommu/iommufd/Kbuild).
 *
 * A security module is asked about an ioctl before its argument is copied, so that another thread
 * can change it after the question. These functions are called with the kernel's own copy. A BPF
 * program may only watch them, unless the module that they are in allows it to return an error in
 * their place: that is what is registered here. Without it (a distribution's own iommufd) the
 * guard kills whoever changed an argument, after the fact.
 */
/* main.c's own, which has to come before the first header. */
#define pr_fmt(fmt) "iommufd: " fmt

#include <linux/btf.h>
#include <linux/btf_ids.h>
#include <linux/init.h>
#include <linux/module.h>

BTF_KFUNCS_START(iommud_guard_points)
BTF_ID_FLAGS(func, iommufd_get_object)
BTF_ID_FLAGS(func, iommufd_object_remove)
BTF_ID_FLAGS(func, iommufd_device_bind)
BTF_ID_FLAGS(func, iopt_map_user_pages)
#ifdef HAVE_IOPT_MAP_FILE_PAGES
BTF_ID_FLAGS(func, iopt_map_file_pages)
#endif
BTF_KFUNCS_END(iommud_guard_points)

static const struct btf_kfunc_id_set iommud_guard_point_set = {
	.owner = THIS_MODULE,
	.set = &iommud_guard_points,
};

/* A module has one initial function: the kernel's own is called by another. */
#undef module_init
#define module_init(initfn)                                                    \
	static int __init initfn##_with_guard_points(void)                     \
	{                                                                      \
		int rc = initfn();                                             \
									       \
		if (!rc && register_btf_fmodret_id_set(&iommud_guard_point_set)) \
			pr_warn("BPF can't refuse ioctls, only watch them\n"); \
		return rc;                                                     \
	}                                                                      \
	int init_module(void) __copy(initfn##_with_guard_points)               \
		__attribute__((alias(#initfn "_with_guard_points")));          \
	___ADDRESSABLE(init_module, __initdata)
