/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The command line: one table of verbs and one of options; help, parsing and the completion of
 * command lines all read them. */
#include "dbus/iommuctl/iommuctl.h"

#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

static const Verb verbs[] = {
    {"status", "[TENANT...]", "Show tenants, machines and devices as a tree", 0, G_MAXUINT,
     .names = NAMES_TENANTS, .run = verb_status},
    {"top", "", "Show who pins and maps, again and again", 0, 0,
     .options = OPTION_TENANTS | OPTION_MACHINES | OPTION_SORT | OPTION_BATCH | OPTION_ITERATIONS |
                OPTION_DELAY,
     .run = verb_top},
    {"tenant list", "", "List tenants", 0, 0, .run = verb_tenant_list},
    {"tenant show", "TENANT", "Show one tenant", 1, 1, .names = NAMES_TENANTS,
     .run = verb_tenant_show},
    {"tenant create", "TENANT", "Make a tenant", 1, 1,
     .options = OPTION_LIMIT | OPTION_COUNT | OPTION_ISOLATION | OPTION_ACCOUNTING | OPTION_DEVICE,
     .run = verb_tenant_create},
    {"tenant set-limit", "TENANT SIZE", "Change how much a tenant may pin", 2, 2,
     .names = NAMES_TENANTS, .run = verb_tenant_set_limit},
    {"tenant delete", "TENANT", "Remove a tenant that has no machine", 1, 1, .names = NAMES_TENANTS,
     .run = verb_tenant_delete},
    {"machines", "[TENANT]", "List machines", 0, 1, .names = NAMES_TENANTS, .run = verb_machines},
    {"machine show", "MACHINE", "Show one machine, by UUID or name", 1, 1, .names = NAMES_MACHINES,
     .run = verb_machine_show},
    {"machine release", "MACHINE", "Give back what a dead machine holds", 1, 1,
     .names = NAMES_MACHINES, .run = verb_machine_release},
    {"run", "TENANT -- COMMAND...", "Run a command as a machine of a tenant", 2, G_MAXUINT,
     .options = OPTION_DEVICE | OPTION_MEMORY | OPTION_NAME | OPTION_UUID, .names = NAMES_TENANTS,
     .offline = true, .command = true, .run = verb_run},
    {"devices", "", "List PCI devices, and which can be assigned", 0, 0, .run = verb_devices},
    {"device bind", "DEVICE DRIVER", "Bind a device to a driver", 2, 2, .names = NAMES_DEVICES,
     .run = verb_device_bind},
    {"device restore", "DEVICE", "Bind a device to its own driver again", 1, 1,
     .names = NAMES_DEVICES, .run = verb_device_restore},
    {"objects", "TENANT", "List what is in a tenant's IOMMUFD", 1, 1, .names = NAMES_TENANTS,
     .run = verb_objects},
    {"reap", "TENANT", "Destroy what dead processes left", 1, 1, .names = NAMES_TENANTS,
     .run = verb_reap},
    {"reload", "", "Read the configuration again", 0, 0, .run = verb_reload},
    {"libvirt status", "", "Show the libvirt agent and its domains", 0, 0, .external = true,
     .run = verb_libvirt},
    {"libvirt associate", "DOMAIN", "Give a domain its tenant's IOMMUFD now", 1, 1,
     .names = NAMES_DOMAINS, .external = true, .run = verb_libvirt},
    {"libvirt enable", "DOMAIN", "Put a domain under iommud", 1, 1, .options = OPTION_TENANT,
     .names = NAMES_DOMAINS, .external = true, .run = verb_libvirt},
    {"doctor", "", "Check this host, say what to do", 0, 0, .offline = true, .run = verb_doctor},
};

/* Beyond what a char can be: options without a short form. */
enum {
    ARG_VERSION = 0x100,
    ARG_BUS,
    ARG_JSON,
    ARG_NO_LEGEND,
    ARG_NO_PAGER,
    ARG_LIST_VERBS,
    ARG_LIMIT,
    ARG_ISOLATION,
    ARG_ACCOUNTING,
    ARG_DEVICE,
    ARG_TENANT,
    ARG_MEMORY,
    ARG_NAME,
    ARG_UUID,
    ARG_COUNT,
    ARG_TENANTS,
    ARG_MACHINES,
    ARG_SORT,
};

