/* SPDX-License-Identifier: GPL-2.0-only */
/* Included before iommufd's main.c: what ties guard-points.c to it. */
#ifndef IOMMUD_GUARD_POINTS_H
#define IOMMUD_GUARD_POINTS_H

#ifdef IOMMUD_MAIN
/* main.c's own, which has to come before the first header. */
#define pr_fmt(fmt) "iommufd: " fmt
#include <linux/module.h>

/* A module has one initial function: the kernel's own is called by another. */
#undef module_init
#define module_init(initfn)                                                    \
	static int __init initfn##_with_guard_points(void)                     \
	{                                                                      \
		int rc = initfn();                                             \
									       \
		if (!rc)                                                       \
			iommud_guard_points_init();                            \
		return rc;                                                     \
	}                                                                      \
	int init_module(void) __copy(initfn##_with_guard_points)               \
		__attribute__((alias(#initfn "_with_guard_points")));          \
	___ADDRESSABLE(init_module, __initdata)
#endif

struct iommufd_ctx;

void iommud_guard_points_init(void);
/* Before an ioctl is carried out: 0, or the error that it ends with. */
int iommud_guard_ask_call(struct iommufd_ctx *ictx, unsigned int cmd, const void *argument);

#endif
