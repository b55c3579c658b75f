/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* org.iommud1.Tenant, less the methods that stand for ioctls (ioas-interface.c). */
#include "dbus/bus/tenant-interface.h"

#include "dbus/base/errors.h"
#include "dbus/bus/describe.h"
#include "dbus/bus/ioas-interface.h"
#include "dbus/bus/tenant-path.h"
#include "dbus/core/machine.h"
#include "dbus/core/tenant-config.h"
#include "dbus/core/usage.h"
#include "kernel/base/cleanup.h"
#include "kernel/base/process.h"
#include "policy/size.h"

static int set_limit(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    uint64_t limit;
    g_autoptr(GError) error = NULL;
    int r = sd_bus_message_read(message, "t", &limit);
    if (r < 0)
        return r;
    if (!tenant_set_limit(bus_tenant_of(message, userdata), limit, &error))
        return bus_error_set(ret_error, error);
    return sd_bus_reply_method_return(message, "");
}

/* Who is about to receive the descriptor is made known to the guard before: others are refused it.
 */
static int allow_caller(const Tenant *tenant, sd_bus_message *message, sd_bus_error *ret_error)
{
    g_autoptr(sd_bus_creds) creds = NULL;
    g_autoptr(GError) error = NULL;
    pid_t pid;
    int r = sd_bus_query_sender_creds(message, SD_BUS_CREDS_PID, &creds);
    if (r >= 0)
        r = sd_bus_creds_get_pid(creds, &pid);
    if (r < 0)
        return r;
    return accounting_allow_receiver(tenant->manager->accounting, pid, tenant->ledger_id, &error)
               ? 0
               : bus_error_set(ret_error, error);
}

/* What a caller makes by ioctls of its own is its own as long as it lives. Of an IOMMUFD for one
 * machine alone no copy is kept: it goes with own. ret_id may be NULL. */
static int open_for_caller(Tenant *tenant, sd_bus_message *message, int *own, uint64_t *ret_id,
                           sd_bus_error *ret_error)
{
    g_autoptr(GError) error = NULL;
    bool fresh = false;
    if (tenant_shares(tenant) ? !tenant_open(tenant, &fresh, &error)
                              : !tenant_open_fresh(tenant, own, ret_id, &error))
        return bus_error_set(ret_error, error);
    int r = allow_caller(tenant, message, ret_error);
    if (r < 0 && fresh)
        tenant_close(tenant);
    if (r >= 0 && ret_id && *own < 0)
        *ret_id = tenant->iommufd_id;
    return r;
}

static int open_iommufd(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    Tenant *tenant = bus_tenant_of(message, userdata);
    autoclose int own = -EBADF;
    int r = open_for_caller(tenant, message, &own, NULL, ret_error);
    return r < 0 ? r : sd_bus_reply_method_return(message, "h", own >= 0 ? own : tenant->iommufd);
}

static int open_with_id(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    Tenant *tenant = bus_tenant_of(message, userdata);
    autoclose int own = -EBADF;
    uint64_t id = 0;
    int r = open_for_caller(tenant, message, &own, &id, ret_error);
    return r < 0 ? r
                 : sd_bus_reply_method_return(message, "ht", own >= 0 ? own : tenant->iommufd, id);
}

static void on_reaped(uint32_t objects, uint64_t bytes, void *data)
{
    g_autoptr(sd_bus_message) call = data;
    (void)sd_bus_reply_method_return(call, "ut", objects, bytes);
}

static int reap(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    Service *service = userdata;
    const Tenant *tenant = bus_tenant_of(message, service);
    reaper_call(service->reaper, tenant_id(tenant), on_reaped, sd_bus_message_ref(message));
    return 1;
}

/* Who made it; 0 when that one has ended and others of its owner live, whose the object is now. */
static pid_t maker_of(const LedgerObject *object)
{
    uint64_t start = 0;
    if (!object->alive)
        return object->pid;
    return process_start_time(object->pid, &start) >= 0 && start == object->start ? object->pid : 0;
}

