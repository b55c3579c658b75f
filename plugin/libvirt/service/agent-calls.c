/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/libvirt/service/agent-calls.h"

/* Longer than the agent waits for libvirt. */
#define AGENT_TIMEOUT (8 * CLIENT_USEC_PER_SEC)

static int new_call(sd_bus *bus, const char *method, const char *uuid, sd_bus_message **ret_message)
{
    int r = sd_bus_message_new_method_call(bus, ret_message, BUS_LIBVIRT_NAME, BUS_LIBVIRT_PATH,
                                           BUS_INTERFACE_LIBVIRT, method);

    if (r >= 0)
        r = sd_bus_message_set_auto_start(*ret_message, 0);
    return r < 0 ? r : sd_bus_message_append(*ret_message, "s", uuid);
}

int agent_ask_start(sd_bus *bus, const char *uuid, AgentStart *ret_start, sd_bus_error *error)
{
    g_autoptr(sd_bus_message) message = NULL, reply = NULL;
    int r = new_call(bus, "BeginStart", uuid, &message);

    if (r < 0)
        return sd_bus_error_set_errno(error, r);
    r = client_call_message(bus, message, AGENT_TIMEOUT, error, &reply);
    if (r < 0)
        return r;
    r = sd_bus_message_read(reply, "stt", NULL, &ret_start->iommufd, &ret_start->socket);
    return r < 0 ? sd_bus_error_set_errno(error, r) : 0;
}

void agent_ask_again(sd_bus *bus, const char *uuid)
{
    g_autoptr(sd_bus_message) message = NULL;

    if (new_call(bus, "Associate", uuid, &message) >= 0 &&
        sd_bus_message_set_expect_reply(message, 0) >= 0 && sd_bus_send(bus, message, NULL) >= 0)
        (void)sd_bus_flush(bus);
}
