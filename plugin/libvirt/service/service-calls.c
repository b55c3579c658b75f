/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/libvirt/service/service-calls.h"

#include <errno.h>
#include <fcntl.h>

bool iommud_refused(const sd_bus_error *error)
{
    return error->name &&
           (g_str_has_prefix(error->name, BUS_ERROR_PREFIX) ||
            sd_bus_error_has_names(error, SD_BUS_ERROR_ACCESS_DENIED, SD_BUS_ERROR_UNKNOWN_METHOD,
                                   SD_BUS_ERROR_UNKNOWN_INTERFACE, SD_BUS_ERROR_UNKNOWN_OBJECT,
                                   SD_BUS_ERROR_INVALID_ARGS, SD_BUS_ERROR_FAILED));
}

bool iommud_refusal_counts(const DomainRequest *request, const sd_bus_error *error)
{
    return request->iommufd || *request->tenant ||
           (g_str_has_prefix(error->name, BUS_ERROR_PREFIX) &&
            !sd_bus_error_has_name(error, BUS_ERROR_PREFIX "NoSuchTenant"));
}

static int new_call(sd_bus *bus, const char *path, const char *interface, const char *method,
                    sd_bus_message **ret_message)
{
    int r = sd_bus_message_new_method_call(bus, ret_message, BUS_NAME, path, interface, method);
    return r < 0 ? r : sd_bus_message_set_auto_start(*ret_message, 0);
}

/* Sends a message that was put together with result r. */
static int send_call(sd_bus *bus, sd_bus_message *message, int r, sd_bus_error *error,
                     sd_bus_message **ret_reply)
{
    if (r < 0)
        return sd_bus_error_set_errno(error, r);
    return client_call_message(bus, message, CLIENT_TIMEOUT_REAP, error, ret_reply);
}

int iommud_admit(sd_bus *bus, const DomainRequest *request, uint64_t iommufd_id,
                 sd_bus_error *error)
{
    g_autoptr(sd_bus_message) message = NULL;
    int r = new_call(bus, BUS_PATH, BUS_INTERFACE_MANAGER, "AdmitMachine", &message);

    if (r >= 0)
        r = sd_bus_message_append(message, "ssst", request->uuid, request->name, request->tenant,
                                  request->bytes);
    if (r >= 0)
        r = sd_bus_message_append_strv(message, request->devices);
    if (r >= 0)
        r = sd_bus_message_append(message, "a{sv}", 4, "Iommufd", "b", (int)request->iommufd,
                                  "UniqueBytes", "t", request->unique_bytes, "IommufdId", "t",
                                  iommufd_id, "FollowLimit", "b", (int)request->follows_limit);
    return send_call(bus, message, r, error, NULL);
}

int iommud_start(sd_bus *bus, const char *uuid, int pidfd, sd_bus_error *error)
{
    g_autoptr(sd_bus_message) message = NULL;
    int r = new_call(bus, BUS_PATH, BUS_INTERFACE_MANAGER, "StartMachine", &message);

    if (r >= 0)
        r = sd_bus_message_append(message, "sv", uuid, "h", pidfd);
    return send_call(bus, message, r, error, NULL);
}

int iommud_release(sd_bus *bus, const char *uuid, const char *reason, sd_bus_error *error)
{
    g_autoptr(sd_bus_message) message = NULL;
    int r = new_call(bus, BUS_PATH, BUS_INTERFACE_MANAGER, "ReleaseMachine", &message);

    if (r >= 0)
        r = sd_bus_message_append(message, "ss", uuid, reason);
    return send_call(bus, message, r, error, NULL);
}

/* The object path that the manager's method has for this UUID or id. It is asked for and not made
 * here, so that what does not exist is NoSuchMachine or NoSuchTenant and no unknown object. */
static int get_path(sd_bus *bus, const char *method, const char *id, char **ret_path,
                    sd_bus_error *error)
{
    g_autoptr(sd_bus_message) message = NULL, reply = NULL;
    const char *path;
    int r = new_call(bus, BUS_PATH, BUS_INTERFACE_MANAGER, method, &message);

    if (r >= 0)
        r = sd_bus_message_append(message, "s", id);
    r = send_call(bus, message, r, error, &reply);
    if (r < 0)
        return r;
    r = sd_bus_message_read(reply, "o", &path);
    if (r < 0)
        return sd_bus_error_set_errno(error, r);
    *ret_path = g_strdup(path);
    return 0;
}

int iommud_get_machine(sd_bus *bus, const char *uuid, IommudMachine **ret_machine,
                       sd_bus_error *error)
{
    g_autoptr(Properties) properties = NULL;
    g_autofree char *path = NULL;
    int r = get_path(bus, "GetMachine", uuid, &path, error);

    if (r < 0)
        return r;
    r = properties_get(bus, BUS_NAME, path, BUS_INTERFACE_MACHINE, CLIENT_TIMEOUT, error,
                       &properties);
    if (r < 0)
        return r;

    IommudMachine *machine = g_new0(IommudMachine, 1);
    machine->path = g_steal_pointer(&path);
    machine->tenant = bus_path_tenant(properties_string(properties, "Tenant"));
    machine->state = g_strdup(properties_string(properties, "State"));
    machine->devices = g_strdupv((char **)properties_strings(properties, "Devices"));
    machine->reserved = properties_number(properties, "ReservedBytes");
    *ret_machine = machine;
    return 0;
}

