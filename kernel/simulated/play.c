/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/simulated/play.h"

#include "kernel/simulated/guard.h"
#include "kernel/simulated/ioas.h"
#include "kernel/simulated/iommufd.h"
#include "kernel/simulated/objects.h"
#include "kernel/uapi/iommufd.h"
#include "kernel/uapi/vfio.h"

#include <errno.h>
#include <string.h>

/* A guest's memory lies below this and from 4 GiB on, as QEMU's machines place it. */
#define LOW_MEMORY UINT64_C(0x80000000)
#define HIGH_MEMORY UINT64_C(0x100000000)
/* Of iommufd's ioctls and VFIO's: ';'. */
#define IOCTL_TYPE 0x3b00

static bool visit_pinned(SimTable *table, void *data)
{
    *(uint64_t *)data += table->pinned;
    return false;
}

/* Whether so many more bytes can be pinned. */
static bool memory_left(const SimHardware *hardware, uint64_t bytes)
{
    for (int round = 0; round < 2; round++) {
        uint64_t pinned = 0;
        sim_iommufd_any(visit_pinned, &pinned);
        if (pinned <= hardware->memory && bytes <= hardware->memory - pinned)
            return true;
        /* What is known to be pinned may belong to IOMMUFDs that were closed. */
        sim_iommufd_refresh();
    }
    return false;
}

static int check_playable(SimHardware *hardware, const char *const *devices, size_t n_devices)
{
    for (size_t i = 0; i < n_devices; i++) {
        SimDevice *device;
        int r = sim_hardware_find(hardware, devices[i], &device);
        if (r < 0)
            return r;
        if (strcmp(device->device.driver, SIM_VFIO_DRIVER) != 0)
            return -ENODEV;
        if (sim_device_bound(device))
            return -EBUSY;
        for (size_t j = 0; j < i; j++)
            if (strcmp(devices[i], devices[j]) == 0)
                return -EBUSY;
    }
    return 0;
}

static int whole_pages(uint64_t bytes, uint64_t *ret_bytes)
{
    if (bytes > UINT64_MAX - SIM_PAGE)
        return -ENOMEM;
    *ret_bytes = (bytes + SIM_PAGE - 1) / SIM_PAGE * SIM_PAGE;
    return 0;
}

/* Its address space: a process has one. */
static uint64_t memory_of(const SimOwner *owner)
{
    return (uint64_t)owner->pid << 40 ^ owner->start_time;
}

/* What the guard says to it, ioctl by ioctl. What it has bound shows whose process it is, also when
 * it then may not map. */
static int ask_guard(SimTable *table, const SimOwner *owner, const char *const *devices,
                     size_t n_devices, uint64_t bytes)
{
    int r = sim_guard_receive(table, owner);
    for (size_t i = 0; r == 0 && i < n_devices; i++)
        r = sim_guard_bind(table, owner, devices[i]);
    if (r == 0)
        r = sim_guard_ioctl(table, owner, IOMMU_IOAS_ALLOC, 0);
    if (r == 0)
        r = sim_guard_make(table, owner, IOMMU_IOAS_ALLOC, (uint32_t)n_devices + 2);
    if (r == 0 && bytes > 0)
        r = sim_guard_map(table, owner, IOMMU_IOAS_MAP, memory_of(owner), 0, bytes);
    return r;
}

int sim_play(SimHardware *hardware, pid_t pid, SimTable *table, const char *const *devices,
             size_t n_devices, uint64_t bytes)
{
    SimOwner owner;
    int r = sim_owner_of(pid, &owner);
    if (r == 0)
        r = check_playable(hardware, devices, n_devices);
    if (r == 0)
        r = whole_pages(bytes, &bytes);
    if (r < 0)
        return r;
    if (!memory_left(hardware, bytes) || n_devices > SIM_OBJECTS_MAX ||
        !sim_table_has_capacity(table, (uint32_t)n_devices + 2, 4))
        return -ENOMEM;
    r = ask_guard(table, &owner, devices, n_devices, bytes);
    if (r < 0)
        return r;

    /* The order of QEMU's ids: the first device, its address space and page table, the others. */
    uint32_t first = n_devices > 0 ? sim_device_new(table, &owner, 0, devices[0]) : 0;
    uint32_t ioas = sim_ioas_new(table, &owner);
    uint32_t hwpt = sim_hwpt_new(table, &owner, ioas);
    if (first != 0)
        sim_device_attach(table, first, hwpt);
    for (size_t i = 1; i < n_devices; i++)
        sim_device_new(table, &owner, hwpt, devices[i]);

    uint64_t low = MIN(bytes, LOW_MEMORY), high = bytes - low;
    uint64_t low_iova = 0, high_iova = HIGH_MEMORY;
    if (low > 0)
        r = sim_ioas_map(table, &owner, ioas, memory_of(&owner), 0, low, &low_iova);
    if (r == 0 && high > 0)
        r = sim_ioas_map(table, &owner, ioas, memory_of(&owner), low, high, &high_iova);
    return r;
}

static int play_map(SimHardware *hardware, SimTable *table, const SimOwner *owner, uint32_t ioas,
                    uint64_t bytes)
{
    uint64_t iova = HOST_ANY_IOVA;
    int r = whole_pages(bytes, &bytes);
    if (r == 0)
        r = sim_guard_map(table, owner, IOMMU_IOAS_MAP, memory_of(owner), 0, bytes);
    if (r == 0 && !memory_left(hardware, bytes))
        r = -ENOMEM;
    return r < 0 ? r : sim_ioas_map(table, owner, ioas, memory_of(owner), 0, bytes, &iova);
}

static int play_reset(SimTable *table, const SimOwner *owner, uint32_t id)
{
    const SimObject *object = id <= table->n_objects ? &table->objects[id] : NULL;
    if (!object || object->type != LEDGER_OBJECT_TYPE_DEVICE)
        return -ENODEV;
    return sim_guard_reset(table, owner, object->address);
}

/* 0: none is called so. */
static uint32_t command_of(const char *name)
{
    for (uint32_t number = 0; number < 256; number++)
        if (strcmp(ledger_ioctl_name(number), name) == 0)
            return IOCTL_TYPE | number;
    return 0;
}

int sim_play_ioctl(SimHardware *hardware, pid_t pid, SimTable *table, const char *name, uint32_t id,
                   uint64_t bytes, uint32_t *ret_id)
{
    SimOwner owner;
    uint64_t unmapped;
    uint32_t command = command_of(name);
    int r = command != 0 ? sim_owner_of(pid, &owner) : -ENOTTY;
    if (r == 0)
        r = sim_guard_receive(table, &owner);
    if (r == 0 && command == VFIO_DEVICE_PCI_HOT_RESET) {
        *ret_id = id;
        return play_reset(table, &owner, id);
    }
    if (r == 0)
        r = sim_guard_ioctl(table, &owner, command, id);
    if (r < 0)
        return r;
    *ret_id = id;
    switch (command) {
    case IOMMU_IOAS_ALLOC:
        r = sim_guard_make(table, &owner, command, 1);
        if (r == 0 && !sim_table_has_capacity(table, 1, 0))
            r = -ENOMEM;
        if (r == 0)
            *ret_id = sim_ioas_new(table, &owner);
        return r;
    case IOMMU_IOAS_MAP:
        return play_map(hardware, table, &owner, id, bytes);
    case IOMMU_IOAS_UNMAP:
        return sim_ioas_unmap(table, id, 0, UINT64_MAX, &unmapped);
    case IOMMU_DESTROY:
        return sim_table_destroy(table, id);
    }
    return -ENOTTY;
}
