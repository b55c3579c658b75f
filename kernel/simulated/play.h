/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What processes do that stand for QEMU: they are real, and their ioctls are not. */
#pragma once

#include "kernel/simulated/hardware.h"
#include "kernel/simulated/table.h"

/* As simulated_host_play() and simulated_host_ioctl(). */
int sim_play(SimHardware *hardware, pid_t pid, SimTable *table, const char *const *devices,
             size_t n_devices, uint64_t bytes);
int sim_play_ioctl(SimHardware *hardware, pid_t pid, SimTable *table, const char *name, uint32_t id,
                   uint64_t bytes, uint32_t *ret_id);
