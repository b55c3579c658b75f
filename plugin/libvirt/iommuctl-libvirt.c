/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The verbs 'iommuctl libvirt ...': what the libvirt agent does for people, on its own bus name;
 * and 'disable', which needs nobody but libvirt.
 *
 * iommuctl executes this program for them with its own command line, after it has checked it
 * against its tables of verbs and options: here it is only taken apart again. Sentences and exit
 * statuses are iommuctl's.
 */
#include "dbus/client/properties.h"
#include "dbus/iommuctl/base/failure.h"
#include "dbus/iommuctl/base/table.h"
#include "dbus/iommuctl/options.h"
#include "plugin/libvirt/disable.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>

/* The agent waits for libvirt, and libvirt for the domain's lock. */
#define AGENT_TIMEOUT (60 * CLIENT_USEC_PER_SEC)

/* ---- the verbs ---- */

static int verb_associate(Iommuctl *ctl, const char *domain)
{
    return client_call_name(ctl->bus, BUS_LIBVIRT_NAME, BUS_LIBVIRT_PATH, BUS_INTERFACE_LIBVIRT,
                            "Associate", AGENT_TIMEOUT, &ctl->error, NULL, "s", domain);
}

static int verb_enable(Iommuctl *ctl, const char *domain)
{
    if (!ctl->options->tenant)
        return fail_usage(ctl, "'libvirt enable' needs to know whose the domain is: add "
                               "--tenant=TENANT.");
    return client_call_name(ctl->bus, BUS_LIBVIRT_NAME, BUS_LIBVIRT_PATH, BUS_INTERFACE_LIBVIRT,
                            "Enable", AGENT_TIMEOUT, &ctl->error, NULL, "ss", domain,
                            ctl->options->tenant);
}

static int read_domains(sd_bus_message *message, Table *table)
{
    const char *uuid, *name, *tenant;
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
    int r = sd_bus_get_property(ctl->bus, BUS_LIBVIRT_NAME, BUS_LIBVIRT_PATH, BUS_INTERFACE_LIBVIRT,
                                "Domains", &ctl->error, &reply, "a(sss)");

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

static int verb_status(Iommuctl *ctl, const char *domain)
{
    g_autoptr(Properties) agent = NULL;
    g_autoptr(Table) table = table_new();
    Table *domains = NULL;
    int r = properties_get(ctl->bus, BUS_LIBVIRT_NAME, BUS_LIBVIRT_PATH, BUS_INTERFACE_LIBVIRT,
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

    bool connected = properties_number(agent, "Connected") != 0;
    table_add_bool(table, connected);
    table_set_style(table, connected ? STYLE_GOOD : STYLE_BAD);
    table_add_string(table, properties_string(agent, "State"));
    table_add_string(table, properties_string(agent, "LibvirtVersion"));
    table_add_string(table, properties_string(agent, "Uri"));
    table_add_table(table, domains);
    table_print_record(table, &ctl->output);
    return 0;
}

static int verb_disable(Iommuctl *ctl, const char *domain)
{
    if (!domain == !ctl->options->all)
        return fail_usage(ctl, "'libvirt disable' takes a domain, or --all.");
    return disable_domains(ctl, domain);
}

static const struct {
    const char *name;
    unsigned min_arguments, max_arguments;
    bool offline; /* asks nobody on the bus */
    int (*run)(Iommuctl *ctl, const char *domain);
} verbs[] = {
    {"status", 0, 0, false, verb_status},
    {"associate", 1, 1, false, verb_associate},
    {"enable", 1, 1, false, verb_enable},
    {"disable", 0, 1, true, verb_disable},
};

/* ---- the command line ---- */

/* words: "libvirt", a verb, its arguments. */
static int run(Iommuctl *ctl, char **words)
{
    unsigned n = g_strv_length(words);
    for (size_t i = 0; i < G_N_ELEMENTS(verbs); i++) {
        if (n < 2 + verbs[i].min_arguments || n > 2 + verbs[i].max_arguments ||
            strcmp(words[1], verbs[i].name) != 0)
            continue;
        int r = verbs[i].offline ? 0 : client_open_bus(ctl->options->bus, &ctl->bus);
        return r < 0 ? r : verbs[i].run(ctl, words[2]);
    }
    return fail_usage(ctl, "This program is run by 'iommuctl libvirt': see iommuctl(1).");
}

int main(int argc, char **argv)
{
    g_auto(Options) options;
    Iommuctl ctl = {.options = &options, .error = SD_BUS_ERROR_NULL};
    char **words;
    setlocale(LC_ALL, "");
    options_init(&options);
    output_init(&ctl.output);
    int r = options_parse(&options, &ctl, argc, argv, &words);
    if (r >= 0)
        r = run(&ctl, words);
    if (r < 0)
        print_failure(&ctl, r);
    sd_bus_error_free(&ctl.error);
    sd_bus_flush_close_unref(ctl.bus);
    return r >= 0 ? EXIT_SUCCESS : ctl.usage ? EXIT_USAGE : EXIT_FAILURE;
}