typedef struct {
    const char *name;
    const char *argument; /* NULL: none; with '[' in front: it may be left out */
    const char *help;
    int id;
    unsigned verb_option; /* VerbOptions, 0: every verb takes it */
} Option;

static const Option options[] = {
    {"help", NULL, "Show this help", 'h', 0},
    {"version", NULL, "Show the version", ARG_VERSION, 0},
    {"bus", "BUS", "system (the default), user, or a D-Bus address", ARG_BUS, 0},
    {"json", "[pretty|short", "Print JSON", ARG_JSON, 0},
    {"no-legend", NULL, "Print no headings and no totals", ARG_NO_LEGEND, 0},
    {"no-pager", NULL, "Taken for habit's sake: there is no pager", ARG_NO_PAGER, 0},
    {"quiet", NULL, "Print only what matters", 'q', 0},
    {"list-verbs", NULL, "List verbs, for the completion of command lines", ARG_LIST_VERBS, 0},
    {"limit", "SIZE", "What it may pin: 64G, 512M, infinity", ARG_LIMIT, OPTION_LIMIT},
    {"count", "BYTES", "Its limit counts 'charged' or 'unique' bytes", ARG_COUNT, OPTION_COUNT},
    {"isolation", "MODE", "One IOMMUFD per 'tenant' or 'machine'", ARG_ISOLATION, OPTION_ISOLATION},
    {"accounting", "MODE", "Kernel counts by 'process' or 'user'", ARG_ACCOUNTING,
     OPTION_ACCOUNTING},
    {"device", "DEVICE", "0000:81:00.0; of 'create' also 0000:81:*, 10de:*", ARG_DEVICE,
     OPTION_DEVICE},
    {"tenant", "TENANT", "Whose the domain is", ARG_TENANT, OPTION_TENANT},
    {"memory", "SIZE", "What it may pin; 1G without it", ARG_MEMORY, OPTION_MEMORY},
    {"name", "NAME", "Its name; without it the command's", ARG_NAME, OPTION_NAME},
    {"uuid", "UUID", "Its UUID; without it a new one", ARG_UUID, OPTION_UUID},
    {"tenants", NULL, "A line for each tenant", ARG_TENANTS, OPTION_TENANTS},
    {"machines", NULL, "A line for each machine, the default", ARG_MACHINES, OPTION_MACHINES},
    {"sort", "KEY", "name, pinned, limit, share, maps, ...", ARG_SORT, OPTION_SORT},
    {"batch", NULL, "Take no keys, and print until killed", 'b', OPTION_BATCH},
    {"iterations", "N", "End after so many times, 0: never", 'n', OPTION_ITERATIONS},
    {"delay", "SECONDS", "Time between them, 1 without it", 'd', OPTION_DELAY},
    {"once", NULL, "The same as --iterations=1", '1', OPTION_ITERATIONS},
};

int verb_reload(Iommuctl *ctl, char **arguments)
{
    return client_call(ctl->bus, BUS_PATH, BUS_INTERFACE_MANAGER, "Reload", CLIENT_TIMEOUT,
                       &ctl->error, NULL, NULL);
}

/* ---- help ---- */

static bool has_short_form(const Option *option)
{
    return option->id < ARG_VERSION;
}

static char *option_text(const Option *option)
{
    g_autofree char *letter =
        has_short_form(option) ? g_strdup_printf("-%c", option->id) : g_strdup("  ");

    if (!option->argument)
        return g_strdup_printf("%s --%s", letter, option->name);
    if (option->argument[0] == '[')
        return g_strdup_printf("%s --%s[=%s]", letter, option->name, option->argument + 1);
    return g_strdup_printf("%s --%s=%s", letter, option->name, option->argument);
}

/* The options whose verb_option is in wanted, or those of every verb when it is 0. */
static void print_options(unsigned wanted)
{
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        g_autofree char *text = option_text(&options[i]);

        if (wanted == 0 ? options[i].verb_option == 0 : (options[i].verb_option & wanted) != 0)
            printf("  %-24s %s\n", text, options[i].help);
    }
}

