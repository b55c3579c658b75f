/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/iommuctl/doctor/report.h"

static const char *const result_names[] = {
    [CHECK_OK] = "ok",
    [CHECK_WARNING] = "warning",
    [CHECK_FAILED] = "failed",
};

void report_init(Report *report, const Output *output)
{
    *report = (Report){.output = output, .table = table_new()};
    table_add_column(report->table, NULL, "check", TABLE_LEFT);
    table_add_column(report->table, NULL, "result", TABLE_LEFT);
    table_add_column(report->table, NULL, "message", TABLE_LEFT);
    table_add_column(report->table, NULL, "remedy", TABLE_LEFT);
}

void report_clear(Report *report)
{
    g_clear_pointer(&report->table, table_free);
}

static void report_print(const Report *report, const char *check, CheckResult result,
                         const char *message, const char *remedy)
{
    static const Style styles[] = {
        [CHECK_OK] = STYLE_GOOD,
        [CHECK_WARNING] = STYLE_WARNING,
        [CHECK_FAILED] = STYLE_BAD,
    };
    const Output *output = report->output;
    g_autofree char *clean = output_clean(output, message);

    if (report->output->quiet && result == CHECK_OK)
        return;
    fprintf(output->file, "%s%-7s%s  %-9s  %s\n", style_begin(output, styles[result]),
            result_names[result], style_end(output, styles[result]), check, clean);
    if (remedy)
        fprintf(output->file, "%20s%s\n", "-> ", remedy);
}

void report_add(Report *report, const char *check, CheckResult result, char *message,
                const char *remedy)
{
    g_autofree char *owned = message;

    report->counts[result]++;
    table_add_string(report->table, check);
    table_add_string(report->table, result_names[result]);
    table_add_string(report->table, owned);
    table_add_string(report->table, remedy ? remedy : "");
    if (report->output->json == JSON_OFF)
        report_print(report, check, result, owned, remedy);
}

void report_end(const Report *report)
{
    if (report->output->json != JSON_OFF)
        table_print(report->table, report->output);
    else if (report->output->legend && !report->output->quiet)
        fprintf(report->output->file, "\n%u ok, %u warnings, %u failed\n", report->counts[CHECK_OK],
                report->counts[CHECK_WARNING], report->counts[CHECK_FAILED]);
}
