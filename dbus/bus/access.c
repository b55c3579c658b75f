/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/bus/access.h"

#include "dbus/base/names.h"

#include <pwd.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#define AGENT_USER "iommud-libvirt"
#define UID_NOBODY_HAS ((uid_t)-1)
#define AGENT_USEC (10 * G_USEC_PER_SEC)

static const struct {
    const char *interface;
    const char *member;
} open_to_all[] = {
    {"org.freedesktop.DBus.Introspectable", "Introspect"},
    {"org.freedesktop.DBus.ObjectManager", "GetManagedObjects"},
    {"org.freedesktop.DBus.Peer", "GetMachineId"},
    {"org.freedesktop.DBus.Peer", "Ping"},
    {"org.freedesktop.DBus.Properties", "Get"},
    {"org.freedesktop.DBus.Properties", "GetAll"},
    {BUS_INTERFACE_MANAGER, "Describe"},
    {BUS_INTERFACE_MANAGER, "GetDevice"},
    {BUS_INTERFACE_MANAGER, "GetMachine"},
    {BUS_INTERFACE_MANAGER, "GetTenant"},
    {BUS_INTERFACE_MANAGER, "ListDevices"},
    {BUS_INTERFACE_MANAGER, "ListMachines"},
    {BUS_INTERFACE_MANAGER, "ListTenants"},
    {BUS_INTERFACE_TENANT, "IovaRanges"},
    {BUS_INTERFACE_TENANT, "ListObjects"},
};

/* A call may leave out its interface: such a call is for the privileged only. */
static bool is_open_to_all(const char *interface, const char *member)
{
    for (size_t i = 0; i < G_N_ELEMENTS(open_to_all); i++) {
        if (g_strcmp0(interface, open_to_all[i].interface) == 0 &&
            g_strcmp0(member, open_to_all[i].member) == 0)
            return true;
    }
    return false;
}

/* Looked up until it is found, for the agent may be installed later than the service; but at most
 * once in AGENT_USEC, since getpwnam() may ask a server and wait for it. */
static uid_t agent_uid(void)
{
    static uid_t uid = UID_NOBODY_HAS;
    static int64_t looked;
    int64_t now = g_get_monotonic_time();
    if (uid == UID_NOBODY_HAS && (!looked || now - looked >= AGENT_USEC)) {
        const struct passwd *user = getpwnam(AGENT_USER);
        looked = now;
        if (user)
            uid = user->pw_uid;
    }
    return uid;
}

/* The bus says who called: it took the credentials when the caller connected. Nothing is taken
 * from /proc, where the answer could belong to another process by now. */
static int caller_may(sd_bus_message *message, bool *ret_may)
{
    g_autoptr(sd_bus_creds) creds = NULL;
    uid_t uid = UID_NOBODY_HAS;
    int r = sd_bus_query_sender_creds(message, SD_BUS_CREDS_EUID, &creds);
    if (r >= 0)
        r = sd_bus_creds_get_euid(creds, &uid);
    if (r < 0)
        return r;
    *ret_may = uid != UID_NOBODY_HAS && (uid == 0 || uid == geteuid() || uid == agent_uid());
    return 0;
}

static int on_message(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    if (!sd_bus_message_is_method_call(message, NULL, NULL))
        return 0;
    const char *member = sd_bus_message_get_member(message);
    if (is_open_to_all(sd_bus_message_get_interface(message), member))
        return 0;
    bool may = false;
    int r = caller_may(message, &may);
    if (r < 0)
        return sd_bus_error_setf(ret_error, SD_BUS_ERROR_ACCESS_DENIED,
                                 "Who calls %s could not be found out: %s.", member,
                                 g_strerror(-r));
    if (!may)
        return sd_bus_error_setf(ret_error, SD_BUS_ERROR_ACCESS_DENIED,
                                 "%s is for root and for the user %s only: what reads is open to "
                                 "everybody, what changes or opens is not.",
                                 member, AGENT_USER);
    return 0;
}

int access_install(sd_bus *bus)
{
    return sd_bus_add_filter(bus, NULL, on_message, NULL);
}
