/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/libvirt/agent/agent-bus.h"

#include "plugin/libvirt/agent/agent-domains.h"
#include "plugin/libvirt/agent/agent-starts.h"
#include "plugin/libvirt/agent/domain-job.h"

#include <unistd.h>

/* ---- who may ---- */

static int check_caller(sd_bus_message *message, sd_bus_error *error)
{
    g_autoptr(sd_bus_creds) creds = NULL;
    uid_t uid;
    int r = sd_bus_query_sender_creds(message, SD_BUS_CREDS_EUID, &creds);

    if (r >= 0)
        r = sd_bus_creds_get_euid(creds, &uid);
    if (r >= 0 && (uid == 0 || uid == geteuid()))
        return 0;
    return sd_bus_error_setf(error, SD_BUS_ERROR_ACCESS_DENIED,
                             "%s is for root and for the agent's own user only.",
                             sd_bus_message_get_member(message));
}

/* ---- Associate and Enable ---- */

/* A call that waits for libvirt. */
typedef struct {
    Agent *agent;
    WorkContext *context;
    sd_bus_message *message;
    char *domain; /* UUID or name */
    char *tenant; /* NULL: Associate */
    char *uuid;
    sd_bus_error error;
} AgentCall;

static void run_call(void *data)
{
    AgentCall *call = data;

    if (call->tenant)
        (void)domain_enable(call->context, call->domain, call->tenant, &call->uuid, &call->error);
    else
        (void)domain_resolve(call->context, call->domain, &call->uuid, &call->error);
    g_clear_pointer(&call->context, work_context_free);
}

static void on_call_done(void *data)
{
    AgentCall *call = data;

    if (call->uuid)
        agent_request_job(call->agent, call->uuid, JOB_ASSOCIATE, g_steal_pointer(&call->message));
    else
        (void)sd_bus_reply_method_error(call->message, &call->error);
    sd_bus_message_unref(call->message);
    g_free(call->domain);
    g_free(call->tenant);
    g_free(call->uuid);
    sd_bus_error_free(&call->error);
    g_free(call);
}

static int begin(Agent *agent, sd_bus_message *message, const char *domain, const char *tenant,
                 sd_bus_error *error)
{
    int r = check_caller(message, error);

    if (r < 0)
        return r;
    if (!agent->libvirt)
        return sd_bus_error_setf(error, LIBVIRT_FAILED,
                                 "The domain %s can't be associated: %s is not connected (%s).",
                                 domain, agent->uri, agent->state);
    AgentCall *call = g_new0(AgentCall, 1);
    call->agent = agent;
    call->context = work_context_new(agent->libvirt, agent->version, agent->bus_address);
    call->message = sd_bus_message_ref(message);
    call->domain = g_strdup(domain);
    call->tenant = g_strdup(tenant);
    worker_queue(agent->worker, run_call, on_call_done, call);
    return 1;
}

static int on_associate(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    const char *domain;
    int r = sd_bus_message_read(message, "s", &domain);
    return r < 0 ? r : begin(userdata, message, domain, NULL, error);
}

static int on_enable(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    const char *domain, *tenant;
    int r = sd_bus_message_read(message, "ss", &domain, &tenant);
    return r < 0 ? r : begin(userdata, message, domain, tenant, error);
}

/* ---- BeginStart ---- */

static int on_begin_start(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    const char *uuid;
    int r = sd_bus_message_read(message, "s", &uuid);

    if (r >= 0)
        r = check_caller(message, error);
    if (r < 0)
        return r;
    agent_begin_start(userdata, uuid, sd_bus_message_ref(message));
    return 1;
}

/* ---- properties ---- */

static int get_connected(sd_bus *bus, const char *path, const char *interface, const char *property,
                         sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
    Agent *agent = userdata;
    return sd_bus_message_append(reply, "b", agent->libvirt != NULL);
}

static int get_version(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
    Agent *agent = userdata;
    g_autofree char *version = agent->version ? libvirt_version_text(agent->version) : g_strdup("");
    return sd_bus_message_append(reply, "s", version);
}

static int get_uri(sd_bus *bus, const char *path, const char *interface, const char *property,
                   sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
    Agent *agent = userdata;
    return sd_bus_message_append(reply, "s", agent->uri);
}

static int get_state(sd_bus *bus, const char *path, const char *interface, const char *property,
                     sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
    Agent *agent = userdata;
    return sd_bus_message_append(reply, "s", agent->state);
}