static void print_help(void)
{
    printf("iommuctl [OPTION...] [VERB [ARGUMENT...]]\n\n"
           "Ask and steer iommud, the host's broker for /dev/iommu.\n\nVerbs:\n");
    for (size_t i = 0; i < G_N_ELEMENTS(verbs); i++) {
        g_autofree char *text = g_strdup_printf("%s %s", verbs[i].name, verbs[i].arguments);

        printf("  %-28s %s\n", text, verbs[i].help);
    }
    printf("\nOptions:\n");
    print_options(0);
    for (size_t i = 0; i < G_N_ELEMENTS(verbs); i++) {
        if (verbs[i].options == 0)
            continue;
        printf("\nOptions of '%s':\n", verbs[i].name);
        print_options(verbs[i].options);
    }
    printf("\nWithout a verb: status. See iommuctl(1).\n");
}

/* A line per verb: verb, what its first argument names, its options; separated by tabs. */
static void print_verbs(void)
{
    static const char *const names[] = {
        [NAMES_NONE] = "-",          [NAMES_TENANTS] = "tenants", [NAMES_MACHINES] = "machines",
        [NAMES_DEVICES] = "devices", [NAMES_DOMAINS] = "domains",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(verbs); i++) {
        printf("%s\t%s\t", verbs[i].name, names[verbs[i].names]);
        for (size_t k = 0; k < G_N_ELEMENTS(options); k++) {
            const Option *option = &options[k];

            if (option->verb_option == 0 || (option->verb_option & verbs[i].options))
                printf("--%s%s ", option->name,
                       option->argument && option->argument[0] != '[' ? "=" : "");
        }
        printf("\n");
    }
}

/* ---- parsing ---- */

static int parse_json(Iommuctl *ctl, const char *text)
{
    if (!text || strcmp(text, "pretty") == 0)
        ctl->output.json = JSON_PRETTY;
    else if (strcmp(text, "short") == 0)
        ctl->output.json = JSON_SHORT;
    else
        return fail_usage(ctl, "--json takes 'pretty' or 'short', not '%s'.", text);
    return 0;
}

static int parse_verb_option(Iommuctl *ctl, const Option *option, const char *argument)
{
    ctl->given |= option->verb_option;
    switch (option->id) {
    case ARG_LIMIT:
        return parse_size(ctl, argument, &ctl->limit);
    case ARG_ISOLATION:
        ctl->isolation = argument;
        break;
    case ARG_ACCOUNTING:
        ctl->accounting = argument;
        break;
    case ARG_DEVICE:
        g_ptr_array_add(ctl->devices, g_strdup(argument));
        break;
    case ARG_TENANT:
        ctl->tenant = argument;
        break;
    case ARG_MEMORY:
        return parse_size(ctl, argument, &ctl->memory);
    case ARG_NAME:
        ctl->name = argument;
        break;
    case ARG_UUID:
        ctl->uuid = argument;
        break;
    case ARG_COUNT:
        ctl->count = argument;
        break;
    case ARG_SORT:
        ctl->sort = argument;
        break;
    case 'n':
        return parse_iterations(ctl, argument, &ctl->iterations);
    case '1':
        ctl->iterations = 1;
        break;
    case 'd':
        return parse_delay(ctl, argument, &ctl->delay);
    }
    return 0;
}

/* > 0: the option was all there is to do. */
static int parse_option(Iommuctl *ctl, const Option *option, const char *argument)
{
    switch (option->id) {
    case 'h':
        print_help();
        return 1;
    case ARG_VERSION:
        printf("iommuctl %s\n", VERSION);
        return 1;
    case ARG_LIST_VERBS:
        print_verbs();
        return 1;
    case ARG_BUS:
        ctl->address = argument;
        return 0;
    case ARG_JSON:
        return parse_json(ctl, argument);
    case ARG_NO_LEGEND:
        ctl->output.legend = false;
        return 0;
    case ARG_NO_PAGER:
        return 0;
    case 'q':
        ctl->quiet = true;
        return 0;
    default:
        return parse_verb_option(ctl, option, argument);
    }
}

static const Option *option_by_id(int id)
{
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        if (options[i].id == id)
            return &options[i];
    }
    return NULL;
}

/* The table in the form of getopt_long(). */
static struct option *long_options(void)
{
    struct option *list = g_new0(struct option, G_N_ELEMENTS(options) + 1);

    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        const char *argument = options[i].argument;

        list[i].name = options[i].name;
        list[i].val = options[i].id;
        list[i].has_arg = !argument            ? no_argument
                          : argument[0] == '[' ? optional_argument
                                               : required_argument;
    }
    return list;
}

