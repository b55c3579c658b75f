/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which of the programs that the kernel runs are wanted where. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* In the order in which they are attached: the guard's follow the ledger's, without which they
 * would know no owner. */
typedef enum {
    PROGRAM_LEDGER,  /* counts; where its function is */
    PROGRAM_HOOK,    /* the re-check of iommud's own iommufd, which obeys it */
    PROGRAM_PROBE,   /* the re-check of any other, by kprobes; where its function is */
    PROGRAM_LSM,     /* the guard's first check, by the BPF LSM */
    PROGRAM_NO_LSM,  /* the same without it; where its function is */
    PROGRAM_CONTROL, /* run from here, or an iterator: always loaded, never attached */
    N_PROGRAM_KINDS,
} ProgramKind;

typedef struct {
    const char *name;
    ProgramKind kind;
    bool not_with_hooks;  /* iommud's own iommufd is asked about it before it happens */
    bool not_with_guard;  /* a program of the guard does it, too */
    const char *not_with; /* a function: where that is there, other programs do it */
    bool tracepoint;      /* of the kernel's core, which all have */
} Program;

/* What there is of the two. */
typedef struct {
    bool guard; /* the guard is wanted, and possible */
    bool hooks; /* iommufd is iommud's own */
    bool lsm;   /* the BPF LSM is enabled */
} ProgramNeeds;

/* Every program in kernel/bpf/. */
extern const Program programs[];
extern const size_t n_programs;

/* NULL: there is none of that name. */
const Program *program_find(const char *name);
/* Whether it is wanted. have: whether the kernel has a function. */
bool program_is_wanted(const Program *program, const char *function, const ProgramNeeds *needs,
                       bool (*have)(const void *data, const char *function), const void *data);
