/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The options of the command line: one table, which parsing, help and the completion of command
 * lines read. An option is a row there and a field here.
 */
#pragma once

#include "dbus/iommuctl/base/context.h"

typedef struct {
    bool given;
    uint64_t value;
} Number;

struct Options {
    bool help;
    bool version;
    bool list_verbs;
    const char *bus; /* its address; NULL: the default */
    unsigned json;   /* JsonMode */
    bool no_legend;
    bool quiet;
    Number limit;
    const char *count;
    const char *isolation;
    const char *accounting;
    GPtrArray *devices; /* owned: addresses, patterns */
    const char *tenant;
    bool all;
    Number memory;
    const char *name;
    const char *uuid;
    bool tenants;
    bool machines;
    unsigned sort; /* 0, or one more than its TopKey */
    bool batch;
    Number iterations; /* 0: no end */
    Number delay;      /* µs */

    bool dashes;    /* "--" ended the options */
    unsigned given; /* one bit for each row of the table */
};

void options_init(Options *options);
void options_clear(Options *options);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Options, options_clear)

/* Reads them up to --help and its like, and has the output follow them. *ret_words: what is left,
 * NULL-terminated, not owned. */
int options_parse(Options *options, Iommuctl *ctl, int argc, char **argv, char ***ret_words);
/* Whether all that were given belong to the verb. A mistake is one of usage. */
int options_check(const Options *options, Iommuctl *ctl, const char *verb);
/* One line of help for each option of the verb; NULL: those of every verb. Whether there were
 * any. */
bool options_help(FILE *file, const char *verb, const char *heading);
/* The verb's options with those of every verb, for the completion: "--quiet --bus=system|user
 * --json[=pretty|short]". What can follow is separated by '|'; "@tenants" are the names of a
 * kind. */
void options_list(FILE *file, const char *verb);

/* A size as people write it. A mistake is one of usage. */
int parse_size(Iommuctl *ctl, const char *text, uint64_t *ret_bytes);
