/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Numbers, sizes and offsets of the kernel's ABI as one header declares them. */
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef enum {
    UAPI_NUMBER,
    UAPI_SIZE,
    UAPI_OFFSET,
} UapiKind;

typedef struct {
    UapiKind kind;
    const char *name;
    uint64_t value;
} UapiRow;

#define NUMBER(macro) {UAPI_NUMBER, #macro, macro},
#define SIZE(type) {UAPI_SIZE, #type, sizeof(struct type)},
#define OFFSET(type, member) {UAPI_OFFSET, #type "." #member, offsetof(struct type, member)},

extern const UapiRow uapi_ours[];
extern const size_t uapi_n_ours;
extern const UapiRow uapi_system[];
extern const size_t uapi_n_system;