/* And its letters, for those that have one. */
static char *short_options(void)
{
    /* The colon: getopt() tells apart what it does not like, and leaves the words to us. */
    GString *letters = g_string_new(":");

    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        if (has_short_form(&options[i]))
            g_string_append_printf(letters, "%c%s", options[i].id, options[i].argument ? ":" : "");
    }
    return g_string_free(letters, FALSE);
}

/* > 0: there is nothing left to do. */
static int parse_options(Iommuctl *ctl, int argc, char **argv)
{
    g_autofree struct option *list = long_options();
    g_autofree char *letters = short_options();
    int id;
    int r = 0;

    while (r == 0 && (id = getopt_long(argc, argv, letters, list, NULL)) >= 0) {
        const char *word = argv[optind - 1];

        if (id == ':')
            r = fail_usage(ctl, "The option %s needs a value: see 'iommuctl --help'.", word);
        else if (id == '?')
            r = fail_usage(ctl, "There is no option %s of this form: see 'iommuctl --help'.", word);
        else
            r = parse_option(ctl, option_by_id(id), optarg);
    }
    ctl->dashes = strcmp(argv[optind - 1], "--") == 0;
    return r;
}

static const Verb *verb_by_words(char **words, unsigned *ret_used)
{
    for (size_t i = 0; i < G_N_ELEMENTS(verbs); i++) {
        g_auto(GStrv) name = g_strsplit(verbs[i].name, " ", 2);
        unsigned n = g_strv_length(name);
        bool same = true;

        for (unsigned k = 0; same && k < n; k++)
            same = words[k] && strcmp(words[k], name[k]) == 0;
        if (same) {
            *ret_used = n;
            return &verbs[i];
        }
    }
    return NULL;
}

static int check_verb(Iommuctl *ctl, const Verb *verb, char **arguments)
{
    unsigned n = g_strv_length(arguments);
    unsigned strange = ctl->given & ~verb->options;

    if (n < verb->min_arguments || n > verb->max_arguments || (verb->command && !ctl->dashes))
        return fail_usage(ctl, "Write it like this: 'iommuctl %s%s%s'.", verb->name,
                          *verb->arguments ? " " : "", verb->arguments);
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        if (options[i].verb_option & strange)
            return fail_usage(ctl, "'%s' takes no option --%s.", verb->name, options[i].name);
    }
    return 0;
}

/* ---- running ---- */

static int run_verb(Iommuctl *ctl, const Verb *verb, char **arguments)
{
    if (verb->external)
        return verb->run(ctl, arguments);
    int r = client_open_bus(ctl->address, &ctl->bus);
    ctl->bus_error = r;
    if (r < 0 && !verb->offline)
        return r;
    return verb->run(ctl, arguments);
}

static int run(Iommuctl *ctl, int argc, char **argv)
{
    char *none[] = {NULL};
    unsigned used = 0;
    const Verb *verb = &verbs[0];
    char **words;
    int r = parse_options(ctl, argc, argv);

    if (r != 0)
        return MIN(r, 0);
    words = argc > optind ? argv + optind : none;
    if (*words)
        verb = verb_by_words(words, &used);
    if (!verb)
        return fail_usage(ctl, "There is no verb '%s%s%s': see 'iommuctl --help'.", words[0],
                          words[1] ? " " : "", words[1] ? words[1] : "");
    r = check_verb(ctl, verb, words + used);
    return r < 0 ? r : run_verb(ctl, verb, words + used);
}

int main(int argc, char **argv)
{
    Iommuctl ctl = {
        .argv = argv,
        .error = SD_BUS_ERROR_NULL,
        .limit = UINT64_MAX,
        .memory = RUN_MEMORY,
        .delay = TOP_DELAY,
    };
    int status;

    setlocale(LC_ALL, "");
    output_init(&ctl.output);
    ctl.devices = g_ptr_array_new_with_free_func(g_free);
    status = run(&ctl, argc, argv);
    if (status < 0) {
        print_failure(&ctl, status);
        status = ctl.usage ? EXIT_USAGE : EXIT_FAILURE;
    }
    g_ptr_array_unref(ctl.devices);
    sd_bus_error_free(&ctl.error);
    sd_bus_flush_close_unref(ctl.bus);
    return status;
}
