/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/bus/manager-interface.h"

#include "config.h"
#include "dbus/base/errors.h"
#include "dbus/bus/describe.h"
#include "dbus/bus/machine-release.h"
#include "dbus/bus/options.h"
#include "dbus/core/machine-admit.h"
#include "dbus/core/machine-start.h"
#include "dbus/core/tenant-config.h"
#include "dbus/core/usage.h"
#include "kernel/base/cleanup.h"
#include "policy/admission.h"

#include <fcntl.h>
#include <string.h>

static Manager *manager_of(void *userdata)
{
    return ((Service *)userdata)->manager;
}

static int reply_path(sd_bus_message *message, char *path)
{
    g_autofree char *owned = path;
    return sd_bus_reply_method_return(message, "o", owned);
}

/* ---- tenants ---- */

static int create_tenant(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    static const BusOption options[] = {
        {"LimitBytes", "t", "bytes", offsetof(TenantConfig, limit)},
        {"Isolation", "s", NULL, offsetof(TenantConfig, isolation), &isolation_table},
        {"AccountingMode", "s", NULL, offsetof(TenantConfig, accounting), &accounting_table},
        {"Count", "s", NULL, offsetof(TenantConfig, count), &count_mode_table},
        {"Devices", "as", "device patterns", offsetof(TenantConfig, devices)},
        {NULL},
    };
    const char *id;
    int r = sd_bus_message_read(message, "s", &id);
    if (r < 0)
        return r;
    g_autoptr(TenantConfig) config = tenant_config_new(id);
    r = bus_options_read(message, options, config, ret_error);
    if (r < 0)
        return r;
    g_autoptr(GError) error = NULL;
    const Tenant *tenant = tenant_create(manager_of(userdata), g_steal_pointer(&config), &error);
    if (!tenant)
        return bus_error_set(ret_error, error);
    return reply_path(message, bus_tenant_path(tenant_id(tenant)));
}

/* The tenant that the call's only argument names; not the default one. */
static int read_tenant(sd_bus_message *message, Manager *manager, Tenant **ret_tenant,
                       sd_bus_error *ret_error)
{
    const char *id;
    g_autoptr(GError) error = NULL;
    int r = sd_bus_message_read(message, "s", &id);
    if (r < 0)
        return r;
    *ret_tenant = (Tenant *)registry_get_tenant(manager->registry, id, &error);
    return *ret_tenant ? 0 : bus_error_set(ret_error, error);
}

static int delete_tenant(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    Tenant *tenant;
    g_autoptr(GError) error = NULL;
    int r = read_tenant(message, manager_of(userdata), &tenant, ret_error);
    if (r < 0)
        return r;
    if (!tenant_delete(tenant, &error))
        return bus_error_set(ret_error, error);
    return sd_bus_reply_method_return(message, "");
}

static int get_tenant(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    Tenant *tenant;
    int r = read_tenant(message, manager_of(userdata), &tenant, ret_error);
    return r < 0 ? r : reply_path(message, bus_tenant_path(tenant_id(tenant)));
}

static int append_tenant(sd_bus_message *reply, const Tenant *tenant)
{
    const Budget *budget = tenant->policy.budget;
    g_autofree char *path = bus_tenant_path(tenant_id(tenant));
    Usage usage;
    tenant_usage(tenant, &usage);
    return sd_bus_message_append(reply, "(stttto)", tenant_id(tenant), budget_limit(budget),
                                 budget_reserved(budget), usage.pinned, usage.orphaned, path);
}

static int list_tenants(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    g_autoptr(sd_bus_message) reply = NULL;
    int r = sd_bus_message_new_method_return(message, &reply);
    if (r >= 0)
        r = sd_bus_message_open_container(reply, 'a', "(stttto)");
    g_autoptr(GPtrArray) tenants = registry_tenants(manager_of(userdata)->registry);
    for (unsigned i = 0; r >= 0 && i < tenants->len; i++)
        r = append_tenant(reply, g_ptr_array_index(tenants, i));
    if (r >= 0)
        r = sd_bus_message_close_container(reply);
    return r < 0 ? r : sd_bus_message_send(reply);
}

