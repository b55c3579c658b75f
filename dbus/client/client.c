/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/client/client.h"

#include "dbus/base/connect.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

int client_open_bus(const char *address, sd_bus **ret_bus)
{
    if (!address)
        address = g_getenv(BUS_ADDRESS_VARIABLE);
    return bus_connect(address && *address ? address : "system", ret_bus);
}

/* Whether nobody owns the name that was called, nor could be started to own it. */
static bool not_running(const sd_bus_error *error)
{
    return sd_bus_error_has_names(
               error, SD_BUS_ERROR_SERVICE_UNKNOWN, SD_BUS_ERROR_NAME_HAS_NO_OWNER,
               "org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.systemd1.UnitMasked") ||
           g_str_has_prefix(error->name, "org.freedesktop.DBus.Error.Spawn.");
}

/* The error carries the name that was called, see client_call_message(). */
static char *not_running_text(const sd_bus_error *error)
{
    if (error->message && strstr(error->message, BUS_LIBVIRT_NAME))
        return g_strdup("The libvirt agent is not running: start it with "
                        "'systemctl start iommud-libvirt'.");
    return g_strdup("The iommud service is not running: start it with 'systemctl start iommud'.");
}

static bool from_bus_policy(const char *message)
{
    return !message || g_str_has_prefix(message, "Rejected send message") ||
           g_str_has_prefix(message, "Sender is not authorized");
}

static char *sentence(const char *text)
{
    size_t length = strlen(text);

    if (length > 0 && strchr(".!?", text[length - 1]))
        return g_strdup(text);
    return g_strconcat(text, ".", NULL);
}

char *client_error_text(const sd_bus_error *error, int r)
{
    if (!sd_bus_error_is_set(error)) {
        if (r == -ETIMEDOUT)
            return g_strdup("The service did not answer in time.");
        if (r == -ENOENT || r == -ECONNREFUSED || r == -ENOMEDIUM)
            return g_strdup_printf("The message bus cannot be reached: %s.", g_strerror(-r));
        return sentence(g_strerror(r < 0 ? -r : EIO));
    }
    if (not_running(error))
        return not_running_text(error);
    if (sd_bus_error_has_names(error, SD_BUS_ERROR_NO_REPLY, SD_BUS_ERROR_TIMEOUT,
                               "org.freedesktop.DBus.Error.TimedOut"))
        return g_strdup("The service did not answer in time.");
    if (sd_bus_error_has_name(error, SD_BUS_ERROR_ACCESS_DENIED) && from_bus_policy(error->message))
        return g_strdup("Access denied: only root and the user iommud-libvirt may do this.");
    return sentence(error->message && *error->message ? error->message : error->name);
}

int client_call_message(sd_bus *bus, sd_bus_message *message, uint64_t timeout_usec,
                        sd_bus_error *error, sd_bus_message **ret_reply)
{
    int r = sd_bus_call(bus, message, timeout_usec, error, ret_reply);

    if (r < 0 && error && sd_bus_error_is_set(error) && not_running(error)) {
        /* Not every bus says which name it is, and client_error_text() has nothing else. It is
         * asked for here: sending a message moves what is in it. */
        sd_bus_error_free(error);
        (void)sd_bus_error_setf(error, SD_BUS_ERROR_SERVICE_UNKNOWN,
                                "The name %s is not on the bus.",
                                sd_bus_message_get_destination(message));
    }
    return r < 0 ? r : 0;
}

static int call_v(sd_bus *bus, const char *name, const char *path, const char *interface,
                  const char *member, uint64_t timeout_usec, sd_bus_error *error,
                  sd_bus_message **ret_reply, const char *types, va_list ap)
{
    g_autoptr(sd_bus_message) message = NULL;
    int r = sd_bus_message_new_method_call(bus, &message, name, path, interface, member);

    if (r < 0)
        return r;
    if (types && *types) {
        r = sd_bus_message_appendv(message, types, ap);
        if (r < 0)
            return r;
    }
    return client_call_message(bus, message, timeout_usec, error, ret_reply);
}

int client_call(sd_bus *bus, const char *path, const char *interface, const char *member,
                uint64_t timeout_usec, sd_bus_error *error, sd_bus_message **ret_reply,
                const char *types, ...)
{
    va_list ap;
    int r;

    va_start(ap, types);
    r = call_v(bus, BUS_NAME, path, interface, member, timeout_usec, error, ret_reply, types, ap);
    va_end(ap);
    return r;
}

int client_call_name(sd_bus *bus, const char *name, const char *path, const char *interface,
                     const char *member, uint64_t timeout_usec, sd_bus_error *error,
                     sd_bus_message **ret_reply, const char *types, ...)
{
    va_list ap;
    int r;

    va_start(ap, types);
    r = call_v(bus, name, path, interface, member, timeout_usec, error, ret_reply, types, ap);
    va_end(ap);
    return r;
}

int client_get_properties(sd_bus *bus, const char *name, const char *path, const char *interface,
                          uint64_t timeout_usec, sd_bus_error *error, sd_bus_message **ret_reply)
{
    return client_call_name(bus, name, path, "org.freedesktop.DBus.Properties", "GetAll",
                            timeout_usec, error, ret_reply, "s", interface);
}