/* The ledger counts what an owner has in the whole IOMMUFD: it stands at its first IOAS. */
static int append_objects(sd_bus_message *reply, const Tenant *tenant, const LedgerObject *objects,
                          size_t n)
{
    Manager *manager = tenant->manager;
    g_autoptr(GHashTable) counted = g_hash_table_new(NULL, NULL);
    int r = 0;
    for (size_t i = 0; r >= 0 && i < n; i++) {
        const LedgerObject *object = &objects[i];
        const Machine *owner = manager_find_machine_by_id(manager, object->machine);
        uint64_t pinned = 0;
        if (object->type == LEDGER_OBJECT_TYPE_IOAS &&
            g_hash_table_add(counted, GUINT_TO_POINTER(object->owner)))
            pinned = accounting_owner_pinned(manager->accounting, object->context, object->owner);
        r = sd_bus_message_append(
            reply, "(ussut)", object->id, ledger_object_type_name(object->type),
            owner ? machine_uuid(owner) : "", (uint32_t)maker_of(object), pinned);
    }
    return r;
}

static int list_objects(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    const Tenant *tenant = bus_tenant_of(message, userdata);
    g_autofree LedgerObject *objects = NULL;
    size_t n = 0;
    g_autoptr(GError) error = NULL;
    g_autoptr(sd_bus_message) reply = NULL;
    if (tenant->iommufd >= 0 &&
        !accounting_objects(tenant->manager->accounting, tenant->context_id, &objects, &n, &error))
        return bus_error_set(ret_error, error);
    int r = sd_bus_message_new_method_return(message, &reply);
    if (r >= 0)
        r = sd_bus_message_open_container(reply, 'a', "(ussut)");
    if (r >= 0)
        r = append_objects(reply, tenant, objects, n);
    if (r >= 0)
        r = sd_bus_message_close_container(reply);
    return r < 0 ? r : sd_bus_message_send(reply);
}

/* ---- properties ---- */

static int get_budget(sd_bus *bus, const char *path, const char *interface, const char *property,
                      sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    const Budget *budget = bus_tenant_at(userdata, path)->policy.budget;
    return sd_bus_message_append(reply, "t",
                                 g_str_equal(property, "LimitBytes") ? budget_limit(budget)
                                                                     : budget_reserved(budget));
}

static int get_usage(sd_bus *bus, const char *path, const char *interface, const char *property,
                     sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    Usage usage;
    tenant_usage(bus_tenant_at(userdata, path), &usage);
    return bus_append_usage(reply, property, &usage);
}

static int get_text(sd_bus *bus, const char *path, const char *interface, const char *property,
                    sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    const TenantConfig *config = bus_tenant_at(userdata, path)->policy.config;
    const char *value =
        g_str_equal(property, "Id")               ? config->id
        : g_str_equal(property, "Isolation")      ? isolation_to_string(config->isolation)
        : g_str_equal(property, "AccountingMode") ? accounting_to_string(config->accounting)
        : g_str_equal(property, "Count")          ? count_mode_to_string(config->count)
        : config->source                          ? config->source
                                                  : "";
    return sd_bus_message_append(reply, "s", value);
}

