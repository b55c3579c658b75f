/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The verbs 'iommuctl libvirt ...': what the libvirt agent does for people, on its own bus name.
 *
 * iommuctl executes this program for them with its own command line, after it has checked it
 * against its tables of verbs and options: here it is only taken apart again. Sentences and exit
 * statuses are iommuctl's.
 */
#include "dbus/client/properties.h"
#include "dbus/iommuctl/table.h"

#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#define EXIT_USAGE 2
/* The agent waits for libvirt, and libvirt for the domain's lock. */
#define AGENT_TIMEOUT (60 * CLIENT_USEC_PER_SEC)

typedef struct {
    Output output;
    const char *address; /* of the bus; NULL: the default */
    const char *tenant;
    sd_bus *bus;
    sd_bus_error error;
} Context;

/* ---- the verbs ---- */

static int verb_associate(Context *context, const char *domain)
{
    return client_call_name(context->bus, BUS_LIBVIRT_NAME, BUS_LIBVIRT_PATH, BUS_INTERFACE_LIBVIRT,
                            "Associate", AGENT_TIMEOUT, &context->error, NULL, "s", domain);
}

static int verb_enable(Context *context, const char *domain)
{
    return client_call_name(context->bus, BUS_LIBVIRT_NAME, BUS_LIBVIRT_PATH, BUS_INTERFACE_LIBVIRT,
                            "Enable", AGENT_TIMEOUT, &context->error, NULL, "ss", domain,
                            context->tenant);
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

static int get_domains(Context *context, Table **ret_domains)
{
    g_autoptr(sd_bus_message) reply = NULL;
    g_autoptr(Table) domains = table_new();
    int r =
        sd_bus_get_property(context->bus, BUS_LIBVIRT_NAME, BUS_LIBVIRT_PATH, BUS_INTERFACE_LIBVIRT,
                            "Domains", &context->error, &reply, "a(sss)");

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

static int verb_status(Context *context, const char *domain)
{
    g_autoptr(Properties) agent = NULL;
    g_autoptr(Table) table = table_new();
    Table *domains = NULL;
    int r = properties_get(context->bus, BUS_LIBVIRT_NAME, BUS_LIBVIRT_PATH, BUS_INTERFACE_LIBVIRT,
                           CLIENT_TIMEOUT, &context->error, &agent);

    if (r >= 0)
        r = get_domains(context, &domains);
    if (r < 0)
        return r;
    table_add_column(table, "Connected", "connected", TABLE_LEFT);
    table_add_column(table, "State", "state", TABLE_LEFT);
    table_add_column(table, "libvirt", "libvirt_version", TABLE_LEFT);
    table_add_column(table, "URI", "uri", TABLE_LEFT);
    table_add_column(table, "Associated", "domains", TABLE_LEFT);

    bool connected = properties_number(agent, "Connected") != 0;
    table_add_bool(table, connected);
    table_mark(table, connected ? MARK_GOOD : MARK_BAD);
    table_add_string(table, properties_string(agent, "State"));
    table_add_string(table, properties_string(agent, "LibvirtVersion"));
    table_add_string(table, properties_string(agent, "Uri"));
    table_add_table(table, domains);
    table_print_record(table, &context->output);
    return 0;
}

static const struct {
    const char *name;
    int n_arguments;
    bool needs_tenant;
    int (*run)(Context *context, const char *domain);
} verbs[] = {
    {"status", 0, false, verb_status},
    {"associate", 1, false, verb_associate},
    {"enable", 1, true, verb_enable},
};

/* ---- the command line ---- */

static void print_failure(const Context *context, const char *sentence)
{
    g_autofree char *clean = output_clean(&context->output, sentence);
    fprintf(stderr, "iommuctl: %s\n", clean);
}

static bool parse_options(Context *context, int argc, char **argv)
{
    static const struct option options[] = {
        {"bus", required_argument, NULL, 'b'},
        {"json", optional_argument, NULL, 'j'},
        {"no-legend", no_argument, NULL, 'l'},
        {"no-pager", no_argument, NULL, 'p'},
        {"quiet", no_argument, NULL, 'q'},
        {"tenant", required_argument, NULL, 't'},
        {0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "q", options, NULL)) >= 0) {
        switch (option) {
        case 'b':
            context->address = optarg;
            break;
        case 'j':
            context->output.json = g_strcmp0(optarg, "short") == 0 ? JSON_SHORT : JSON_PRETTY;
            break;
        case 'l':
            context->output.legend = false;
            break;
        case 't':
            context->tenant = optarg;
            break;
        case 'p':
        case 'q':
            break;
        default:
            return false;
        }
    }
    return true;
}

/* words: "libvirt", a verb, its arguments. Returns the exit status. */
static int run(Context *context, int n_words, char **words)
{
    for (size_t i = 0; i < G_N_ELEMENTS(verbs); i++) {
        if (n_words != 2 + verbs[i].n_arguments || strcmp(words[1], verbs[i].name) != 0)
            continue;
        if (verbs[i].needs_tenant && !context->tenant) {
            print_failure(context, "'libvirt enable' needs to know whose the domain is: add "
                                   "--tenant=TENANT.");
            return EXIT_USAGE;
        }
        int r = client_open_bus(context->address, &context->bus);
        if (r >= 0)
            r = verbs[i].run(context, words[2]);
        if (r >= 0)
            return EXIT_SUCCESS;
        g_autofree char *why = client_error_text(&context->error, r);
        print_failure(context, why);
        return EXIT_FAILURE;
    }
    print_failure(context, "This program is run by 'iommuctl libvirt': see iommuctl(1).");
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    Context context = {.error = SD_BUS_ERROR_NULL};

    setlocale(LC_ALL, "");
    output_init(&context.output);
    int status = parse_options(&context, argc, argv) ? run(&context, argc - optind, argv + optind)
                                                     : EXIT_USAGE;
    sd_bus_error_free(&context.error);
    sd_bus_flush_close_unref(context.bus);
    return status;
}