/* ---- machines ---- */

static void admit_again(void *userdata, sd_bus_message *message);

/* 1: answered, or kept until the last run of the machine is reaped. */
static int admit_machine(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    static const BusOption options[] = {
        {"Iommufd", "b", "a boolean", offsetof(AdmissionRequest, iommufd)},
        {"UniqueBytes", "t", "bytes", offsetof(AdmissionRequest, unique_bytes)},
        {"IommufdId", "t", "an id from OpenWithId()", offsetof(AdmissionRequest, iommufd_id)},
        {"FollowLimit", "b", "a boolean", offsetof(AdmissionRequest, follows_limit)},
        {NULL},
    };
    Service *service = userdata;
    AdmissionRequest request = {.iommufd = true};
    g_autofree char *uuid = NULL;
    g_auto(GStrv) devices = NULL;
    g_autoptr(GError) error = NULL;
    int r = bus_read_uuid(message, &uuid, ret_error);
    if (r >= 0)
        r = sd_bus_message_read(message, "sst", &request.name, &request.tenant, &request.bytes);
    if (r >= 0)
        r = bus_read_devices(message, &devices, ret_error);
    if (r >= 0)
        r = bus_options_read(message, options, &request, ret_error);
    if (r < 0)
        return r;
    request.uuid = uuid;
    request.devices = (const char *const *)devices;
    switch (machine_admit(service->manager, &request, &error)) {
    case ADMISSION_REFUSED:
        return bus_error_set(ret_error, error);
    case ADMISSION_WAIT:
        r = pending_call_add(service->pending, uuid, message, admit_again, service);
        return r < 0 ? r : 1;
    case ADMISSION_DONE:
        break;
    }
    return reply_path(message, bus_machine_path(uuid));
}

static void admit_again(void *userdata, sd_bus_message *message)
{
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
    int r = admit_machine(message, userdata, &error);
    if (r < 0)
        (void)sd_bus_reply_method_errno(message, r, &error);
}

/* A pidfd that the caller of this function owns, from the variant. */
static int read_pidfd(sd_bus_message *message, int *ret_pidfd)
{
    int fd;
    int r = sd_bus_message_read(message, "v", "h", &fd);
    if (r < 0)
        return r;
    *ret_pidfd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return *ret_pidfd < 0 ? -errno : 0;
}

static int read_leader_by_pid(sd_bus_message *message, PidRef *ret_leader, sd_bus_error *ret_error)
{
    uint32_t pid;
    int r = sd_bus_message_read(message, "v", "u", &pid);
    if (r < 0)
        return r;
    r = pid <= INT32_MAX ? pidref_from_pid((pid_t)pid, 0, ret_leader) : -ESRCH;
    return r < 0 ? bus_error_invalid(ret_error, "There is no process %u: %s.", pid, g_strerror(-r))
                 : 0;
}

/* Whoever is to lead machine, from the variant. */
static int read_leader(sd_bus_message *message, const Machine *machine, PidRef *ret_leader,
                       sd_bus_error *ret_error)
{
    const char *contents;
    int pidfd;
    int r = sd_bus_message_peek_type(message, NULL, &contents);
    if (r < 0)
        return r;
    if (strcmp(contents, "u") == 0)
        return read_leader_by_pid(message, ret_leader, ret_error);
    if (strcmp(contents, "h") != 0)
        return bus_error_invalid(
            ret_error, "The leader is a pid (u) or a pidfd (h), not of type %s.", contents);
    r = read_pidfd(message, &pidfd);
    if (r < 0)
        return r;
    r = pidref_from_pidfd(pidfd, ret_leader);
    return r < 0 ? bus_error_invalid(ret_error,
                                     r == -ESRCH
                                         ? "The leader of machine %s (%s) has exited already."
                                         : "What was given as leader of machine %s (%s) is not a "
                                           "pidfd.",
                                     machine->policy.name, machine_uuid(machine))
                 : 0;
}

