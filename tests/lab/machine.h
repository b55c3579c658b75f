/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A machine for tests: a process of its own that holds the tenant's IOMMUFD and perhaps a device,
 * and issues the ioctls it is told to, as whoever has taken over a VMM could.
 */
#pragma once

#include <glib.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "kernel/uapi/iommufd.h"
#include "kernel/uapi/vfio.h"

/* What kernel/uapi/ has no use for. */
#define IOMMU_VFIO_IOAS _IO(IOMMUFD_TYPE, 0x88)
#define IOMMU_HWPT_SET_DIRTY_TRACKING _IO(IOMMUFD_TYPE, 0x8b)
#define IOMMU_FAULT_QUEUE_ALLOC _IO(IOMMUFD_TYPE, 0x8e)
#define IOMMU_VIOMMU_ALLOC _IO(IOMMUFD_TYPE, 0x90)
#define IOMMU_VDEVICE_ALLOC _IO(IOMMUFD_TYPE, 0x91)
#define IOMMU_VEVENTQ_ALLOC _IO(IOMMUFD_TYPE, 0x93)
#define IOMMU_HW_QUEUE_ALLOC _IO(IOMMUFD_TYPE, 0x94)
#define VFIO_IOMMU_MAP_DMA _IO(VFIO_TYPE, VFIO_BASE + 13)

#define MACHINE_MAP_FLAGS 6 /* readable and writeable; an address of the kernel's choice */
#define MACHINE_MAP_FIXED 7
#define MACHINE_CROWD 32 /* threads at most */

/* An ioctl that is issued over and over, while another thread flips the 64 bits (32 if !wide) at
 * offset of its argument between what they are and `other` (0: nothing is changed). */
typedef struct {
    size_t offset;
    bool wide;
    uint64_t other;
    const char *path; /* each attacker opens this file for it, and ends when it has succeeded */
    unsigned threads; /* that issue it; more than one share a processor */
    uint64_t tries;
    unsigned seconds;   /* after which it ends, too */
    unsigned long undo; /* an ioctl that follows each success; 0: none */
    const void *undo_argument;
    size_t undo_size;
} MachineRaceOptions;

typedef struct {
    uint64_t attackers; /* processes: the next one follows when one is killed */
    uint64_t killed;
    uint64_t tries; /* that were answered */
    uint64_t granted;
    uint64_t refused; /* EACCES, EDQUOT, EPERM */
    uint64_t other;
} MachineRace;

typedef struct {
    pid_t pid;
    uint64_t start;
    int channel;
    int peer;    /* the channel's number in the machine */
    int iommufd; /* its number in the machine */
    int device;
    atomic_bool *stop; /* its race is over; both sides see it */
} Machine;

/* Starts one. iommufd is inherited (-1: none); device is the path of a character device, or NULL.
 * With user != 0 it then gives up root. */
void machine_start(Machine *machine, int iommufd, const char *device, uid_t user);
/* Ends it by SIGKILL and waits. */
void machine_kill(Machine *machine);

/* ioctl() there: 0 or more, or a negative errno. The argument comes back. -EPIPE: it is dead. */
int machine_ioctl(Machine *machine, int fd, unsigned long command, void *argument, size_t size);
/* One whose argument is a number. */
int machine_ioctl_value(Machine *machine, int fd, unsigned long command, uint64_t value);
/* The same in a child that the machine forks for it. */
int machine_fork_ioctl(Machine *machine, int fd, unsigned long command, void *argument,
                       size_t size);
/* The same by the system call of 32-bit programs. -ENOSYS: there is none. */
int machine_compat_ioctl(Machine *machine, int fd, unsigned long command, void *argument,
                         size_t size);
/* Memory of its own, present. */
uint64_t machine_memory(Machine *machine, uint64_t size);
int machine_memfd(Machine *machine, uint64_t size);
int machine_open(Machine *machine, const char *path);
/* A descriptor by SCM_RIGHTS: its number there, or -errno (-EACCES: it did not get through). */
int machine_receive(Machine *machine, int fd);
/* Runs a race in children of the machine; or begins one, and waits for its end. Returns false when
 * the machine is gone. One that is stopped ends now, and else by its tries or its seconds. */
void machine_race(Machine *machine, int fd, unsigned long command, const void *argument,
                  size_t size, const MachineRaceOptions *options, MachineRace *ret_race);
void machine_race_begin(Machine *machine, int fd, unsigned long command, const void *argument,
                        size_t size, const MachineRaceOptions *options);
void machine_race_stop(Machine *machine);
bool machine_race_end(Machine *machine, MachineRace *ret_race);

/* Calls on end, for their time: an ioctl, answered by 0 or `error`, and after success another. */
typedef struct {
    int fd; /* -1: nothing but opening and closing the file whose path `argument` is */
    unsigned long command;
    const void *argument;
    size_t size;
    int error;
    unsigned long undo; /* 0: none */
    const void *undo_argument;
    size_t undo_size;
    uint64_t times;
} MachineCalls;
/* The nanoseconds that they take together. Another answer ends the test. */
uint64_t machine_time(Machine *machine, const MachineCalls *calls);

/* Several threads there map and unmap whole ranges of memory, each as often as it comes, over and
 * over, and know all the time how many of them are mapped at least once. */
typedef struct {
    uint32_t ioas;
    uint32_t ranges;
    uint64_t memory;
    uint64_t length; /* of each range; they lie one after the other */
    unsigned threads;
    unsigned times; /* for each thread */
} MachineStorm;
typedef struct {
    uint64_t mapped;  /* how often */
    uint64_t refused; /* EDQUOT */
    uint64_t other;
    uint64_t most; /* ranges mapped at the same time */
} MachineStormed;
/* False: it died. */
bool machine_storm(Machine *machine, const MachineStorm *storm, MachineStormed *ret_stormed);

/* Shorthands on the machine's IOMMUFD. */
int machine_ioas(Machine *machine, uint32_t *ret_id);
int machine_map(Machine *machine, uint32_t ioas, uint64_t address, uint64_t length, uint64_t *iova,
                bool fixed);
int machine_map_file(Machine *machine, uint32_t ioas, int memfd, uint64_t offset, uint64_t length,
                     uint64_t *ret_iova);
int machine_copy(Machine *machine, uint32_t to, uint32_t from, uint64_t iova, uint64_t length,
                 uint64_t *ret_iova);
int machine_unmap(Machine *machine, uint32_t ioas, uint64_t iova, uint64_t length);
int machine_destroy(Machine *machine, uint32_t id);
int machine_hwpt(Machine *machine, uint32_t device, uint32_t parent, uint32_t *ret_id);
int machine_bind(Machine *machine, int device, int iommufd, uint32_t *ret_id);
int machine_attach(Machine *machine, int device, uint32_t page_table);

/* The PCI address of the device whose character device that is, to be freed with g_free(). */
char *device_address(const char *cdev);

/* Pages, from a field of /proc/PID/status, from VmPin there, and of the whole host. */
uint64_t machine_status(pid_t pid, const char *field);
uint64_t machine_pinned(pid_t pid);
uint64_t host_pinned(void);
