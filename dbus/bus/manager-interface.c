/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* org.iommud1.Manager */
#include "config.h"
#include "dbus/core/machine-admit.h"
#include "dbus/accounting/accounting.h"
#include "dbus/base/errors.h"
#include "dbus/bus/options.h"
#include "dbus/bus/bus.h"
#include "dbus/bus/describe.h"
#include "dbus/core/machine.h"
#include "dbus/core/machine-release.h"
#include "dbus/core/tenant.h"
#include "dbus/bus/pending-call.h"
#include "kernel/base/cleanup.h"
#include "kernel/base/process.h"

#include <fcntl.h>
#include <string.h>

/* ---- tenants ---- */

#define TENANT(field) offsetof(TenantConfig, field)
static const BusOption tenant_options[] = {
    {"LimitBytes", "t", "bytes", TENANT(limit)},
    {"Isolation", "s", NULL, TENANT(isolation), &isolation_table},
    {"AccountingMode", "s", NULL, TENANT(accounting), &accounting_table},
    {"Count", "s", NULL, TENANT(count), &count_mode_table},
    {"Devices", "as", "device patterns", TENANT(devices)},
    {NULL},
};

static int create_tenant(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    const char *id;
    int r = sd_bus_message_read(message, "s", &id);
    if (r < 0)
        return r;
    g_autoptr(TenantConfig) config = tenant_config_new(id);
    r = bus_options_read(message, tenant_options, config, ret_error);
    if (r < 0)
        return r;
    g_autoptr(GError) error = NULL;
    const TenantLife *life = manager_create_tenant(userdata, g_steal_pointer(&config), &error);
    if (!life)
        return bus_error_set(ret_error, error);
    g_autofree char *path = bus_tenant_path(life->id);
    return sd_bus_reply_method_return(message, "o", path);
}

/* The tenant that the call's only argument names; not the default one. */
static int read_tenant(sd_bus_message *message, Manager *manager, TenantLife **ret_life,
                       sd_bus_error *ret_error)
{
    const char *id;
    g_autoptr(GError) error = NULL;
    int r = sd_bus_message_read(message, "s", &id);
    if (r < 0)
        return r;
    if (!registry_get_tenant(manager->registry, id, &error))
        return bus_error_set(ret_error, error);
    *ret_life = manager_get_tenant(manager, id, NULL);
    return 0;
}

static int delete_tenant(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    TenantLife *life;
    g_autoptr(GError) error = NULL;
    int r = read_tenant(message, userdata, &life, ret_error);
    if (r < 0)
        return r;
    if (!manager_delete_tenant(userdata, life, &error))
        return bus_error_set(ret_error, error);
    return sd_bus_reply_method_return(message, "");
}

static int get_tenant(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    TenantLife *life;
    int r = read_tenant(message, userdata, &life, ret_error);
    if (r < 0)
        return r;
    g_autofree char *path = bus_tenant_path(life->id);
    return sd_bus_reply_method_return(message, "o", path);
}

static int list_tenants(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    Manager *manager = userdata;
    g_autoptr(sd_bus_message) reply = NULL;
    int r = sd_bus_message_new_method_return(message, &reply);
    if (r >= 0)
        r = sd_bus_message_open_container(reply, 'a', "(stttto)");
    g_autoptr(GPtrArray) tenants = registry_tenants(manager->registry);
    for (unsigned i = 0; r >= 0 && i < tenants->len; i++) {
        const Tenant *tenant = g_ptr_array_index(tenants, i);
        TenantLife *life = g_hash_table_lookup(manager->tenants, tenant->config->id);
        g_autofree char *path = bus_tenant_path(life->id);
        r = sd_bus_message_append(reply, "(stttto)", life->id, budget_limit(tenant->budget),
                                  budget_reserved(tenant->budget), tenant_life_pinned(life),
                                  tenant_life_orphaned(life), path);
    }
    if (r >= 0)
        r = sd_bus_message_close_container(reply);
    return r < 0 ? r : sd_bus_message_send(reply);
}

/* ---- machines ---- */

