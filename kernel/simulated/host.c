/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/simulated/host.h"

#include "kernel/base/cleanup.h"
#include "kernel/host/memfd.h"
#include "kernel/base/process.h"
#include "kernel/simulated/faults.h"
#include "kernel/simulated/guard.h"
#include "kernel/simulated/hardware.h"
#include "kernel/simulated/ioas.h"
#include "kernel/simulated/iommufd.h"
#include "kernel/simulated/ledger-owners.h"
#include "kernel/simulated/ledger.h"
#include "kernel/simulated/objects.h"
#include "kernel/simulated/play.h"
#include "kernel/uapi/iommufd.h"

#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct {
    Host host;
    SimHardware *hardware;
} SimulatedHost;

static unsigned n_hosts;

static SimHardware *host_hardware(Host *host)
{
    return ((SimulatedHost *)host)->hardware;
}

static void simulated_free(Host *host)
{
    SimulatedHost *self = (SimulatedHost *)host;
    SIM_LOCKED;
    if (--n_hosts == 0) {
        sim_iommufd_forget();
        sim_fault_clear();
    }
    sim_hardware_free(self->hardware);
    g_free(self);
}

static int simulated_features(Host *host, unsigned *ret_features)
{
    *ret_features = host_hardware(host)->features & SIM_HOST_FEATURES;
    return 0;
}

static int simulated_iommufd_open(Host *host, HostAccounting mode, int *ret_fd)
{
    SIM_LOCKED;
    if (!(host_hardware(host)->features & HOST_FEATURE_IOMMUFD))
        return -ENOENT;
    return sim_iommufd_create(ret_fd);
}

static int simulated_iommufd_check(Host *host, int fd)
{
    SIM_LOCKED;
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
    SIM_LOCKED;
    SimTable *table;
    SimOwner self;
    int r = sim_iommufd_get(fd, &table);
    if (r == 0)
        r = owner_of_self(&self);
    if (r < 0)
        return r;
    r = sim_guard_make(table, &self, IOMMU_IOAS_ALLOC, 1);
    if (r < 0)
        return r;
    if (!sim_table_has_capacity(table, 1, 0))
        return -ENOMEM;
    *ret_id = sim_ioas_new(table, &self);
    return 0;
}

static int simulated_ioas_iova_ranges(Host *host, int fd, uint32_t ioas, HostIovaRange **ret_ranges,
                                      size_t *ret_n)
{
    SIM_LOCKED;
    SimTable *table;
    int r = sim_iommufd_get(fd, &table);
    return r < 0 ? r : sim_ioas_iova_ranges(table, ioas, ret_ranges, ret_n);
}

static int simulated_ioas_allow_iovas(Host *host, int fd, uint32_t ioas,
                                      const HostIovaRange *ranges, size_t n)
{
    SIM_LOCKED;
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
    SIM_LOCKED;
    SimTable *table;
    SimOwner self;
    struct stat st;
    int r = sim_iommufd_get(fd, &table);
    if (r == 0 && !(host_hardware(host)->features & HOST_FEATURE_MAP_FILE))
        return -EOPNOTSUPP;
    if (r == 0)
        r = memfd_check(memfd, offset, length, access);
    if (r == 0)
        r = access_valid(access) ? owner_of_self(&self) : -EINVAL;
    if (r == 0 && fstat(memfd, &st) < 0)
        r = -errno;
    if (r == 0)
        r = sim_guard_map(table, &self, IOMMU_IOAS_MAP_FILE, st.st_ino, offset, length);
    return r < 0 ? r : sim_ioas_map(table, &self, ioas, st.st_ino, offset, length, iova);
}

static int simulated_ioas_copy(Host *host, int fd, uint32_t dst, uint32_t src, uint64_t src_iova,
                               uint64_t length, unsigned access, uint64_t *iova)
{
    SIM_LOCKED;
    SimTable *table;
    int r = sim_iommufd_get(fd, &table);
    if (r == 0 && !access_valid(access))
        r = -EINVAL;
    return r < 0 ? r : sim_ioas_copy(table, dst, src, src_iova, length, iova);
}

/* Without the lock: others go on meanwhile. */
static void be_slow(SimFault fault)
{
    g_mutex_lock(&sim_lock);
    uint64_t slow = sim_fault_value(fault);
    g_mutex_unlock(&sim_lock);
    g_usleep(slow * 1000);
}

static int simulated_ioas_unmap(Host *host, int fd, uint32_t ioas, uint64_t iova, uint64_t length,
                                uint64_t *ret_unmapped)
{
    be_slow(SIM_FAULT_SLOW_DESTROY);
    SIM_LOCKED;
    SimTable *table;
    int r = sim_iommufd_get(fd, &table);
    return r < 0 ? r : sim_ioas_unmap(table, ioas, iova, length, ret_unmapped);
}

static int simulated_object_destroy(Host *host, int fd, uint32_t id)
{
    be_slow(SIM_FAULT_SLOW_DESTROY);
    SIM_LOCKED;
    SimTable *table;
    int r = sim_fault_take(SIM_FAULT_FAILING_DESTROY) ? -EBUSY : sim_iommufd_get(fd, &table);
    return r < 0 ? r : sim_table_destroy(table, id);
}

