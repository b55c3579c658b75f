/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The command line: one table of verbs. A verb is a row there; help and the completion of command
 * lines read it, too. */
#include "config.h"
#include "dbus/iommuctl/base/failure.h"
#include "dbus/iommuctl/doctor/doctor.h"
#include "dbus/iommuctl/options.h"
#include "dbus/iommuctl/status.h"
#include "dbus/iommuctl/top.h"
#include "dbus/iommuctl/verb-run.h"
#include "dbus/iommuctl/verbs-device.h"
#include "dbus/iommuctl/verbs-machine.h"
#include "dbus/iommuctl/verbs-object.h"
#include "dbus/iommuctl/verbs-tenant.h"

#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* In the environment: the folder of such programs, in place of the installed one, for tests. */
#define PROGRAMS_VARIABLE "IOMMUCTL_PROGRAMS"

typedef struct {
    const char *name; /* one or two words */
    const char *arguments;
    const char *help;
    unsigned min_arguments;
    unsigned max_arguments;
    int (*run)(Iommuctl *ctl, char **arguments);
    const char *program; /* in place of run: one that gets the whole command line */
    const char *names;   /* what the first argument names, for the completion */
    bool offline;        /* works without a bus, too */
    bool command;        /* a command follows "--", whose options are not ours */
} Verb;

static int verb_reload(Iommuctl *ctl, char **arguments)
{
    return client_call(ctl->bus, BUS_PATH, BUS_INTERFACE_MANAGER, "Reload", CLIENT_TIMEOUT,
                       &ctl->error, NULL, NULL);
}

/* clang-format off */
static const Verb verbs[] = {
    {"status", "[TENANT...]", "Show tenants, machines and devices as a tree", 0, G_MAXUINT,
     verb_status, .names = "tenants"},
    {"top", "", "Show who pins and maps, again and again", 0, 0, verb_top},
    {"tenant list", "", "List tenants", 0, 0, verb_tenant_list},
    {"tenant show", "TENANT", "Show one tenant", 1, 1, verb_tenant_show, .names = "tenants"},
    {"tenant create", "TENANT", "Make a tenant", 1, 1, verb_tenant_create},
    {"tenant set-limit", "TENANT SIZE", "Change how much a tenant may pin", 2, 2,
     verb_tenant_set_limit, .names = "tenants"},
    {"tenant delete", "TENANT", "Remove a tenant that has no machine", 1, 1, verb_tenant_delete,
     .names = "tenants"},
    {"machines", "[TENANT]", "List machines", 0, 1, verb_machines, .names = "tenants"},
    {"machine show", "MACHINE", "Show one machine, by UUID or name", 1, 1, verb_machine_show,
     .names = "machines"},
    {"machine release", "MACHINE", "Give back what a dead machine holds", 1, 1,
     verb_machine_release, .names = "machines"},
    {"run", "TENANT -- COMMAND...", "Run a command as a machine of a tenant", 2, G_MAXUINT,
     verb_run, .names = "tenants", .offline = true, .command = true},
    {"devices", "", "List PCI devices, and which can be assigned", 0, 0, verb_devices},
    {"device bind", "DEVICE DRIVER", "Bind a device to a driver", 2, 2, verb_device_bind,
     .names = "devices"},
    {"device restore", "DEVICE", "Bind a device to its own driver again", 1, 1,
     verb_device_restore, .names = "devices"},
    {"objects", "TENANT", "List what is in a tenant's IOMMUFD", 1, 1, verb_objects,
     .names = "tenants"},
    {"reap", "TENANT", "Destroy what dead processes left", 1, 1, verb_reap, .names = "tenants"},
    {"reload", "", "Read the configuration again", 0, 0, verb_reload},
    {"libvirt status", "", "Show the libvirt agent and its domains", 0, 0,
     .program = "iommuctl-libvirt"},
    {"libvirt associate", "DOMAIN", "Give a domain its tenant's IOMMUFD now", 1, 1,
     .program = "iommuctl-libvirt", .names = "domains"},
    {"libvirt enable", "DOMAIN", "Put a domain under iommud", 1, 1,
     .program = "iommuctl-libvirt", .names = "domains"},
    {"libvirt disable", "[DOMAIN]", "Take a domain out of iommud again", 0, 1,
     .program = "iommuctl-libvirt", .names = "domains"},
    {"doctor", "", "Check this host, say what to do", 0, 0, verb_doctor, .offline = true},
};
/* clang-format on */