static int get_domains(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
    Agent *agent = userdata;
    g_autoptr(GPtrArray) list = associations_list(agent->associations);
    int r = sd_bus_message_open_container(reply, 'a', "(sss)");

    for (guint i = 0; r >= 0 && i < list->len; i++) {
        const Association *association = list->pdata[i];
        r = sd_bus_message_append(reply, "(sss)", association->uuid, association->name,
                                  association->tenant);
    }
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

static const sd_bus_vtable vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD_WITH_ARGS("Associate", SD_BUS_ARGS("s", domain), SD_BUS_NO_RESULT, on_associate,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Enable", SD_BUS_ARGS("s", domain, "s", tenant), SD_BUS_NO_RESULT,
                            on_enable, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("BeginStart", SD_BUS_ARGS("s", uuid),
                            SD_BUS_RESULT("s", tenant, "t", iommufd, "t", socket), on_begin_start,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_PROPERTY("Connected", "b", get_connected, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_PROPERTY("LibvirtVersion", "s", get_version, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_PROPERTY("State", "s", get_state, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_PROPERTY("Uri", "s", get_uri, 0, SD_BUS_VTABLE_PROPERTY_CONST),
    SD_BUS_PROPERTY("Domains", "a(sss)", get_domains, 0, SD_BUS_VTABLE_PROPERTY_EMITS_INVALIDATION),
    SD_BUS_VTABLE_END,
};

void agent_bus_changed(Agent *agent, const char *property)
{
    (void)sd_bus_emit_properties_changed(agent->bus, BUS_LIBVIRT_PATH, BUS_INTERFACE_LIBVIRT,
                                         property, NULL);
}

/* ---- what iommud says ---- */

static int on_owner(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    const char *name, *old, *new;

    /* It has restarted, perhaps with fewer tenants, perhaps without its descriptors. */
    if (sd_bus_message_read(message, "sss", &name, &old, &new) >= 0 && *new)
        agent_sync_all(userdata);
    return 0;
}

static int on_tenant_new(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    Agent *agent = userdata;
    const char *tenant;

    if (sd_bus_message_read(message, "so", &tenant, NULL) >= 0) {
        associations_request_tenant(agent->associations, tenant);
        agent_dispatch(agent);
    }
    return 0;
}

static int on_tenant_removed(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    Agent *agent = userdata;
    const char *tenant;

    if (sd_bus_message_read(message, "so", &tenant, NULL) >= 0) {
        associations_lost(agent->associations, tenant);
        agent_bus_changed(agent, "Domains");
    }
    return 0;
}

/* However its start ended: of one that has failed libvirt has no event. */
static int on_machine_removed(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    Agent *agent = userdata;
    const Association *association;
    const char *uuid;

    if (sd_bus_message_read(message, "so", &uuid, NULL) >= 0 &&
        (association = associations_find(agent->associations, uuid)) && association->given)
        agent_request_job(agent, uuid, JOB_RENEW, NULL);
    return 0;
}

/* Whether the dictionary of a PropertiesChanged has this property. */
static bool has_property(sd_bus_message *message, const char *property)
{
    const char *name;
    int r = sd_bus_message_skip(message, "s");

    if (r >= 0)
        r = sd_bus_message_enter_container(message, 'a', "{sv}");
    while (r >= 0 && (r = sd_bus_message_enter_container(message, 'e', "sv")) > 0) {
        r = sd_bus_message_read(message, "s", &name);
        if (r >= 0 && g_str_equal(name, property))
            return true;
        if (r >= 0)
            r = sd_bus_message_skip(message, "v");
        if (r >= 0)
            r = sd_bus_message_exit_container(message);
    }
    return false;
}

static int on_manager_changed(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
    /* Domains that name no tenant have another one now. */
    if (has_property(message, "DefaultTenant"))
        agent_sync_all(userdata);
    return 0;
}

static int follow_iommud(Agent *agent)
{
    static const char owner[] = "type='signal',sender='org.freedesktop.DBus',"
                                "interface='org.freedesktop.DBus',member='NameOwnerChanged',"
                                "path='/org/freedesktop/DBus',arg0='" BUS_NAME "'";
    static const struct {
        const char *interface, *member;
        sd_bus_message_handler_t handler;
    } signals[] = {
        {BUS_INTERFACE_MANAGER, "TenantNew", on_tenant_new},
        {BUS_INTERFACE_MANAGER, "TenantRemoved", on_tenant_removed},
        {BUS_INTERFACE_MANAGER, "MachineRemoved", on_machine_removed},
        {"org.freedesktop.DBus.Properties", "PropertiesChanged", on_manager_changed},
    };
    int r = sd_bus_add_match_async(agent->bus, NULL, owner, on_owner, NULL, agent);

    for (size_t i = 0; r >= 0 && i < G_N_ELEMENTS(signals); i++)
        r = sd_bus_match_signal_async(agent->bus, NULL, BUS_NAME, BUS_PATH, signals[i].interface,
                                      signals[i].member, signals[i].handler, NULL, agent);
    return r;
}

int agent_bus_start(Agent *agent)
{
    int r = client_open_bus(agent->bus_address, &agent->bus);

    if (r < 0)
        return r;
    r = sd_bus_set_exit_on_disconnect(agent->bus, 1);
    if (r >= 0)
        r = sd_bus_attach_event(agent->bus, agent->event, SD_EVENT_PRIORITY_NORMAL);
    if (r >= 0)
        r = sd_bus_add_object_vtable(agent->bus, NULL, BUS_LIBVIRT_PATH, BUS_INTERFACE_LIBVIRT,
                                     vtable, agent);
    if (r >= 0)
        r = follow_iommud(agent);
    if (r >= 0)
        r = sd_bus_request_name(agent->bus, BUS_LIBVIRT_NAME, 0);
    return r;
}
