/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/simulated/host.h"

#include "kernel/base/cleanup.h"
#include "kernel/host/memfd.h"
#include "kernel/base/process.h"
#include "kernel/simulated/hardware.h"
#include "kernel/simulated/ioas.h"
#include "kernel/simulated/ledger.h"

#include <errno.h>
#include <glib.h>
#include <string.h>

/* A guest's memory lies below this and from 4 GiB on, as QEMU's machines place it. */
#define LOW_MEMORY UINT64_C(0x80000000)
#define HIGH_MEMORY UINT64_C(0x100000000)
#define SIM_PAGE UINT64_C(4096)

typedef struct {
    Host host;
    SimHardware *hardware;
} SimulatedHost;

/* Protects all simulated hosts of the process and the IOMMUFDs they share. */
static GMutex simulation;
static unsigned n_hosts;

#define SIMULATION_LOCKED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&simulation)

static SimHardware *host_hardware(Host *host)
{
    return ((SimulatedHost *)host)->hardware;
}

static void simulated_free(Host *host)
{
    SimulatedHost *self = (SimulatedHost *)host;
    SIMULATION_LOCKED;
    if (--n_hosts == 0)
        sim_iommufd_forget();
    sim_hardware_free(self->hardware);
    g_free(self);
}

static int simulated_features(Host *host, unsigned *ret_features)
{
    *ret_features = host_hardware(host)->features;
    return 0;
}

static int simulated_iommufd_open(Host *host, HostAccounting mode, int *ret_fd)
{
    SIMULATION_LOCKED;
    if (!(host_hardware(host)->features & HOST_FEATURE_IOMMUFD))
        return -ENOENT;
    return sim_iommufd_create(mode, ret_fd);
}

static int simulated_iommufd_check(Host *host, int fd)
{
    SIMULATION_LOCKED;
    SimTable *table;
    return sim_iommufd_get(fd, &table);
}

/* This process, which owns what it allocates itself. Looked up once, and again after fork(). */
static int owner_of_self(SimOwner *ret_owner)
{
    static SimOwner self;
    int r = self.pid == getpid() ? 0 : sim_owner_of(getpid(), &self);
    if (r == 0)
        *ret_owner = self;
    return r;
}

static int simulated_ioas_alloc(Host *host, int fd, uint32_t *ret_id)
{
    SIMULATION_LOCKED;
    SimTable *table;
    SimOwner self;
    int r = sim_iommufd_get(fd, &table);
    if (r == 0)
        r = owner_of_self(&self);
    if (r < 0)
        return r;
    if (!sim_table_has_room(table, 1, 0))
        return -ENOMEM;
    *ret_id = sim_ioas_new(table, &self);
    return 0;
}

static int simulated_ioas_iova_ranges(Host *host, int fd, uint32_t ioas, HostIovaRange **ret_ranges,
                                      size_t *ret_n)
{
    SIMULATION_LOCKED;
    SimTable *table;
    int r = sim_iommufd_get(fd, &table);
    return r < 0 ? r : sim_ioas_iova_ranges(table, ioas, ret_ranges, ret_n);
}

static int simulated_ioas_allow_iovas(Host *host, int fd, uint32_t ioas,
                                      const HostIovaRange *ranges, size_t n)
{
    SIMULATION_LOCKED;
    SimTable *table;
    int r = sim_iommufd_get(fd, &table);
    return r < 0 ? r : sim_ioas_allow_iovas(table, ioas, ranges, n);
}

static bool access_valid(unsigned access)
{
    return (access & (HOST_ACCESS_READ | HOST_ACCESS_WRITE)) != 0;
}

