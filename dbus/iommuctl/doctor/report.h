/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the checks of 'iommuctl doctor' say. */
#pragma once

#include "dbus/iommuctl/base/table.h"

typedef enum {
    CHECK_OK,
    CHECK_WARNING, /* what can work works, something is less than it could be */
    CHECK_FAILED,
} CheckResult;

typedef struct {
    const Output *output;
    Table *table; /* for JSON; owned */
    unsigned counts[CHECK_FAILED + 1];
} Report;

void report_init(Report *report, const Output *output);
void report_clear(Report *report);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Report, report_clear)
/* Adds the outcome of a check; takes message. remedy: what to type or change, NULL: nothing. */
void report_add(Report *report, const char *check, CheckResult result, char *message,
                const char *remedy);
/* Prints the counts, or all of it as JSON. */
void report_end(const Report *report);
