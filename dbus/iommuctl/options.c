/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/iommuctl/options.h"

#include "dbus/iommuctl/base/failure.h"
#include "dbus/iommuctl/top-model.h"
#include "kernel/base/enum-table.h"
#include "policy/size.h"

#include <getopt.h>
#include <stddef.h>
#include <string.h>

#define DELAY_MIN 0.1
#define DELAY_MAX 3600.0

typedef enum {
    TYPE_LAST, /* a flag behind which nothing is read */
    TYPE_FLAG,
    TYPE_IGNORED,
    TYPE_TEXT,
    TYPE_TEXTS,  /* as often as it is given */
    TYPE_CHOICE, /* one of its values; without an argument the first */
    TYPE_SIZE,
    TYPE_TIMES,
    TYPE_SECONDS,
} Type;

typedef struct {
    const char *name;
    char letter;          /* its short form, or '\0' */
    const char *argument; /* NULL: none; with '[' in front: it may be left out */
    const char *help;
    const char *verbs; /* separated by '|'; NULL: every verb takes it */
    Type type;
    size_t offset;             /* of its field */
    const char *const *values; /* what can follow, "@KIND": names; of a choice what must */
    const char *preset;        /* the argument of one that takes none */
} Option;

#define FIELD(name) offsetof(Options, name)
#define VALUES(...) ((const char *const[]){__VA_ARGS__, NULL})

/* clang-format off */
static const Option options_table[] = {
    {"help", 'h', NULL, "Show this help", NULL, TYPE_LAST, FIELD(help)},
    {"version", 0, NULL, "Show the version", NULL, TYPE_LAST, FIELD(version)},
    {"bus", 0, "BUS", "system (the default), user, or a D-Bus address", NULL, TYPE_TEXT, FIELD(bus),
     VALUES("system", "user")},
    {"json", 0, "[pretty|short", "Print JSON", NULL, TYPE_CHOICE, FIELD(json),
     VALUES("pretty", "short")},
    {"no-legend", 0, NULL, "Print no headings and no totals", NULL, TYPE_FLAG, FIELD(no_legend)},
    {"no-pager", 0, NULL, "Taken for habit's sake: there is no pager", NULL, TYPE_IGNORED, 0},
    {"quiet", 'q', NULL, "Print only what matters", NULL, TYPE_FLAG, FIELD(quiet)},
    {"list-verbs", 0, NULL, "List verbs, for the completion of command lines", NULL, TYPE_LAST,
     FIELD(list_verbs)},
    {"limit", 0, "SIZE", "What it may pin: 64G, 512M, infinity", "tenant create", TYPE_SIZE,
     FIELD(limit)},
    {"count", 0, "BYTES", "Its limit counts 'charged' or 'unique' bytes", "tenant create",
     TYPE_TEXT, FIELD(count), VALUES("charged", "unique")},
    {"isolation", 0, "MODE", "One IOMMUFD per 'tenant' or 'machine'", "tenant create", TYPE_TEXT,
     FIELD(isolation), VALUES("tenant", "machine")},
    {"accounting", 0, "MODE", "Kernel counts by 'process' or 'user'", "tenant create", TYPE_TEXT,
     FIELD(accounting), VALUES("process", "user")},
    {"device", 0, "DEVICE", "0000:81:00.0; of 'create' also 0000:81:*, 10de:*",
     "tenant create|run", TYPE_TEXTS, FIELD(devices), VALUES("@devices")},
    {"tenant", 0, "TENANT", "Whose the domain is", "libvirt enable", TYPE_TEXT, FIELD(tenant),
     VALUES("@tenants")},
    {"all", 0, NULL, "All domains that are under iommud", "libvirt disable", TYPE_FLAG, FIELD(all)},
    {"memory", 0, "SIZE", "What it may pin; 1G without it", "run", TYPE_SIZE, FIELD(memory)},
    {"name", 0, "NAME", "Its name; without it the command's", "run", TYPE_TEXT, FIELD(name)},
    {"uuid", 0, "UUID", "Its UUID; without it a new one", "run", TYPE_TEXT, FIELD(uuid)},
    {"tenants", 0, NULL, "A line for each tenant", "top", TYPE_FLAG, FIELD(tenants)},
    {"machines", 0, NULL, "A line for each machine, the default", "top", TYPE_FLAG,
     FIELD(machines)},
    {"sort", 0, "KEY", "name, pinned, limit, share, maps, ...", "top", TYPE_CHOICE, FIELD(sort),
     top_key_names},
    {"batch", 'b', NULL, "Take no keys, and print until killed", "top", TYPE_FLAG, FIELD(batch)},
    {"iterations", 'n', "N", "End after so many times, 0: never", "top", TYPE_TIMES,
     FIELD(iterations)},
    {"delay", 'd', "SECONDS", "Time between them, 1 without it", "top", TYPE_SECONDS, FIELD(delay)},
    {"once", '1', NULL, "The same as --iterations=1", "top", TYPE_TIMES, FIELD(iterations),
     .preset = "1"},
};
/* clang-format on */
G_STATIC_ASSERT(G_N_ELEMENTS(options_table) <= 32);