/* The machine that the call's next argument names. */
static int read_machine(sd_bus_message *message, void *userdata, Machine **ret_machine,
                        sd_bus_error *ret_error)
{
    g_autofree char *uuid = NULL;
    g_autoptr(GError) error = NULL;
    int r = bus_read_uuid(message, &uuid, ret_error);
    if (r < 0)
        return r;
    *ret_machine = manager_get_machine(manager_of(userdata), uuid, &error);
    return *ret_machine ? 0 : bus_error_set(ret_error, error);
}

static int start_machine(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    Machine *machine;
    autopidref PidRef leader = PIDREF_NULL;
    g_autoptr(GError) error = NULL;
    int r = read_machine(message, userdata, &machine, ret_error);
    if (r >= 0)
        r = read_leader(message, machine, &leader, ret_error);
    if (r < 0)
        return r;
    if (!machine_start(machine, pidref_take(&leader), &error))
        return bus_error_set(ret_error, error);
    return sd_bus_reply_method_return(message, "");
}

static int release_machine(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    Machine *machine;
    const char *reason;
    int r = read_machine(message, userdata, &machine, ret_error);
    if (r >= 0)
        r = sd_bus_message_read(message, "s", &reason);
    return r < 0 ? r : bus_release_machine(userdata, machine, reason, message, ret_error);
}

static int get_machine(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    Machine *machine;
    int r = read_machine(message, userdata, &machine, ret_error);
    return r < 0 ? r : reply_path(message, bus_machine_path(machine_uuid(machine)));
}

static int append_machine(sd_bus_message *reply, const Machine *machine)
{
    const MachinePolicy *policy = &machine->policy;
    g_autofree char *path = bus_machine_path(policy->uuid);
    Usage usage;
    machine_usage(machine, &usage);
    return sd_bus_message_append(reply, "(sssstttuo)", policy->uuid, policy->name,
                                 policy->tenant->config->id, machine_state_to_string(policy->state),
                                 charge_bytes(policy->charge), usage.pinned, usage.orphaned,
                                 (uint32_t)machine->leader.pid, path);
}

static int list_machines(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    g_autoptr(sd_bus_message) reply = NULL;
    int r = sd_bus_message_new_method_return(message, &reply);
    if (r >= 0)
        r = sd_bus_message_open_container(reply, 'a', "(sssstttuo)");
    g_autoptr(GPtrArray) machines = registry_machines(manager_of(userdata)->registry);
    for (unsigned i = 0; r >= 0 && i < machines->len; i++)
        r = append_machine(reply, g_ptr_array_index(machines, i));
    if (r >= 0)
        r = sd_bus_message_close_container(reply);
    return r < 0 ? r : sd_bus_message_send(reply);
}

/* ---- devices ---- */

static int get_device(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    g_autofree char *address = NULL;
    g_autoptr(GError) error = NULL;
    int r = bus_read_device(message, &address, ret_error);
    if (r < 0)
        return r;
    const HostDevice *device = host_devices_find(manager_of(userdata)->devices, address, &error);
    if (!device)
        return bus_error_set(ret_error, error);
    return reply_path(message, bus_device_path(device->address));
}

static int append_device(sd_bus_message *reply, Manager *manager, const HostDevice *device,
                         const HostDevice *devices, size_t n)
{
    const MachinePolicy *holder = registry_device_holder(manager->registry, device->address);
    g_autofree char *reason = NULL;
    bool assignable = registry_device_assignable(manager->registry, device, devices, n, &reason);
    g_autofree char *description = g_strdup_printf("%04x:%04x class %06x", device->vendor,
                                                   device->product, device->class_code);
    g_autofree char *path = bus_device_path(device->address);
    return sd_bus_message_append(reply, "(sisssbsso)", device->address, device->group,
                                 device->driver, holder ? holder->tenant->config->id : "",
                                 holder ? holder->uuid : "", (int)assignable, reason ? reason : "",
                                 description, path);
}

