/* SPDX-License-Identifier: GPL-2.0-only OR LGPL-2.1-or-later */
/*
 * What reserve.h, promise.h and extents.h need of either side: they are compiled into the BPF
 * programs, and as they are into tests/unit/test-bpf-arithmetic.c.
 */
#pragma once

#ifdef __bpf__
#include "types.bpf.h"
#else
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

#define __noinline __attribute__((noinline, unused))
#endif

/* A function that the verifier checks once, and not anew at each call: it may not be static in a
 * program, takes numbers and pointers to plain structures, and is told nothing of its callers, so
 * that a pointer may be NULL and what it returns is any number. */
#ifdef __bpf__
#define SHARED_FUNCTION __noinline
#else
#define SHARED_FUNCTION static __noinline
#endif

#include "shared.h"

/* Full barriers on both sides. BPF has no weaker exchange. */
#define COMPARE_AND_SWAP __sync_val_compare_and_swap
#define READ_ONCE(variable) (*(const volatile __typeof__(variable) *)&(variable))
#define WRITE_ONCE(variable, value) (*(volatile __typeof__(variable) *)&(variable) = (value))

/* How often an exchange that another processor may spoil is tried. */
#define TRIES 16