void options_init(Options *options)
{
    *options = (Options){.devices = g_ptr_array_new_with_free_func(g_free)};
}

void options_clear(Options *options)
{
    g_clear_pointer(&options->devices, g_ptr_array_unref);
}

/* ---- values ---- */

int parse_size(Iommuctl *ctl, const char *text, uint64_t *ret_bytes)
{
    g_autoptr(GError) error = NULL;
    if (!size_parse(text, ret_bytes, &error))
        return fail_usage(ctl, "%s", error->message);
    return 0;
}

static int parse_times(Iommuctl *ctl, const char *text, uint64_t *ret_n)
{
    guint64 n;
    if (!g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT32, &n, NULL))
        return fail_usage(ctl, "--iterations takes a number, 0 for no end, not '%s'.", text);
    *ret_n = n;
    return 0;
}

/* In µs. */
static int parse_seconds(Iommuctl *ctl, const char *text, uint64_t *ret_usec)
{
    char *end;
    double seconds = g_ascii_strtod(text, &end);
    if (end == text || *end || !(seconds >= DELAY_MIN && seconds <= DELAY_MAX))
        return fail_usage(ctl, "--delay takes seconds from %g to %g, not '%s'.", DELAY_MIN,
                          DELAY_MAX, text);
    *ret_usec = (uint64_t)(seconds * CLIENT_USEC_PER_SEC);
    return 0;
}

/* *ret_choice: one more than the value's place, as 0 is none. */
static int parse_choice(Iommuctl *ctl, const Option *option, const char *text, unsigned *ret_choice)
{
    const EnumTable table = {.names = option->values,
                             .n = (int)g_strv_length((char **)option->values)};
    int choice = text ? enum_from_string(&table, text) : 0;
    if (choice < 0) {
        g_autofree char *all = enum_alternatives(&table);
        return fail_usage(ctl, "--%s takes %s, not '%s'.", option->name, all, text);
    }
    *ret_choice = (unsigned)choice + 1;
    return 0;
}

static int set_option(Options *options, Iommuctl *ctl, const Option *option, const char *argument)
{
    void *field = (char *)options + option->offset;
    Number *number = field;
    options->given |= 1U << (option - options_table);
    if (option->preset)
        argument = option->preset;
    switch (option->type) {
    case TYPE_LAST:
    case TYPE_FLAG:
        *(bool *)field = true;
        break;
    case TYPE_IGNORED:
        break;
    case TYPE_TEXT:
        *(const char **)field = argument;
        break;
    case TYPE_TEXTS:
        g_ptr_array_add(*(GPtrArray **)field, g_strdup(argument));
        break;
    case TYPE_CHOICE:
        return parse_choice(ctl, option, argument, field);
    case TYPE_SIZE:
        number->given = true;
        return parse_size(ctl, argument, &number->value);
    case TYPE_TIMES:
        number->given = true;
        return parse_times(ctl, argument, &number->value);
    case TYPE_SECONDS:
        number->given = true;
        return parse_seconds(ctl, argument, &number->value);
    }
    return 0;
}

/* ---- parsing ---- */

/* What getopt_long() returns for an option: its letter, or else what no char can be. */
static int option_code(size_t i)
{
    return options_table[i].letter ? options_table[i].letter : 0x100 + (int)i;
}

static const Option *option_by_code(int code)
{
    for (size_t i = 0; i < G_N_ELEMENTS(options_table); i++) {
        if (option_code(i) == code)
            return &options_table[i];
    }
    return NULL;
}

