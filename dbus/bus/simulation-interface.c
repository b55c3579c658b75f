/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* org.iommud1.Simulation: QEMU's part, for tests and for authors of clients without an IOMMU; and
 * what goes wrong in kernels. */
#include "dbus/bus/simulation-interface.h"

#include "dbus/base/errors.h"
#include "dbus/bus/options.h"
#include "dbus/core/tenant.h"
#include "kernel/simulated/host.h"

static void set_error(GError **error, int r, uint32_t pid)
{
    if (r == -ESRCH)
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT, "There is no process %u.",
                    pid);
    else if (r == -EBUSY)
        g_set_error_literal(error, IOMMUD_ERROR, IOMMUD_ERROR_DEVICE_BUSY,
                            "One of the devices is in use already.");
    else if (r == -ENODEV)
        g_set_error_literal(error, IOMMUD_ERROR, IOMMUD_ERROR_NO_SUCH_DEVICE,
                            "One of the devices is not there, or not bound to vfio-pci.");
    else if (r == -EINVAL)
        g_set_error_literal(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                            "One of the devices has no PCI address.");
    else if (r == -EDQUOT)
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_LIMIT_EXCEEDED,
                    "The simulated guard refused process %u the mapping: it is more than its "
                    "tenant has left.",
                    pid);
    else
        error_set_kernel(error, r, "The simulated kernel refused what process %u did", pid);
}

static int answer(sd_bus_message *message, int r, uint32_t pid, sd_bus_error *ret_error)
{
    g_autoptr(GError) error = NULL;
    if (r >= 0)
        return sd_bus_reply_method_return(message, "");
    set_error(&error, r, pid);
    return bus_error_set(ret_error, error);
}

/* The tenant's shared IOMMUFD, opened if it was not; it stays the tenant's. */
static int shared_iommufd(Manager *manager, const char *id, int *ret_fd, GError **error)
{
    Tenant *tenant = manager_get_tenant(manager, id, error);
    if (!tenant || !tenant_need_shared(tenant, error) || !tenant_open(tenant, NULL, error))
        return -EIO;
    *ret_fd = tenant->iommufd;
    return 0;
}

static int play_on(Manager *manager, uint32_t pid, int fd, char **devices, uint64_t bytes)
{
    return pid <= INT32_MAX
               ? simulated_host_play(manager->host, (pid_t)pid, fd, (const char *const *)devices,
                                     g_strv_length(devices), bytes)
               : -ESRCH;
}

/* What is bound and mapped: the end of Play's arguments. */
static int read_played(sd_bus_message *message, char ***ret_devices, uint64_t *ret_bytes)
{
    int r = bus_read_strings(message, ret_devices);
    return r < 0 ? r : sd_bus_message_read(message, "t", ret_bytes);
}

static int play(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    Manager *manager = ((Service *)userdata)->manager;
    g_auto(GStrv) devices = NULL;
    g_autoptr(GError) error = NULL;
    const char *id;
    uint64_t bytes;
    uint32_t pid;
    int fd;
    int r = sd_bus_message_read(message, "us", &pid, &id);
    if (r >= 0)
        r = read_played(message, &devices, &bytes);
    if (r < 0)
        return r;
    if (shared_iommufd(manager, id, &fd, &error) < 0)
        return bus_error_set(ret_error, error);
    return answer(message, play_on(manager, pid, fd, devices, bytes), pid, ret_error);
}

static int play_own(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    g_auto(GStrv) devices = NULL;
    uint64_t bytes;
    uint32_t pid;
    int fd;
    int r = sd_bus_message_read(message, "uh", &pid, &fd);
    if (r >= 0)
        r = read_played(message, &devices, &bytes);
    if (r < 0)
        return r;
    r = play_on(((Service *)userdata)->manager, pid, fd, devices, bytes);
    if (r == -ENOTTY)
        return bus_error_invalid(ret_error, "The descriptor is no IOMMUFD of this host.");
    return answer(message, r, pid, ret_error);
}

static int play_ioctl(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    Manager *manager = ((Service *)userdata)->manager;
    g_autoptr(GError) error = NULL;
    const char *id, *name;
    uint32_t pid, object, made = 0;
    uint64_t bytes;
    int fd;
    int r = sd_bus_message_read(message, "ussut", &pid, &id, &name, &object, &bytes);
    if (r < 0)
        return r;
    if (shared_iommufd(manager, id, &fd, &error) < 0)
        return bus_error_set(ret_error, error);
    r = pid <= INT32_MAX
            ? simulated_host_ioctl(manager->host, (pid_t)pid, fd, name, object, bytes, &made)
            : -ESRCH;
    if (r == -EBUSY || r == -ENODEV || r == -EINVAL) {
        error_set_kernel(&error, r, "The simulated kernel refused %s on object %u", name, object);
        return bus_error_set(ret_error, error);
    }
    return r < 0 ? answer(message, r, pid, ret_error)
                 : sd_bus_reply_method_return(message, "u", made);
}

static int set_lock_limit(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    Manager *manager = ((Service *)userdata)->manager;
    g_autoptr(GError) error = NULL;
    uint32_t pid;
    uint64_t bytes;
    int r = sd_bus_message_read(message, "ut", &pid, &bytes);
    if (r < 0)
        return r;
    r = pid <= INT32_MAX ? simulated_host_set_lock_limit(manager->host, (pid_t)pid, bytes) : -ESRCH;
    return answer(message, r, pid, ret_error);
}

static int get_lock_limit(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    Host *host = ((Service *)userdata)->manager->host;
    uint64_t bytes = 0;
    uint32_t pid;
    int r = sd_bus_message_read(message, "u", &pid);
    if (r < 0)
        return r;
    r = pid <= INT32_MAX ? host->ops->lock_limit(host, (pid_t)pid, &bytes) : -ESRCH;
    return r < 0 ? answer(message, r, pid, ret_error)
                 : sd_bus_reply_method_return(message, "t", bytes);
}

static int set_fault(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    Manager *manager = ((Service *)userdata)->manager;
    const char *fault;
    uint64_t value;
    int r = sd_bus_message_read(message, "st", &fault, &value);
    if (r < 0)
        return r;
    if (simulated_host_set_fault(manager->host, fault, value) < 0)
        return bus_error_invalid(ret_error, "There is no fault \"%s\".", fault);
    return sd_bus_reply_method_return(message, "");
}

static const sd_bus_vtable vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD_WITH_ARGS("Play", SD_BUS_ARGS("u", pid, "s", tenant, "as", devices, "t", bytes),
                            SD_BUS_NO_RESULT, play, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("PlayOwn",
                            SD_BUS_ARGS("u", pid, "h", iommufd, "as", devices, "t", bytes),
                            SD_BUS_NO_RESULT, play_own, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Ioctl",
                            SD_BUS_ARGS("u", pid, "s", tenant, "s", ioctl, "u", object, "t", bytes),
                            SD_BUS_RESULT("u", object), play_ioctl, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("GetLockLimit", SD_BUS_ARGS("u", pid), SD_BUS_RESULT("t", bytes),
                            get_lock_limit, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("SetLockLimit", SD_BUS_ARGS("u", pid, "t", bytes), SD_BUS_NO_RESULT,
                            set_lock_limit, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("SetFault", SD_BUS_ARGS("s", fault, "t", value), SD_BUS_NO_RESULT,
                            set_fault, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_VTABLE_END,
};

int bus_simulation_register(Service *service)
{
    if (!service->manager->simulated)
        return 0;
    return sd_bus_add_object_vtable(service->manager->bus, NULL, BUS_PATH, BUS_INTERFACE_SIMULATION,
                                    vtable, service);
}