static int simulated_ioas_map_file(Host *host, int fd, uint32_t ioas, int memfd, uint64_t offset,
                                   uint64_t length, unsigned access, uint64_t *iova)
{
    SIMULATION_LOCKED;
    SimTable *table;
    SimOwner self;
    int r = sim_iommufd_get(fd, &table);
    if (r == 0 && !(host_hardware(host)->features & HOST_FEATURE_MAP_FILE))
        return -EOPNOTSUPP;
    if (r == 0)
        r = memfd_check(memfd, offset, length, access);
    if (r == 0)
        r = access_valid(access) ? owner_of_self(&self) : -EINVAL;
    return r < 0 ? r : sim_ioas_map(table, &self, ioas, offset, length, iova);
}

static int simulated_ioas_copy(Host *host, int fd, uint32_t dst, uint32_t src, uint64_t src_iova,
                               uint64_t length, unsigned access, uint64_t *iova)
{
    SIMULATION_LOCKED;
    SimTable *table;
    int r = sim_iommufd_get(fd, &table);
    if (r == 0 && !access_valid(access))
        r = -EINVAL;
    return r < 0 ? r : sim_ioas_copy(table, dst, src, src_iova, length, iova);
}

static int simulated_ioas_unmap(Host *host, int fd, uint32_t ioas, uint64_t iova, uint64_t length,
                                uint64_t *ret_unmapped)
{
    SIMULATION_LOCKED;
    SimTable *table;
    int r = sim_iommufd_get(fd, &table);
    return r < 0 ? r : sim_ioas_unmap(table, ioas, iova, length, ret_unmapped);
}

static int simulated_objects(Host *host, int fd, HostObject **ret_objects, size_t *ret_n)
{
    SIMULATION_LOCKED;
    SimTable *table;
    int r = sim_iommufd_get(fd, &table);
    if (r == 0)
        sim_table_objects(table, ret_objects, ret_n);
    return r;
}

static int simulated_object_destroy(Host *host, int fd, uint32_t id)
{
    SIMULATION_LOCKED;
    SimTable *table;
    int r = sim_iommufd_get(fd, &table);
    return r < 0 ? r : sim_table_destroy(table, id);
}

static int simulated_devices(Host *host, HostDevice **ret_devices, size_t *ret_n)
{
    SIMULATION_LOCKED;
    SimHardware *hardware = host_hardware(host);
    HostDevice *devices = g_new(HostDevice, hardware->devices->len);
    for (guint i = 0; i < hardware->devices->len; i++) {
        SimDevice *device = &g_array_index(hardware->devices, SimDevice, i);
        sim_device_settle(hardware, device);
        devices[i] = device->device;
    }
    *ret_devices = devices;
    *ret_n = hardware->devices->len;
    return 0;
}

static int simulated_device_bind(Host *host, const char *address, const char *driver)
{
    SIMULATION_LOCKED;
    return sim_hardware_bind(host_hardware(host), address, driver);
}

static int simulated_device_restore(Host *host, const char *address, const char *driver)
{
    SIMULATION_LOCKED;
    return sim_hardware_restore(host_hardware(host), address, driver);
}

typedef struct {
    SimOwner owner;
    uint64_t bytes;
} OwnerPins;

static bool visit_owner_pins(SimTable *table, void *data)
{
    OwnerPins *pins = data;
    pins->bytes += sim_table_pinned_by(table, &pins->owner);
    return false;
}

static int simulated_process_pinned(Host *host, pid_t pid, uint64_t *ret_bytes)
{
    SIMULATION_LOCKED;
    OwnerPins pins = {.bytes = 0};
    int r = sim_owner_of(pid, &pins.owner);
    if (r < 0)
        return r;
    sim_iommufd_any(visit_owner_pins, &pins);
    *ret_bytes = pins.bytes;
    return 0;
}

static bool visit_has_owner(SimTable *table, void *data)
{
    return sim_table_has_owner(table, data);
}