/* ---- help ---- */

static void print_help(void)
{
    printf("iommuctl [OPTION...] [VERB [ARGUMENT...]]\n\n"
           "Ask and steer iommud, the host's broker for /dev/iommu.\n\nVerbs:\n");
    for (size_t i = 0; i < G_N_ELEMENTS(verbs); i++) {
        g_autofree char *text = g_strdup_printf("%s %s", verbs[i].name, verbs[i].arguments);
        printf("  %-28s %s\n", text, verbs[i].help);
    }
    options_help(stdout, NULL, "\nOptions:\n");
    for (size_t i = 0; i < G_N_ELEMENTS(verbs); i++) {
        g_autofree char *heading = g_strdup_printf("\nOptions of '%s':\n", verbs[i].name);
        options_help(stdout, verbs[i].name, heading);
    }
    printf("\nWithout a verb: status. See iommuctl(1).\n");
}

/* A line per verb: verb, what its first argument names, its options; separated by tabs. */
static void print_verbs(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(verbs); i++) {
        printf("%s\t%s\t", verbs[i].name, verbs[i].names ? verbs[i].names : "-");
        options_list(stdout, verbs[i].name);
        printf("\n");
    }
}

/* ---- running ---- */

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
    if (n < verb->min_arguments || n > verb->max_arguments ||
        (verb->command && !ctl->options->dashes))
        return fail_usage(ctl, "Write it like this: 'iommuctl %s%s%s'.", verb->name,
                          *verb->arguments ? " " : "", verb->arguments);
    return options_check(ctl->options, ctl, verb->name);
}

/* What belongs to another room is a program of that room. */
static int run_program(Iommuctl *ctl, const char *program, char **argv)
{
    const char *folder = g_getenv(PROGRAMS_VARIABLE);
    g_autofree char *path = g_build_filename(folder ? folder : PROGRAMS_DIR, program, NULL);
    execv(path, argv);
    return fail(ctl,
                "This needs %s, which can't be executed (%s): install the part of iommud that it "
                "comes with.",
                path, g_strerror(errno));
}

static int run_verb(Iommuctl *ctl, const Verb *verb, char **argv, char **arguments)
{
    int r = check_verb(ctl, verb, arguments);
    if (r < 0)
        return r;
    if (verb->program)
        return run_program(ctl, verb->program, argv);
    ctl->bus_error = client_open_bus(ctl->options->bus, &ctl->bus);
    if (ctl->bus_error < 0 && !verb->offline)
        return ctl->bus_error;
    return verb->run(ctl, arguments);
}

static int run(Iommuctl *ctl, Options *options, int argc, char **argv)
{
    unsigned used = 0;
    const Verb *verb = &verbs[0];
    char **words;
    int r = options_parse(options, ctl, argc, argv, &words);
    if (r < 0)
        return r;
    if (options->help)
        print_help();
    else if (options->version)
        printf("iommuctl %s\n", VERSION);
    else if (options->list_verbs)
        print_verbs();
    if (options->help || options->version || options->list_verbs)
        return 0;
    if (*words)
        verb = verb_by_words(words, &used);
    if (!verb)
        return fail_usage(ctl, "There is no verb '%s%s%s': see 'iommuctl --help'.", words[0],
                          words[1] ? " " : "", words[1] ? words[1] : "");
    return run_verb(ctl, verb, argv, words + used);
}

int main(int argc, char **argv)
{
    g_auto(Options) options;
    Iommuctl ctl = {.options = &options, .error = SD_BUS_ERROR_NULL};
    setlocale(LC_ALL, "");
    output_init(&ctl.output);
    options_init(&options);
    int status = run(&ctl, &options, argc, argv);
    if (status < 0) {
        print_failure(&ctl, status);
        status = ctl.usage ? EXIT_USAGE : EXIT_FAILURE;
    }
    sd_bus_error_free(&ctl.error);
    sd_bus_flush_close_unref(ctl.bus);
    return status;
}