static int simulated_devices(Host *host, HostDevice **ret_devices, size_t *ret_n)
{
    SIM_LOCKED;
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
    SIM_LOCKED;
    return sim_hardware_bind(host_hardware(host), address, driver);
}

static int simulated_device_restore(Host *host, const char *address, const char *driver)
{
    SIM_LOCKED;
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
    SIM_LOCKED;
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
    SIM_LOCKED;
    SimTable *table;
    SimOwner owner;
    int r = fd >= 0 ? sim_iommufd_get(fd, &table) : 0;
    if (r == 0)
        r = sim_owner_of(pid, &owner);
    if (r < 0)
        return r;
    if (fd < 0)
        return sim_iommufd_any(visit_has_owner, &owner) ? 0 : -ENXIO;
    /* A process that plays on it counts as holding it; others may really have its descriptor. */
    if (sim_table_has_owner(table, &owner) || pid == getpid())
        return 0;
    return process_holds_file("", pid, fd) == 0 ? 0 : -ENXIO;
}

static int simulated_lock_limit(Host *host, pid_t pid, uint64_t *ret_bytes)
{
    SIM_LOCKED;
    SimOwner process;
    int r = sim_owner_of(pid, &process);
    const SimProcess *entry = r == 0 && sim_ledger ? sim_process(sim_ledger, &process) : NULL;
    if (r < 0 || !entry || entry->lock_limit == 0)
        return r < 0 ? r : process_lock_limit(pid, ret_bytes);
    *ret_bytes = entry->lock_limit;
    return 0;
}

/* A test may not set real ones, and has none of a VMM's. */
static int set_lock_limit(const SimOwner *process, uint64_t bytes)
{
    SimProcess *entry = NULL;
    if (sim_ledger && sim_owner_for(sim_ledger, process) != SIM_OWNER_NONE)
        entry = sim_process(sim_ledger, process);
    if (!entry)
        return -ENOMEM;
    entry->lock_limit = bytes;
    return 0;
}

/* Of the service itself, which the guard does not ask about. */
static int simulated_set_lock_limit(Host *host, pid_t pid, uint64_t bytes)
{
    SIM_LOCKED;
    SimOwner process;
    int r = sim_owner_of(pid, &process);
    return r < 0 ? r : set_lock_limit(&process, bytes);
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
    SIM_LOCKED;
    uint64_t bytes = 0;
    sim_iommufd_refresh();
    sim_iommufd_any(visit_pinned, &bytes);
    *ret_bytes = bytes;
    return 0;
}

static SimLedgerFeatures ledger_features(Host *host)
{
    unsigned features = host_hardware(host)->features;
    return (SimLedgerFeatures){.ledger =
                                   features & SIM_FEATURE_LEDGER && features & HOST_FEATURE_IOMMUFD,
                               .guard = features & SIM_FEATURE_GUARD};
}

static int simulated_ledger_load(Host *host, const LedgerOptions *options, LedgerStatus *ret_status)
{
    return sim_ledger_load(ledger_features(host), options, ret_status);
}

static int simulated_ledger_open(Host *host, const LedgerOptions *options, Ledger **ret_ledger)
{
    return sim_ledger_open(ledger_features(host), options, ret_ledger);
}

/* Nothing to remove: the store is a memfd, which ends with its last descriptor. */
static int simulated_ledger_unload(Host *host, const char *folder)
{
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
    .object_destroy = simulated_object_destroy,
    .devices = simulated_devices,
    .device_bind = simulated_device_bind,
    .device_restore = simulated_device_restore,
    .process_pinned = simulated_process_pinned,
    .process_holds = simulated_process_holds,
    .memory_total = simulated_memory_total,
    .lock_limit = simulated_lock_limit,
    .set_lock_limit = simulated_set_lock_limit,
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
    SIM_LOCKED;
    n_hosts++;
    *ret_host = &host->host;
    return 0;
}

int simulated_host_play(Host *host, pid_t pid, int iommufd, const char *const *devices,
                        size_t n_devices, uint64_t bytes)
{
    SIM_LOCKED;
    SimTable *table;
    int r = sim_iommufd_get(iommufd, &table);
    return r < 0 ? r : sim_play(host_hardware(host), pid, table, devices, n_devices, bytes);
}

int simulated_host_ioctl(Host *host, pid_t pid, int iommufd, const char *name, uint32_t id,
                         uint64_t bytes, uint32_t *ret_id)
{
    SIM_LOCKED;
    SimTable *table;
    int r = sim_iommufd_get(iommufd, &table);
    return r < 0 ? r : sim_play_ioctl(host_hardware(host), pid, table, name, id, bytes, ret_id);
}

int simulated_host_set_lock_limit(Host *host, pid_t pid, uint64_t bytes)
{
    SIM_LOCKED;
    SimOwner process;
    int r = sim_owner_of(pid, &process);
    if (r == 0)
        r = sim_guard_setrlimit(&process, bytes);
    return r < 0 ? r : set_lock_limit(&process, bytes);
}

int simulated_host_set_fault(Host *host, const char *fault, uint64_t value)
{
    SIM_LOCKED;
    return sim_fault_set(fault, value);
}
