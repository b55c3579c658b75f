/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * iommuctl's inside: its context and its verbs.
 *
 * A verb returns 0, a negative errno (main prints one sentence made of it and of the context's
 * error, and exits with 1), or a positive exit status of its own when it has printed why.
 */
#pragma once

#include "dbus/client/client.h"
#include "dbus/client/properties.h"
#include "dbus/iommuctl/rows.h"
#include "dbus/iommuctl/table.h"

typedef enum {
    EXIT_USAGE = 2,
} ExitStatus;

/* How often 'top' asks when it is not told. */
#define TOP_DELAY CLIENT_USEC_PER_SEC
/* What 'run' reserves when it is not told: a small machine, or a program's huge pages. */
#define RUN_MEMORY (G_GUINT64_CONSTANT(1) << 30)

/* Options that belong to single verbs. */
typedef enum {
    OPTION_LIMIT = 1 << 0,
    OPTION_ISOLATION = 1 << 1,
    OPTION_ACCOUNTING = 1 << 2,
    OPTION_DEVICE = 1 << 3,
    OPTION_TENANT = 1 << 4,
    OPTION_MEMORY = 1 << 5,
    OPTION_NAME = 1 << 6,
    OPTION_UUID = 1 << 7,
    OPTION_COUNT = 1 << 8,
    OPTION_TENANTS = 1 << 9,
    OPTION_MACHINES = 1 << 10,
    OPTION_SORT = 1 << 11,
    OPTION_BATCH = 1 << 12,
    OPTION_ITERATIONS = 1 << 13,
    OPTION_DELAY = 1 << 14,
} VerbOptions;

typedef struct {
    char **argv; /* as main() got it */
    Output output;
    bool quiet;
    const char *address; /* of the bus; NULL: the default */
    sd_bus *bus;         /* NULL in a verb that works without a bus, when there is none */
    int bus_error;       /* why not, a negative errno */
    sd_bus_error error;
    bool usage; /* the error is the caller's mistake in writing the command */

    bool dashes;    /* "--" ended the options */
    unsigned given; /* VerbOptions on the command line */
    uint64_t limit;
    const char *isolation;
    const char *accounting;
    const char *count;
    const char *tenant;
    GPtrArray *devices; /* owned: addresses, patterns */
    uint64_t memory;
    const char *name;
    const char *uuid;
    const char *sort;
    uint64_t iterations; /* 0: no end */
    uint64_t delay;      /* µs */
} Iommuctl;

/* What the arguments of a verb name, for the completion of command lines. */
typedef enum {
    NAMES_NONE,
    NAMES_TENANTS,
    NAMES_MACHINES,
    NAMES_DEVICES,
    NAMES_DOMAINS,
} Names;

typedef struct {
    const char *name; /* one or two words */
    const char *arguments;
    const char *help;
    unsigned min_arguments;
    unsigned max_arguments;
    unsigned options; /* VerbOptions */
    Names names;      /* of its first argument */
    bool offline;     /* works without a bus, too */
    bool external;    /* done by another program, which opens the bus itself */
    bool command;     /* a command follows "--", whose options are not ours */
    int (*run)(Iommuctl *ctl, char **arguments);
} Verb;

/* Sets the context's error to one sentence and returns -EINVAL. usage: a mistake in writing the
 * command, exit status 2. */
int fail(Iommuctl *ctl, const char *format, ...) G_GNUC_PRINTF(2, 3);
int fail_usage(Iommuctl *ctl, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Prints one sentence on what went wrong, made of the context's error and r, and forgets it. */
void print_failure(Iommuctl *ctl, int r);

/* What the ledger knows of a tenant or a machine, for a table of one row. */
void add_figure_columns(Table *table);
void add_figures(Table *table, const Properties *properties);

/* A size as people write it. A mistake is one of usage. */
int parse_size(Iommuctl *ctl, const char *text, uint64_t *ret_bytes);
/* A number of times, and seconds as people write them, in µs. A mistake is one of usage. */
int parse_iterations(Iommuctl *ctl, const char *text, uint64_t *ret_n);
int parse_delay(Iommuctl *ctl, const char *text, uint64_t *ret_usec);
/* The object path of a tenant, which the service knows to exist. Freed with g_free(). */
int find_tenant(Iommuctl *ctl, const char *id, char **ret_path);
/* The UUID of a machine by UUID or name. Freed with g_free(). */
int find_machine(Iommuctl *ctl, const char *text, char **ret_uuid);
/* The object path of a device. Freed with g_free(). */
int find_device(Iommuctl *ctl, const char *address, char **ret_path);

int verb_status(Iommuctl *ctl, char **arguments);
int verb_top(Iommuctl *ctl, char **arguments);
int verb_doctor(Iommuctl *ctl, char **arguments);
int verb_reload(Iommuctl *ctl, char **arguments);

int verb_tenant_list(Iommuctl *ctl, char **arguments);
int verb_tenant_show(Iommuctl *ctl, char **arguments);
int verb_tenant_create(Iommuctl *ctl, char **arguments);
int verb_tenant_delete(Iommuctl *ctl, char **arguments);
int verb_tenant_set_limit(Iommuctl *ctl, char **arguments);
int verb_objects(Iommuctl *ctl, char **arguments);
int verb_reap(Iommuctl *ctl, char **arguments);

int verb_machines(Iommuctl *ctl, char **arguments);
int verb_machine_show(Iommuctl *ctl, char **arguments);
int verb_machine_release(Iommuctl *ctl, char **arguments);

int verb_run(Iommuctl *ctl, char **arguments);

int verb_devices(Iommuctl *ctl, char **arguments);
int verb_device_bind(Iommuctl *ctl, char **arguments);
int verb_device_restore(Iommuctl *ctl, char **arguments);

int verb_libvirt(Iommuctl *ctl, char **arguments);
