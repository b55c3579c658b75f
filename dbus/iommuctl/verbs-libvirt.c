/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the libvirt agent does for people, on its own bus name. */
#include "dbus/iommuctl/iommuctl.h"

/* The agent waits for libvirt, and libvirt for the domain's lock. */
#define AGENT_TIMEOUT (60 * CLIENT_USEC_PER_SEC)

int verb_libvirt_associate(Iommuctl *ctl, char **arguments)
{
    return client_call_name(ctl->bus, CLIENT_LIBVIRT_BUS_NAME, CLIENT_LIBVIRT_PATH, CLIENT_LIBVIRT,
                            "Associate", AGENT_TIMEOUT, &ctl->error, NULL, "s", arguments[0]);
}

int verb_libvirt_enable(Iommuctl *ctl, char **arguments)
{
    if (!ctl->tenant)
        return fail_usage(ctl, "'libvirt enable' needs to know whose the domain is: add "
                               "--tenant=TENANT.");
    return client_call_name(ctl->bus, CLIENT_LIBVIRT_BUS_NAME, CLIENT_LIBVIRT_PATH, CLIENT_LIBVIRT,
                            "Enable", AGENT_TIMEOUT, &ctl->error, NULL, "ss", arguments[0],
                            ctl->tenant);
}

static int read_domains(sd_bus_message *message, Table *table)
{
    const char *uuid;
    const char *name;
    const char *tenant;
    int r = sd_bus_message_enter_container(message, SD_BUS_TYPE_ARRAY, "(sss)");

    while (r >= 0 && (r = sd_bus_message_read(message, "(sss)", &uuid, &name, &tenant)) > 0) {
        table_add_string(table, uuid);
        table_add_string(table, name);
        table_add_string(table, tenant);
    }
    return r;
}

static int get_domains(Iommuctl *ctl, Table **ret_domains)
{
    g_autoptr(sd_bus_message) reply = NULL;
    g_autoptr(Table) domains = table_new();
    int r = sd_bus_get_property(ctl->bus, CLIENT_LIBVIRT_BUS_NAME, CLIENT_LIBVIRT_PATH,
                                CLIENT_LIBVIRT, "Domains", &ctl->error, &reply, "a(sss)");

    if (r < 0)
        return r;
    table_add_column(domains, "UUID", "uuid", TABLE_LEFT);
    table_add_column(domains, "DOMAIN", "name", TABLE_LEFT);
    table_add_column(domains, "TENANT", "tenant", TABLE_LEFT);
    r = read_domains(reply, domains);
    if (r < 0)
        return r;
    *ret_domains = g_steal_pointer(&domains);
    return 0;
}

int verb_libvirt_status(Iommuctl *ctl, char **arguments)
{
    g_autoptr(Properties) agent = NULL;
    g_autoptr(Table) table = table_new();
    Table *domains = NULL;
    bool connected;
    int r = properties_get(ctl->bus, CLIENT_LIBVIRT_BUS_NAME, CLIENT_LIBVIRT_PATH, CLIENT_LIBVIRT,
                           CLIENT_TIMEOUT, &ctl->error, &agent);

    if (r >= 0)
        r = get_domains(ctl, &domains);
    if (r < 0)
        return r;
    table_add_column(table, "Connected", "connected", TABLE_LEFT);
    table_add_column(table, "State", "state", TABLE_LEFT);
    table_add_column(table, "libvirt", "libvirt_version", TABLE_LEFT);
    table_add_column(table, "URI", "uri", TABLE_LEFT);
    table_add_column(table, "Associated", "domains", TABLE_LEFT);

    connected = properties_number(agent, "Connected") != 0;
    table_add_bool(table, connected);
    table_mark(table, connected ? MARK_GOOD : MARK_BAD);
    table_add_string(table, properties_string(agent, "State"));
    table_add_string(table, properties_string(agent, "LibvirtVersion"));
    table_add_string(table, properties_string(agent, "Uri"));
    table_add_table(table, domains);
    table_print_record(table, &ctl->output);
    return 0;
}