#define ADMISSION(field) offsetof(AdmissionRequest, field)
static const BusOption admission_options[] = {
    {"Iommufd", "b", "a boolean", ADMISSION(iommufd)},
    {"UniqueBytes", "t", "bytes", ADMISSION(unique_bytes)},
    {NULL},
};

static void admit_again(Manager *manager, sd_bus_message *message);

/* 1: answered, or kept until the last run of the machine is reaped. */
static int admit(Manager *manager, sd_bus_message *message, sd_bus_error *ret_error)
{
    AdmissionRequest request = {.iommufd = true};
    const char *given;
    g_auto(GStrv) given_devices = NULL;
    g_autoptr(GError) error = NULL;
    int r = sd_bus_message_read(message, "ssst", &given, &request.name, &request.tenant,
                                &request.bytes);
    if (r >= 0)
        r = bus_read_strings(message, &given_devices);
    if (r >= 0)
        r = bus_options_read(message, admission_options, &request, ret_error);
    if (r < 0)
        return r;
    g_autofree char *uuid = machine_uuid_parse(given, &error);
    g_auto(GStrv) devices =
        uuid ? device_addresses_parse((const char *const *)given_devices, &error) : NULL;
    if (!devices)
        return bus_error_set(ret_error, error);
    request.uuid = uuid;
    request.devices = (const char *const *)devices;
    switch (machine_admit(manager, &request, &error)) {
    case ADMISSION_REFUSED:
        return bus_error_set(ret_error, error);
    case ADMISSION_WAIT:
        r = waiting_add(manager, uuid, message, admit_again);
        return r < 0 ? r : 1;
    case ADMISSION_DONE:
        break;
    }
    g_autofree char *path = bus_machine_path(uuid);
    return sd_bus_reply_method_return(message, "o", path);
}

static void admit_again(Manager *manager, sd_bus_message *message)
{
    g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
    int r = admit(manager, message, &error);
    if (r < 0)
        (void)sd_bus_reply_method_errno(message, r, &error);
}

static int admit_machine(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    return admit(userdata, message, ret_error);
}

/* A pidfd that the caller of this function owns, from the variant. */
static int read_leader(sd_bus_message *message, int *ret_pidfd, sd_bus_error *ret_error)
{
    const char *contents;
    uint32_t pid;
    int fd;
    int r = sd_bus_message_peek_type(message, NULL, &contents);
    if (r < 0)
        return r;
    if (strcmp(contents, "h") == 0) {
        r = sd_bus_message_read(message, "v", "h", &fd);
        if (r < 0)
            return r;
        *ret_pidfd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        return *ret_pidfd < 0 ? -errno : 0;
    }
    if (strcmp(contents, "u") != 0)
        return bus_error_invalid(
            ret_error, "The leader is a pid (u) or a pidfd (h), not of type %s.", contents);
    r = sd_bus_message_read(message, "v", "u", &pid);
    if (r < 0)
        return r;
    r = pid <= INT32_MAX ? process_open((pid_t)pid, ret_pidfd) : -ESRCH;
    return r < 0 ? bus_error_invalid(ret_error, "There is no process %u: %s.", pid, g_strerror(-r))
                 : 0;
}

static int start_machine(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    const char *uuid;
    autoclose int pidfd = -EBADF;
    g_autoptr(GError) error = NULL;
    int r = sd_bus_message_read(message, "s", &uuid);
    if (r < 0)
        return r;
    MachineLife *life = manager_get_machine(userdata, uuid, &error);
    if (!life)
        return bus_error_set(ret_error, error);
    r = read_leader(message, &pidfd, ret_error);
    if (r < 0)
        return r;
    if (!machine_life_start(life, TAKE_FD(pidfd), &error))
        return bus_error_set(ret_error, error);
    return sd_bus_reply_method_return(message, "");
}

static int release_machine(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    const char *uuid;
    const char *reason;
    g_autoptr(GError) error = NULL;
    int r = sd_bus_message_read(message, "ss", &uuid, &reason);
    if (r < 0)
        return r;
    MachineLife *life = manager_get_machine(userdata, uuid, &error);
    return life ? machine_release(life, reason, message, ret_error)
                : bus_error_set(ret_error, error);
}