static int get_machines(sd_bus *bus, const char *path, const char *interface, const char *property,
                        sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    g_autoptr(GPtrArray) machines = tenant_machines(bus_tenant_at(userdata, path));
    int r = sd_bus_message_open_container(reply, 'a', "o");
    for (unsigned i = 0; r >= 0 && i < machines->len; i++) {
        g_autofree char *machine = bus_machine_path(machine_uuid(g_ptr_array_index(machines, i)));
        r = sd_bus_message_append_basic(reply, 'o', machine);
    }
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int get_device_patterns(sd_bus *bus, const char *path, const char *interface,
                               const char *property, sd_bus_message *reply, void *userdata,
                               sd_bus_error *ret_error)
{
    const Tenant *tenant = bus_tenant_at(userdata, path);
    return bus_append_strings(reply, describe_device_patterns(tenant->policy.config));
}

static int get_shared(sd_bus *bus, const char *path, const char *interface, const char *property,
                      sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    return sd_bus_message_append(reply, "b", (int)tenant_shares(bus_tenant_at(userdata, path)));
}

/* Those that its machines hold. */
static int get_devices(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    g_autoptr(GPtrArray) machines = tenant_machines(bus_tenant_at(userdata, path));
    int r = sd_bus_message_open_container(reply, 'a', "s");
    for (unsigned i = 0; r >= 0 && i < machines->len; i++) {
        const MachinePolicy *machine = g_ptr_array_index(machines, i);
        for (unsigned j = 0; r >= 0 && j < machine->devices->len; j++)
            r = sd_bus_message_append_basic(reply, 's', g_ptr_array_index(machine->devices, j));
    }
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

/* One interface has one vtable: the methods that stand for ioctls are implemented elsewhere.
 * access.c says who may call what. */
static const sd_bus_vtable vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD_WITH_ARGS("SetLimit", SD_BUS_ARGS("t", bytes), SD_BUS_NO_RESULT, set_limit,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Open", SD_BUS_NO_ARGS, SD_BUS_RESULT("h", iommufd), open_iommufd,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("OpenWithId", SD_BUS_NO_ARGS, SD_BUS_RESULT("h", iommufd, "t", id),
                            open_with_id, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Reap", SD_BUS_NO_ARGS, SD_BUS_RESULT("u", objects, "t", bytes), reap,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("ListObjects", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(ussut)", objects),
                            list_objects, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("AllocateIoas", SD_BUS_NO_ARGS, SD_BUS_RESULT("u", ioas),
                            bus_allocate_ioas, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("IovaRanges", SD_BUS_ARGS("u", ioas), SD_BUS_RESULT("a(tt)", ranges),
                            bus_iova_ranges, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("AllowIovas", SD_BUS_ARGS("u", ioas, "a(tt)", ranges), SD_BUS_NO_RESULT,
                            bus_allow_iovas, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS(
        "MapFile",
        SD_BUS_ARGS("u", ioas, "h", memfd, "t", offset, "t", length, "t", iova, "s", access),
        SD_BUS_RESULT("t", iova), bus_map_file, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Unmap", SD_BUS_ARGS("u", ioas, "t", iova, "t", length),
                            SD_BUS_RESULT("t", unmapped), bus_unmap, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Copy",
                            SD_BUS_ARGS("u", destination, "u", source, "t", source_iova, "t",
                                        length, "t", destination_iova, "s", access),
                            SD_BUS_RESULT("t", iova), bus_copy, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Destroy", SD_BUS_ARGS("u", id), SD_BUS_NO_RESULT, bus_destroy,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_PROPERTY("Id", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_CONST),
    SD_BUS_PROPERTY("LimitBytes", "t", get_budget, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_PROPERTY("ReservedBytes", "t", get_budget, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_PROPERTY("PinnedBytes", "t", get_usage, 0, 0),
    SD_BUS_PROPERTY("PeakBytes", "t", get_usage, 0, 0),
    SD_BUS_PROPERTY("OrphanedBytes", "t", get_usage, 0, 0),
    SD_BUS_PROPERTY("UniqueBytes", "t", get_usage, 0, 0),
    SD_BUS_PROPERTY("MappedBytes", "t", get_usage, 0, 0),
    SD_BUS_PROPERTY("Maps", "t", get_usage, 0, 0),
    SD_BUS_PROPERTY("Unmaps", "t", get_usage, 0, 0),
    SD_BUS_PROPERTY("Refusals", "t", get_usage, 0, 0),
    SD_BUS_PROPERTY("Count", "s", get_text, 0, 0),
    SD_BUS_PROPERTY("Isolation", "s", get_text, 0, 0),
    SD_BUS_PROPERTY("Shared", "b", get_shared, 0, 0),
    SD_BUS_PROPERTY("AccountingMode", "s", get_text, 0, 0),
    SD_BUS_PROPERTY("Source", "s", get_text, 0, 0),
    SD_BUS_PROPERTY("Machines", "ao", get_machines, 0, 0),
    SD_BUS_PROPERTY("Devices", "as", get_devices, 0, 0),
    SD_BUS_PROPERTY("DevicePatterns", "as", get_device_patterns, 0, 0),
    SD_BUS_VTABLE_END,
};

static bool exists(Service *service, const char *path)
{
    return bus_tenant_at(service, path) != NULL;
}

static char **list(Service *service)
{
    g_autoptr(GPtrArray) tenants = registry_tenants(service->manager->registry);
    char **paths = g_new0(char *, tenants->len + 1);
    for (unsigned i = 0; i < tenants->len; i++)
        paths[i] = bus_tenant_path(tenant_id(g_ptr_array_index(tenants, i)));
    return paths;
}

int bus_tenant_register(Service *service)
{
    static const BusKind kind = {
        .prefix = BUS_PATH_TENANT,
        .interface = BUS_INTERFACE_TENANT,
        .vtable = vtable,
        .exists = exists,
        .list = list,
    };
    return bus_register_kind(service, &kind);
}
