/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* org.iommud1.Tenant, less the methods that stand for ioctls (ioas-interface.c). */
#include "dbus/accounting/accounting.h"
#include "dbus/base/errors.h"
#include "dbus/bus/ioas-interface.h"
#include "dbus/bus/bus.h"
#include "dbus/bus/describe.h"
#include "dbus/reaper/orphans.h"
#include "dbus/core/machine.h"
#include "dbus/reaper/reaper.h"
#include "dbus/core/tenant.h"
#include "kernel/base/cleanup.h"
#include "kernel/base/process.h"
#include "policy/size.h"

static int set_limit(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    TenantLife *life = userdata;
    uint64_t limit;
    g_autoptr(GError) error = NULL;
    int r = sd_bus_message_read(message, "t", &limit);
    if (r < 0)
        return r;
    if (!manager_set_limit(life->manager, life, limit, &error))
        return bus_error_set(ret_error, error);
    return sd_bus_reply_method_return(message, "");
}

/* Who is about to receive the descriptor is made known to the guard before: others are refused it.
 */
static int name_caller(TenantLife *life, sd_bus_message *message, sd_bus_error *ret_error)
{
    g_autoptr(sd_bus_creds) creds = NULL;
    g_autoptr(GError) error = NULL;
    pid_t pid;
    if (!books_guard(life->manager->books))
        return 0;
    int r = sd_bus_query_sender_creds(message, SD_BUS_CREDS_PID, &creds);
    if (r >= 0)
        r = sd_bus_creds_get_pid(creds, &pid);
    if (r < 0)
        return r;
    return books_name_client(life->manager->books, life, pid, &error)
               ? 0
               : bus_error_set(ret_error, error);
}

/* What a caller makes by ioctls of its own is its own as long as it lives. Where there is no ledger
 * it is nobody's, and the next sweep destroys what of it is not attached, unless the caller is the
 * leader of a machine of the tenant. */
static int open_iommufd(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    TenantLife *life = userdata;
    g_autoptr(GError) error = NULL;
    autoclose int fresh = -EBADF;
    bool shares = tenant_life_shares(life);
    if (shares ? !tenant_life_open(life, NULL, &error)
               : !tenant_life_open_fresh(life, &fresh, &error) ||
                     !books_register(life->manager->books, life, fresh, false, &error))
        return bus_error_set(ret_error, error);
    int r = name_caller(life, message, ret_error);
    if (r < 0)
        return r;
    return sd_bus_reply_method_return(message, "h", shares ? life->tenant->iommufd : fresh);
}

static int reap(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    return reaper_call(userdata, message);
}

/* Without the ledger the pinned bytes of a process are known as one sum: it stands at the first
 * address space that is known to be its own. */
static int append_object(sd_bus_message *reply, TenantLife *life, HostObject object,
                         GHashTable *counted)
{
    MachineLife *owner = tenant_life_owner(life, object);
    uint64_t pinned = 0;
    if (owner && object.type == HOST_OBJECT_IOAS && g_hash_table_add(counted, owner))
        pinned = machine_life_pinned(owner) + machine_life_orphaned(owner);
    return sd_bus_message_append(reply, "(ussut)", object.id, object_type_to_string(object.type),
                                 owner ? owner->uuid : "",
                                 owner ? (uint32_t)owner->machine->leader : 0, pinned);
}