static int get_machine(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    const char *uuid;
    g_autoptr(GError) error = NULL;
    int r = sd_bus_message_read(message, "s", &uuid);
    if (r < 0)
        return r;
    const MachineLife *life = manager_get_machine(userdata, uuid, &error);
    if (!life)
        return bus_error_set(ret_error, error);
    g_autofree char *path = bus_machine_path(life->uuid);
    return sd_bus_reply_method_return(message, "o", path);
}

static int list_machines(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    Manager *manager = userdata;
    g_autoptr(sd_bus_message) reply = NULL;
    int r = sd_bus_message_new_method_return(message, &reply);
    if (r >= 0)
        r = sd_bus_message_open_container(reply, 'a', "(sssstttuo)");
    g_autoptr(GPtrArray) machines = registry_machines(manager->registry);
    for (unsigned i = 0; r >= 0 && i < machines->len; i++) {
        const Machine *machine = g_ptr_array_index(machines, i);
        MachineLife *life = g_hash_table_lookup(manager->machines, machine->uuid);
        g_autofree char *path = bus_machine_path(life->uuid);
        r = sd_bus_message_append(reply, "(sssstttuo)", life->uuid, machine->name, life->tenant->id,
                                  machine_state_to_string(machine->state),
                                  charge_bytes(machine->charge), machine_life_pinned(life),
                                  machine_life_orphaned(life), (uint32_t)machine->leader, path);
    }
    if (r >= 0)
        r = sd_bus_message_close_container(reply);
    return r < 0 ? r : sd_bus_message_send(reply);
}

/* ---- devices ---- */

static int get_device(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    const char *address;
    g_autoptr(GError) error = NULL;
    int r = sd_bus_message_read(message, "s", &address);
    if (r < 0)
        return r;
    const HostDevice *device = manager_get_device(userdata, address, &error);
    if (!device)
        return bus_error_set(ret_error, error);
    g_autofree char *path = bus_device_path(device->address);
    return sd_bus_reply_method_return(message, "o", path);
}

static int append_device(sd_bus_message *reply, Manager *manager, const HostDevice *device,
                         const HostDevice *devices, size_t n)
{
    const Machine *holder = registry_device_holder(manager->registry, device->address);
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
    Manager *manager = userdata;
    const HostDevice *devices;
    size_t n;
    g_autoptr(GError) error = NULL;
    g_autoptr(sd_bus_message) reply = NULL;
    if (!manager_devices(manager, &devices, &n, &error))
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
    if (!manager_reload(userdata, &error))
        return bus_error_set(ret_error, error);
    return sd_bus_reply_method_return(message, "");
}

static int describe(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    g_autofree char *text = describe_host(userdata);
    return sd_bus_reply_method_return(message, "s", text);
}

static int get_number(sd_bus *bus, const char *path, const char *interface, const char *property,
                      sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    Manager *manager = userdata;
    const Budget *budget = registry_host_budget(manager->registry);
    uint64_t value = g_str_equal(property, "HostBudgetBytes")   ? budget_limit(budget)
                     : g_str_equal(property, "ReservedBytes")   ? budget_reserved(budget)
                     : g_str_equal(property, "PinnedBytes")     ? manager_pinned(manager)
                     : g_str_equal(property, "DriftBytes")      ? books_drift(manager->books)
                     : g_str_equal(property, "UntrackedEvents") ? books_missed(manager->books)
                     : g_str_equal(property, "UnknownIoctls") ? books_unknown_ioctls(manager->books)
                                                              : manager_orphaned(manager);
    return sd_bus_message_append(reply, "t", value);
}

/* What the whole host has, and what its kernel has pinned for anybody. */
static int get_memory(sd_bus *bus, const char *path, const char *interface, const char *property,
                      sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    Host *host = ((Manager *)userdata)->host;
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
    const Manager *manager = userdata;
    return sd_bus_message_append(reply, "b", (int)books_require_guard(manager->books));
}

