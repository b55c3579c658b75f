/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a test and the machine that it has started say to each other. */
#pragma once

#include <stdatomic.h>

#include "tests/lab/machine.h"

#define ARGUMENT_SIZE 128

enum verb {
    VERB_IOCTL,
    VERB_IOCTL_VALUE,
    VERB_FORK_IOCTL,
    VERB_COMPAT_IOCTL,
    VERB_MEMORY,
    VERB_MEMFD,
    VERB_OPEN,
    VERB_RECEIVE,
    VERB_RACE,
    VERB_TIME,
    VERB_STORM,
};

typedef struct {
    enum verb verb;
    int fd;
    unsigned long command;
    size_t size;
    uint8_t argument[ARGUMENT_SIZE];
    uint64_t number;
    size_t offset;
    uint64_t other;
    bool wide;
    unsigned threads, seconds;
    const atomic_bool *stop; /* where the test says that a race is over */
    char path[64];
    unsigned long undo;
    size_t undo_size;
    uint8_t undo_argument[ARGUMENT_SIZE];
} Request;

typedef struct {
    int64_t result;
    uint8_t argument[ARGUMENT_SIZE];
    MachineRace race;
    MachineStormed stormed;
} Reply;

/* The storm, in this process. */
MachineStormed storm_here(int iommufd, const MachineStorm *what);
/* The machine's own side: does what it is asked for until the channel is closed. */
void machine_serve(int channel) G_GNUC_NORETURN;