static int append_probed(sd_bus_message *reply, TenantLife *life, GError **error)
{
    g_autofree HostObject *objects = NULL;
    g_autoptr(GHashTable) counted = g_hash_table_new(NULL, NULL);
    size_t n;
    int r = 0;
    if (!tenant_life_objects(life, &objects, &n, error))
        return -EIO;
    for (size_t i = 0; r >= 0 && i < n; i++)
        r = append_object(reply, life, objects[i], counted);
    return r;
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
static int append_known(sd_bus_message *reply, TenantLife *life, GError **error)
{
    Books *books = life->manager->books;
    g_autofree LedgerObject *objects = NULL;
    g_autoptr(GHashTable) counted = g_hash_table_new(NULL, NULL);
    size_t n;
    int r = 0;
    if (!books_objects(books, life, &objects, &n, error))
        return -EIO;
    for (size_t i = 0; r >= 0 && i < n; i++) {
        const LedgerObject *object = &objects[i];
        const MachineLife *owner = books_find_machine(books, object->machine);
        uint64_t pinned = 0;
        if (object->type == LEDGER_OBJECT_TYPE_IOAS &&
            g_hash_table_add(counted, GUINT_TO_POINTER(object->owner)))
            pinned = books_owner_pinned(books, object->context, object->owner);
        r = sd_bus_message_append(reply, "(ussut)", object->id,
                                  ledger_object_type_name(object->type), owner ? owner->uuid : "",
                                  (uint32_t)maker_of(object), pinned);
    }
    return r;
}

static int list_objects(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    TenantLife *life = userdata;
    g_autoptr(GError) error = NULL;
    g_autoptr(sd_bus_message) reply = NULL;
    int r = sd_bus_message_new_method_return(message, &reply);
    if (r >= 0)
        r = sd_bus_message_open_container(reply, 'a', "(ussut)");
    if (r >= 0)
        r = leftovers_known(life) ? append_known(reply, life, &error)
                                  : append_probed(reply, life, &error);
    if (error)
        return bus_error_set(ret_error, error);
    if (r >= 0)
        r = sd_bus_message_close_container(reply);
    return r < 0 ? r : sd_bus_message_send(reply);
}

/* ---- properties ---- */

static int get_number(sd_bus *bus, const char *path, const char *interface, const char *property,
                      sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    TenantLife *life = userdata;
    const Budget *budget = life->tenant->budget;
    uint64_t pinned = tenant_life_pinned(life);
    uint64_t value = g_str_equal(property, "LimitBytes")      ? budget_limit(budget)
                     : g_str_equal(property, "ReservedBytes") ? budget_reserved(budget)
                     : g_str_equal(property, "PinnedBytes")   ? pinned
                                                              : tenant_life_orphaned(life);
    return sd_bus_message_append(reply, "t", value);
}

static int get_figure(sd_bus *bus, const char *path, const char *interface, const char *property,
                      sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    TenantLife *life = userdata;
    Figures figures;
    tenant_life_figures(life, &figures);
    return bus_append_figure(reply, property, &figures);
}

static int get_text(sd_bus *bus, const char *path, const char *interface, const char *property,
                    sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    const TenantLife *life = userdata;
    const TenantConfig *config = life->tenant->config;
    const char *value =
        g_str_equal(property, "Id")               ? life->id
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
    g_autoptr(GPtrArray) machines = tenant_life_machines(userdata);
    int r = sd_bus_message_open_container(reply, 'a', "o");
    for (unsigned i = 0; r >= 0 && i < machines->len; i++) {
        const MachineLife *machine = g_ptr_array_index(machines, i);
        g_autofree char *machine_path = bus_machine_path(machine->uuid);
        r = sd_bus_message_append_basic(reply, 'o', machine_path);
    }
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int get_device_patterns(sd_bus *bus, const char *path, const char *interface,
                               const char *property, sd_bus_message *reply, void *userdata,
                               sd_bus_error *ret_error)
{
    const TenantLife *life = userdata;
    return bus_append_strings(reply, describe_device_patterns(life->tenant->config));
}

/* Those that its machines hold. */
static int get_devices(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
    g_autoptr(GPtrArray) machines = tenant_life_machines(userdata);
    int r = sd_bus_message_open_container(reply, 'a', "s");
    for (unsigned i = 0; r >= 0 && i < machines->len; i++) {
        const MachineLife *machine = g_ptr_array_index(machines, i);
        const GPtrArray *devices = machine->machine->devices;
        for (unsigned j = 0; r >= 0 && j < devices->len; j++)
            r = sd_bus_message_append_basic(reply, 's', g_ptr_array_index(devices, j));
    }
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

#define OPEN SD_BUS_VTABLE_UNPRIVILEGED /* access.c says who may */

/* One interface has one vtable: the methods that stand for ioctls are implemented elsewhere. */
static const sd_bus_vtable vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD_WITH_ARGS("SetLimit", SD_BUS_ARGS("t", bytes), SD_BUS_NO_RESULT, set_limit, OPEN),
    SD_BUS_METHOD_WITH_ARGS("Open", SD_BUS_NO_ARGS, SD_BUS_RESULT("h", iommufd), open_iommufd,
                            OPEN),
    SD_BUS_METHOD_WITH_ARGS("Reap", SD_BUS_NO_ARGS, SD_BUS_RESULT("u", objects, "t", bytes), reap,
                            OPEN),
    SD_BUS_METHOD_WITH_ARGS("ListObjects", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(ussut)", objects),
                            list_objects, OPEN),
    SD_BUS_METHOD_WITH_ARGS("AllocateIoas", SD_BUS_NO_ARGS, SD_BUS_RESULT("u", ioas),
                            bus_allocate_ioas, OPEN),
    SD_BUS_METHOD_WITH_ARGS("IovaRanges", SD_BUS_ARGS("u", ioas), SD_BUS_RESULT("a(tt)", ranges),
                            bus_iova_ranges, OPEN),
    SD_BUS_METHOD_WITH_ARGS("AllowIovas", SD_BUS_ARGS("u", ioas, "a(tt)", ranges), SD_BUS_NO_RESULT,
                            bus_allow_iovas, OPEN),
    SD_BUS_METHOD_WITH_ARGS(
        "MapFile",
        SD_BUS_ARGS("u", ioas, "h", memfd, "t", offset, "t", length, "t", iova, "s", access),
        SD_BUS_RESULT("t", iova), bus_map_file, OPEN),
    SD_BUS_METHOD_WITH_ARGS("Unmap", SD_BUS_ARGS("u", ioas, "t", iova, "t", length),
                            SD_BUS_RESULT("t", unmapped), bus_unmap, OPEN),
    SD_BUS_METHOD_WITH_ARGS("Copy",
                            SD_BUS_ARGS("u", destination, "u", source, "t", source_iova, "t",
                                        length, "t", destination_iova, "s", access),
                            SD_BUS_RESULT("t", iova), bus_copy, OPEN),
    SD_BUS_METHOD_WITH_ARGS("Destroy", SD_BUS_ARGS("u", id), SD_BUS_NO_RESULT, bus_destroy, OPEN),
    SD_BUS_PROPERTY("Id", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_CONST),
    SD_BUS_PROPERTY("LimitBytes", "t", get_number, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_PROPERTY("ReservedBytes", "t", get_number, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_PROPERTY("PinnedBytes", "t", get_number, 0, 0),
    SD_BUS_PROPERTY("PeakBytes", "t", get_figure, 0, 0),
    SD_BUS_PROPERTY("OrphanedBytes", "t", get_number, 0, 0),
    SD_BUS_PROPERTY("UniqueBytes", "t", get_figure, 0, 0),
    SD_BUS_PROPERTY("MappedBytes", "t", get_figure, 0, 0),
    SD_BUS_PROPERTY("Maps", "t", get_figure, 0, 0),
    SD_BUS_PROPERTY("Unmaps", "t", get_figure, 0, 0),
    SD_BUS_PROPERTY("Refusals", "t", get_figure, 0, 0),
    SD_BUS_PROPERTY("Count", "s", get_text, 0, 0),
    SD_BUS_PROPERTY("Isolation", "s", get_text, 0, 0),
    SD_BUS_PROPERTY("AccountingMode", "s", get_text, 0, 0),
    SD_BUS_PROPERTY("Source", "s", get_text, 0, 0),
    SD_BUS_PROPERTY("Machines", "ao", get_machines, 0, 0),
    SD_BUS_PROPERTY("Devices", "as", get_devices, 0, 0),
    SD_BUS_PROPERTY("DevicePatterns", "as", get_device_patterns, 0, 0),
    SD_BUS_VTABLE_END,
};

static int find(sd_bus *bus, const char *path, const char *interface, void *userdata,
                void **ret_found, sd_bus_error *ret_error)
{
    Manager *manager = userdata;
    g_autofree char *id = bus_path_tenant(path);
    *ret_found = id ? g_hash_table_lookup(manager->tenants, id) : NULL;
    return *ret_found != NULL;
}

static int enumerate(sd_bus *bus, const char *prefix, void *userdata, char ***ret_nodes,
                     sd_bus_error *ret_error)
{
    Manager *manager = userdata;
    g_autoptr(GPtrArray) tenants = registry_tenants(manager->registry);
    char **paths = g_new0(char *, tenants->len + 1);
    for (unsigned i = 0; i < tenants->len; i++)
        paths[i] = bus_tenant_path(((Tenant *)g_ptr_array_index(tenants, i))->config->id);
    *ret_nodes = paths;
    return 0;
}

int bus_tenant_register(Manager *manager)
{
    int r = sd_bus_add_fallback_vtable(manager->bus, NULL, BUS_PATH_TENANT, BUS_INTERFACE_TENANT,
                                       vtable, find, manager);
    return r < 0 ? r
                 : sd_bus_add_node_enumerator(manager->bus, NULL, BUS_PATH_TENANT, enumerate,
                                              manager);
}