static int list_devices(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    Manager *manager = manager_of(userdata);
    const HostDevice *devices;
    size_t n;
    g_autoptr(GError) error = NULL;
    g_autoptr(sd_bus_message) reply = NULL;
    if (!host_devices_list(manager->devices, &devices, &n, &error))
        return bus_error_set(ret_error, error);
    int r = sd_bus_message_new_method_return(message, &reply);
    if (r >= 0)
        r = sd_bus_message_open_container(reply, 'a', "(sisssbsso)");
    for (size_t i = 0; r >= 0 && i < n; i++)
        r = append_device(reply, manager, &devices[i], devices, n);
    if (r >= 0)
        r = sd_bus_message_close_container(reply);
    return r < 0 ? r : sd_bus_message_send(reply);
}

/* ---- the service ---- */

static int reload(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    g_autoptr(GError) error = NULL;
    if (!manager_reload(manager_of(userdata), &error))
        return bus_error_set(ret_error, error);
    return sd_bus_reply_method_return(message, "");
}

static int describe(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    g_autofree char *text = describe_host(manager_of(userdata));
    return sd_bus_reply_method_return(message, "s", text);
}

static int get_number(sd_bus *bus, const char *path, const char *interface, const char *property,
                      sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    Manager *manager = manager_of(userdata);
    Accounting *accounting = manager->accounting;
    const Budget *budget = registry_host_budget(manager->registry);
    uint64_t value = g_str_equal(property, "HostBudgetBytes") ? budget_limit(budget)
                     : g_str_equal(property, "ReservedBytes") ? budget_reserved(budget)
                     : g_str_equal(property, "DriftBytes") ? accounting_corrected_bytes(accounting)
                     : g_str_equal(property, "UntrackedEvents")
                         ? accounting_untracked(accounting)
                         : accounting_unknown_ioctls(accounting);
    return sd_bus_message_append(reply, "t", value);
}

static int get_usage(sd_bus *bus, const char *path, const char *interface, const char *property,
                     sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    Usage usage;
    manager_usage(manager_of(userdata), &usage);
    return bus_append_usage(reply, property, &usage);
}

/* What the whole host has, and what its kernel has pinned for anybody. */
static int get_memory(sd_bus *bus, const char *path, const char *interface, const char *property,
                      sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    Host *host = manager_of(userdata)->host;
    uint64_t bytes = 0;
    if (g_str_equal(property, "MemoryBytes"))
        (void)host->ops->memory_total(host, &bytes);
    else
        (void)host->ops->memory_pinned(host, &bytes);
    return sd_bus_message_append(reply, "t", bytes);
}

static int get_require_guard(sd_bus *bus, const char *path, const char *interface,
                             const char *property, sd_bus_message *reply, void *userdata,
                             sd_bus_error *ret_error)
{
    const Accounting *accounting = manager_of(userdata)->accounting;
    return sd_bus_message_append(reply, "b", (int)accounting_requires_guard(accounting));
}

static int get_text(sd_bus *bus, const char *path, const char *interface, const char *property,
                    sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    Manager *manager = manager_of(userdata);
    const Accounting *accounting = manager->accounting;
    const char *tenant = registry_default_tenant(manager->registry);
    const char *value = g_str_equal(property, "Version")       ? VERSION
                        : g_str_equal(property, "GuardState")  ? accounting_guard_state(accounting)
                        : g_str_equal(property, "GuardReason") ? accounting_guard_reason(accounting)
                        : g_str_equal(property, "LedgerState") ? accounting_ledger_state(accounting)
                        : g_str_equal(property, "LedgerReason")
                            ? accounting_ledger_reason(accounting)
                        : tenant ? tenant
                                 : "";
    return sd_bus_message_append(reply, "s", value);
}

static int get_features(sd_bus *bus, const char *path, const char *interface, const char *property,
                        sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    g_auto(GStrv) features = describe_features(manager_of(userdata));
    return bus_append_strings(reply, (const char *const *)features);
}