static int get_text(sd_bus *bus, const char *path, const char *interface, const char *property,
                    sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    Manager *manager = userdata;
    const char *tenant = registry_default_tenant(manager->registry);
    const char *value = g_str_equal(property, "Version")       ? VERSION
                        : g_str_equal(property, "GuardState")  ? books_guard_state(manager->books)
                        : g_str_equal(property, "GuardReason") ? books_guard_reason(manager->books)
                        : g_str_equal(property, "LedgerState") ? books_ledger_state(manager->books)
                        : g_str_equal(property, "LedgerReason")
                            ? books_ledger_reason(manager->books)
                        : tenant ? tenant
                                 : "";
    return sd_bus_message_append(reply, "s", value);
}

static int get_features(sd_bus *bus, const char *path, const char *interface, const char *property,
                        sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    g_auto(GStrv) features = describe_features(userdata);
    return bus_append_strings(reply, (const char *const *)features);
}

#define OPEN SD_BUS_VTABLE_UNPRIVILEGED /* access.c says who may */

static const sd_bus_vtable vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD_WITH_ARGS("CreateTenant", SD_BUS_ARGS("s", id, "a{sv}", options),
                            SD_BUS_RESULT("o", tenant), create_tenant, OPEN),
    SD_BUS_METHOD_WITH_ARGS("DeleteTenant", SD_BUS_ARGS("s", id), SD_BUS_NO_RESULT, delete_tenant,
                            OPEN),
    SD_BUS_METHOD_WITH_ARGS("GetTenant", SD_BUS_ARGS("s", id), SD_BUS_RESULT("o", tenant),
                            get_tenant, OPEN),
    SD_BUS_METHOD_WITH_ARGS("ListTenants", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(stttto)", tenants),
                            list_tenants, OPEN),
    SD_BUS_METHOD_WITH_ARGS(
        "AdmitMachine",
        SD_BUS_ARGS("s", uuid, "s", name, "s", tenant, "t", bytes, "as", devices, "a{sv}", options),
        SD_BUS_RESULT("o", machine), admit_machine, OPEN),
    SD_BUS_METHOD_WITH_ARGS("StartMachine", SD_BUS_ARGS("s", uuid, "v", leader), SD_BUS_NO_RESULT,
                            start_machine, OPEN),
    SD_BUS_METHOD_WITH_ARGS("ReleaseMachine", SD_BUS_ARGS("s", uuid, "s", reason), SD_BUS_NO_RESULT,
                            release_machine, OPEN),
    SD_BUS_METHOD_WITH_ARGS("GetMachine", SD_BUS_ARGS("s", uuid), SD_BUS_RESULT("o", machine),
                            get_machine, OPEN),
    SD_BUS_METHOD_WITH_ARGS("ListMachines", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(sssstttuo)", machines),
                            list_machines, OPEN),
    SD_BUS_METHOD_WITH_ARGS("GetDevice", SD_BUS_ARGS("s", address), SD_BUS_RESULT("o", device),
                            get_device, OPEN),
    SD_BUS_METHOD_WITH_ARGS("ListDevices", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(sisssbsso)", devices),
                            list_devices, OPEN),
    SD_BUS_METHOD_WITH_ARGS("Reload", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, reload, OPEN),
    SD_BUS_METHOD_WITH_ARGS("Describe", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", json), describe, OPEN),
    SD_BUS_PROPERTY("Version", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_CONST),
    SD_BUS_PROPERTY("MemoryBytes", "t", get_memory, 0, SD_BUS_VTABLE_PROPERTY_CONST),
    SD_BUS_PROPERTY("KernelPinnedBytes", "t", get_memory, 0, 0),
    SD_BUS_PROPERTY("HostBudgetBytes", "t", get_number, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_PROPERTY("ReservedBytes", "t", get_number, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_PROPERTY("PinnedBytes", "t", get_number, 0, 0),
    SD_BUS_PROPERTY("OrphanedBytes", "t", get_number, 0, 0),
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

int bus_manager_register(Manager *manager)
{
    return sd_bus_add_object_vtable(manager->bus, NULL, BUS_PATH, BUS_INTERFACE_MANAGER, vtable,
                                    manager);
}