static int simulated_process_holds(Host *host, pid_t pid, int fd)
{
    SIMULATION_LOCKED;
    SimTable *table;
    SimOwner owner;
    int r = fd >= 0 ? sim_iommufd_get(fd, &table) : 0;
    if (r == 0)
        r = sim_owner_of(pid, &owner);
    if (r < 0)
        return r;
    if (fd < 0)
        return sim_iommufd_any(visit_has_owner, &owner) ? 0 : -ENXIO;
    /* Who plays holds it by word of mouth; others may hold the memfd indeed. */
    if (sim_table_has_owner(table, &owner) || pid == getpid())
        return 0;
    return process_holds_file("", pid, fd) == 0 ? 0 : -ENXIO;
}

static int simulated_memory_total(Host *host, uint64_t *ret_bytes)
{
    *ret_bytes = host_hardware(host)->memory;
    return 0;
}

static bool visit_pinned(SimTable *table, void *data)
{
    *(uint64_t *)data += table->pinned;
    return false;
}

static int simulated_memory_pinned(Host *host, uint64_t *ret_bytes)
{
    SIMULATION_LOCKED;
    uint64_t bytes = 0;
    sim_iommufd_refresh();
    sim_iommufd_any(visit_pinned, &bytes);
    *ret_bytes = bytes;
    return 0;
}

static const HostOps simulated_ops = {
    .name = "simulated",
    .free = simulated_free,
    .features = simulated_features,
    .iommufd_open = simulated_iommufd_open,
    .iommufd_check = simulated_iommufd_check,
    .ioas_alloc = simulated_ioas_alloc,
    .ioas_iova_ranges = simulated_ioas_iova_ranges,
    .ioas_allow_iovas = simulated_ioas_allow_iovas,
    .ioas_map_file = simulated_ioas_map_file,
    .ioas_copy = simulated_ioas_copy,
    .ioas_unmap = simulated_ioas_unmap,
    .objects = simulated_objects,
    .object_destroy = simulated_object_destroy,
    .devices = simulated_devices,
    .device_bind = simulated_device_bind,
    .device_restore = simulated_device_restore,
    .process_pinned = simulated_process_pinned,
    .process_holds = simulated_process_holds,
    .memory_total = simulated_memory_total,
    .memory_pinned = simulated_memory_pinned,
    .ledger_load = simulated_ledger_load,
    .ledger_open = simulated_ledger_open,
    .ledger_unload = simulated_ledger_unload,
};

int simulated_host_new(const char *path, Host **ret_host, char **ret_error)
{
    g_autoptr(SimHardware) hardware = NULL;
    int r = sim_hardware_read(path, &hardware, ret_error);
    if (r < 0)
        return r;
    SimulatedHost *host = g_new0(SimulatedHost, 1);
    host->host.ops = &simulated_ops;
    host->hardware = g_steal_pointer(&hardware);
    SIMULATION_LOCKED;
    n_hosts++;
    *ret_host = &host->host;
    return 0;
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

int simulated_host_play(Host *host, pid_t pid, int iommufd, const char *const *devices,
                        size_t n_devices, uint64_t bytes)
{
    SIMULATION_LOCKED;
    SimHardware *hardware = host_hardware(host);
    SimTable *table;
    SimOwner owner;
    int r = sim_iommufd_get(iommufd, &table);
    if (r == 0)
        r = sim_owner_of(pid, &owner);
    if (r == 0)
        r = check_playable(hardware, devices, n_devices);
    if (r < 0)
        return r;
    if (bytes > UINT64_MAX - SIM_PAGE)
        return -ENOMEM;
    bytes = (bytes + SIM_PAGE - 1) / SIM_PAGE * SIM_PAGE;
    if (!memory_left(hardware, bytes) || n_devices > SIM_OBJECTS_MAX ||
        !sim_table_has_room(table, (uint32_t)n_devices + 2, 4))
        return -ENOMEM;

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
        r = sim_ioas_map(table, &owner, ioas, 0, low, &low_iova);
    if (r == 0 && high > 0)
        r = sim_ioas_map(table, &owner, ioas, 0, high, &high_iova);
    return r;
}