void iommud_machine_free(IommudMachine *machine)
{
    if (!machine)
        return;
    g_free(machine->path);
    g_free(machine->tenant);
    g_free(machine->state);
    g_strfreev(machine->devices);
    g_free(machine);
}

int iommud_change_device(sd_bus *bus, const IommudMachine *machine, const char *method,
                         const char *address, sd_bus_error *error)
{
    g_autoptr(sd_bus_message) message = NULL;
    int r = new_call(bus, machine->path, BUS_INTERFACE_MACHINE, method, &message);

    if (r >= 0)
        r = sd_bus_message_append(message, "s", address);
    return send_call(bus, message, r, error, NULL);
}

int iommud_set_reservation(sd_bus *bus, const IommudMachine *machine, const DomainRequest *request,
                           sd_bus_error *error)
{
    g_autoptr(sd_bus_message) message = NULL;
    int r = new_call(bus, machine->path, BUS_INTERFACE_MACHINE, "SetReservation", &message);

    if (r >= 0)
        r = sd_bus_message_append(message, "ta{sv}", request->bytes, 1, "UniqueBytes", "t",
                                  request->unique_bytes);
    return send_call(bus, message, r, error, NULL);
}

static int read_admitted(sd_bus_message *reply, GPtrArray *uuids)
{
    const char *uuid, *state;
    int r = sd_bus_message_enter_container(reply, 'a', "(sssstttuo)");

    while (r >= 0 && (r = sd_bus_message_read(reply, "(sssstttuo)", &uuid, NULL, NULL, &state, NULL,
                                              NULL, NULL, NULL, NULL)) > 0)
        if (g_str_equal(state, "admitted"))
            g_ptr_array_add(uuids, g_strdup(uuid));
    return r;
}

int iommud_list_admitted(sd_bus *bus, GPtrArray **ret_uuids, sd_bus_error *error)
{
    g_autoptr(sd_bus_message) message = NULL, reply = NULL;
    g_autoptr(GPtrArray) uuids = g_ptr_array_new_with_free_func(g_free);
    int r = new_call(bus, BUS_PATH, BUS_INTERFACE_MANAGER, "ListMachines", &message);

    r = send_call(bus, message, r, error, &reply);
    if (r < 0)
        return r;
    r = read_admitted(reply, uuids);
    if (r < 0)
        return sd_bus_error_set_errno(error, r);
    *ret_uuids = g_steal_pointer(&uuids);
    return 0;
}

int iommud_default_tenant(sd_bus *bus, char **ret_tenant, sd_bus_error *error)
{
    g_autoptr(sd_bus_message) message = NULL, reply = NULL;
    const char *tenant;
    int r = new_call(bus, BUS_PATH, "org.freedesktop.DBus.Properties", "Get", &message);

    if (r >= 0)
        r = sd_bus_message_append(message, "ss", BUS_INTERFACE_MANAGER, "DefaultTenant");
    r = send_call(bus, message, r, error, &reply);
    if (r < 0)
        return r;
    r = sd_bus_message_read(reply, "v", "s", &tenant);
    if (r < 0)
        return sd_bus_error_set_errno(error, r);
    *ret_tenant = g_strdup(tenant);
    return 0;
}

int iommud_tenant_shares(sd_bus *bus, const char *tenant, bool *ret_shares, sd_bus_error *error)
{
    g_autoptr(sd_bus_message) message = NULL, reply = NULL;
    g_autofree char *path = NULL;
    int shares, r = get_path(bus, "GetTenant", tenant, &path, error);

    if (r < 0)
        return r;
    r = new_call(bus, path, "org.freedesktop.DBus.Properties", "Get", &message);
    if (r >= 0)
        r = sd_bus_message_append(message, "ss", BUS_INTERFACE_TENANT, "Shared");
    r = send_call(bus, message, r, error, &reply);
    if (r < 0)
        return r;
    r = sd_bus_message_read(reply, "v", "b", &shares);
    if (r < 0)
        return sd_bus_error_set_errno(error, r);
    *ret_shares = shares;
    return 0;
}

int iommud_open_tenant(sd_bus *bus, const char *tenant, int *ret_fd, uint64_t *ret_id,
                       sd_bus_error *error)
{
    g_autoptr(sd_bus_message) message = NULL, reply = NULL;
    g_autofree char *path = NULL;
    int fd, r = get_path(bus, "GetTenant", tenant, &path, error);

    if (r < 0)
        return r;
    r = new_call(bus, path, BUS_INTERFACE_TENANT, "OpenWithId", &message);
    r = send_call(bus, message, r, error, &reply);
    if (r < 0)
        return r;
    /* The descriptor in a message is the message's. */
    r = sd_bus_message_read(reply, "ht", &fd, ret_id);
    if (r >= 0)
        fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (r < 0 || fd < 0)
        return sd_bus_error_set_errno(error, r < 0 ? r : -errno);
    *ret_fd = fd;
    return 0;
}