/* The table in the form of getopt_long(). */
static struct option *long_options(void)
{
    struct option *list = g_new0(struct option, G_N_ELEMENTS(options_table) + 1);
    for (size_t i = 0; i < G_N_ELEMENTS(options_table); i++) {
        const char *argument = options_table[i].argument;
        list[i].name = options_table[i].name;
        list[i].val = option_code(i);
        list[i].has_arg = !argument            ? no_argument
                          : argument[0] == '[' ? optional_argument
                                               : required_argument;
    }
    return list;
}

/* And its letters. */
static char *short_options(void)
{
    /* With ':' in front getopt_long() returns ':' for a missing argument, and prints nothing
     * itself. */
    GString *letters = g_string_new(":");
    for (size_t i = 0; i < G_N_ELEMENTS(options_table); i++) {
        const Option *option = &options_table[i];
        if (option->letter)
            g_string_append_printf(letters, "%c%s", option->letter, option->argument ? ":" : "");
    }
    return g_string_free(letters, FALSE);
}

int options_parse(Options *options, Iommuctl *ctl, int argc, char **argv, char ***ret_words)
{
    g_autofree struct option *list = long_options();
    g_autofree char *letters = short_options();
    const Option *option = NULL;
    int code;
    while (!(option && option->type == TYPE_LAST) &&
           (code = getopt_long(argc, argv, letters, list, NULL)) >= 0) {
        const char *word = argv[optind - 1];
        if (code == ':')
            return fail_usage(ctl, "The option %s needs a value: see 'iommuctl --help'.", word);
        option = option_by_code(code);
        if (!option)
            return fail_usage(ctl, "There is no option %s of this form: see 'iommuctl --help'.",
                              word);
        int r = set_option(options, ctl, option, optarg);
        if (r < 0)
            return r;
    }
    options->dashes = strcmp(argv[optind - 1], "--") == 0;
    ctl->output.json = options->json;
    ctl->output.legend = !options->no_legend;
    ctl->output.quiet = options->quiet;
    *ret_words = argv + optind;
    return 0;
}

/* ---- whose they are ---- */

/* verb NULL: asks for those of every verb. */
static bool is_for(const Option *option, const char *verb)
{
    if (!option->verbs || !verb)
        return option->verbs == verb;
    g_auto(GStrv) verbs = g_strsplit(option->verbs, "|", -1);
    return g_strv_contains((const char *const *)verbs, verb);
}

int options_check(const Options *options, Iommuctl *ctl, const char *verb)
{
    for (size_t i = 0; i < G_N_ELEMENTS(options_table); i++) {
        const Option *option = &options_table[i];
        if ((options->given & (1U << i)) && option->verbs && !is_for(option, verb))
            return fail_usage(ctl, "'%s' takes no option --%s.", verb, option->name);
    }
    return 0;
}

static char *option_text(const Option *option)
{
    g_autofree char *letter =
        option->letter ? g_strdup_printf("-%c", option->letter) : g_strdup("  ");
    if (!option->argument)
        return g_strdup_printf("%s --%s", letter, option->name);
    if (option->argument[0] == '[')
        return g_strdup_printf("%s --%s[=%s]", letter, option->name, option->argument + 1);
    return g_strdup_printf("%s --%s=%s", letter, option->name, option->argument);
}

bool options_help(FILE *file, const char *verb, const char *heading)
{
    bool any = false;
    for (size_t i = 0; i < G_N_ELEMENTS(options_table); i++) {
        if (!is_for(&options_table[i], verb))
            continue;
        g_autofree char *text = option_text(&options_table[i]);
        fprintf(file, "%s  %-24s %s\n", any ? "" : heading, text, options_table[i].help);
        any = true;
    }
    return any;
}

void options_list(FILE *file, const char *verb)
{
    for (size_t i = 0; i < G_N_ELEMENTS(options_table); i++) {
        const Option *option = &options_table[i];
        if (option->verbs && !is_for(option, verb))
            continue;
        g_autofree char *values =
            option->values ? g_strjoinv("|", (char **)option->values) : g_strdup("");
        bool needed = option->argument && option->argument[0] != '[';
        if (option->argument)
            fprintf(file, needed ? "--%s=%s " : "--%s[=%s] ", option->name, values);
        else
            fprintf(file, "--%s ", option->name);
    }
}
