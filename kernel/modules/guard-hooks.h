/* SPDX-License-Identifier: GPL-2.0-only */
/* Included before iommufd's main.c and io_pagetable.c: what ties guard-hooks.c to them. */
#ifndef IOMMUD_GUARD_HOOKS_H
#define IOMMUD_GUARD_HOOKS_H

#ifdef IOMMUD_MAIN
/* main.c's own, which has to come before the first header. */
#define pr_fmt(fmt) "iommufd: " fmt
#include <linux/module.h>

/* A module has one initial function: the kernel's own is called by another. */
#undef module_init
#define module_init(initfn)                                                    \
	static int __init initfn##_with_guard_hooks(void)                      \
	{                                                                      \
		int rc = initfn();                                             \
									       \
		if (!rc)                                                       \
			iommud_guard_hooks_init();                             \
		return rc;                                                     \
	}                                                                      \
	int init_module(void) __copy(initfn##_with_guard_hooks)                \
		__attribute__((alias(#initfn "_with_guard_hooks")));           \
	___ADDRESSABLE(init_module, __initdata)
#endif

#ifdef IOMMUD_IO_PAGETABLE
#include "io_pagetable.h"

/* What is mapped is first made a range, by one of these, in functions that have the context as `ictx`. */
#define iopt_alloc_pages(...) iommud_guard_ask_pages(ictx, (iopt_alloc_pages)(__VA_ARGS__))
#define iopt_alloc_user_pages(...) iommud_guard_ask_pages(ictx, (iopt_alloc_user_pages)(__VA_ARGS__))
#define iopt_alloc_file_pages(...) iommud_guard_ask_pages(ictx, (iopt_alloc_file_pages)(__VA_ARGS__))
#endif

struct iommufd_ctx;
struct iommufd_object;
struct iopt_pages;

void iommud_guard_hooks_init(void);
/* Before an ioctl is carried out: 0, or the error that it ends with. */
int iommud_guard_ask_call(struct iommufd_ctx *ictx, unsigned int cmd, const void *argument);
/* With the table of objects locked: may the caller have this one (NULL: there is none)? 0, or its error. */
int iommud_guard_ask_object(struct iommufd_ctx *ictx, struct iommufd_object *object);
/* An object that has got its id: 0, or the error that its creation ends with. */
int iommud_guard_ask_made(struct iommufd_ctx *ictx, struct iommufd_object *object);
/* Before an object's id is free for others. */
void iommud_guard_tell_gone(struct iommufd_ctx *ictx, struct iommufd_object *object);
/* The range, or the error that its mapping ends with. */
struct iopt_pages *iommud_guard_ask_pages(struct iommufd_ctx *ictx, struct iopt_pages *pages);

#endif