/* access.c says who may call what. */
static const sd_bus_vtable vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD_WITH_ARGS("CreateTenant", SD_BUS_ARGS("s", id, "a{sv}", options),
                            SD_BUS_RESULT("o", tenant), create_tenant, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("DeleteTenant", SD_BUS_ARGS("s", id), SD_BUS_NO_RESULT, delete_tenant,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("GetTenant", SD_BUS_ARGS("s", id), SD_BUS_RESULT("o", tenant),
                            get_tenant, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("ListTenants", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(stttto)", tenants),
                            list_tenants, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS(
        "AdmitMachine",
        SD_BUS_ARGS("s", uuid, "s", name, "s", tenant, "t", bytes, "as", devices, "a{sv}", options),
        SD_BUS_RESULT("o", machine), admit_machine, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("StartMachine", SD_BUS_ARGS("s", uuid, "v", leader), SD_BUS_NO_RESULT,
                            start_machine, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("ReleaseMachine", SD_BUS_ARGS("s", uuid, "s", reason), SD_BUS_NO_RESULT,
                            release_machine, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("GetMachine", SD_BUS_ARGS("s", uuid), SD_BUS_RESULT("o", machine),
                            get_machine, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("ListMachines", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(sssstttuo)", machines),
                            list_machines, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("GetDevice", SD_BUS_ARGS("s", address), SD_BUS_RESULT("o", device),
                            get_device, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("ListDevices", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(sisssbsso)", devices),
                            list_devices, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Reload", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, reload,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Describe", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", json), describe,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_PROPERTY("Version", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_CONST),
    SD_BUS_PROPERTY("MemoryBytes", "t", get_memory, 0, SD_BUS_VTABLE_PROPERTY_CONST),
    SD_BUS_PROPERTY("KernelPinnedBytes", "t", get_memory, 0, 0),
    SD_BUS_PROPERTY("HostBudgetBytes", "t", get_number, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_PROPERTY("ReservedBytes", "t", get_number, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_PROPERTY("PinnedBytes", "t", get_usage, 0, 0),
    SD_BUS_PROPERTY("OrphanedBytes", "t", get_usage, 0, 0),
    SD_BUS_PROPERTY("DriftBytes", "t", get_number, 0, 0),
    SD_BUS_PROPERTY("UntrackedEvents", "t", get_number, 0, 0),
    SD_BUS_PROPERTY("UnknownIoctls", "t", get_number, 0, 0),
    SD_BUS_PROPERTY("Features", "as", get_features, 0, 0),
    SD_BUS_PROPERTY("GuardState", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_CONST),
    SD_BUS_PROPERTY("GuardReason", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_CONST),
    SD_BUS_PROPERTY("RequireGuard", "b", get_require_guard, 0, SD_BUS_VTABLE_PROPERTY_CONST),
    SD_BUS_PROPERTY("LedgerState", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_CONST),
    SD_BUS_PROPERTY("LedgerReason", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_CONST),
    SD_BUS_PROPERTY("DefaultTenant", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_SIGNAL_WITH_ARGS("TenantNew", SD_BUS_ARGS("s", id, "o", tenant), 0),
    SD_BUS_SIGNAL_WITH_ARGS("TenantRemoved", SD_BUS_ARGS("s", id, "o", tenant), 0),
    SD_BUS_SIGNAL_WITH_ARGS("MachineNew", SD_BUS_ARGS("s", uuid, "o", machine), 0),
    SD_BUS_SIGNAL_WITH_ARGS("MachineRemoved", SD_BUS_ARGS("s", uuid, "o", machine), 0),
    SD_BUS_SIGNAL_WITH_ARGS(
        "LimitExceeded",
        SD_BUS_ARGS("s", tenant, "s", uuid, "t", requested, "t", left, "a{sv}", details), 0),
    SD_BUS_SIGNAL_WITH_ARGS(
        "Refused", SD_BUS_ARGS("s", tenant, "s", uuid, "s", ioctl, "s", error, "a{sv}", details),
        0),
    SD_BUS_SIGNAL_WITH_ARGS("Reaped", SD_BUS_ARGS("s", tenant, "s", uuid, "u", objects, "t", bytes),
                            0),
    SD_BUS_VTABLE_END,
};

int bus_manager_register(Service *service)
{
    return sd_bus_add_object_vtable(service->manager->bus, NULL, BUS_PATH, BUS_INTERFACE_MANAGER,
                                    vtable, service);
}
