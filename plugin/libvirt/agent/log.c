/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/libvirt/agent/log.h"

#include <stdio.h>
#include <systemd/sd-daemon.h>

static void write_line(const char *priority, const char *format, va_list args)
{
    g_autofree char *text = g_strdup_vprintf(format, args);
    fprintf(stderr, "%s%s\n", g_getenv("JOURNAL_STREAM") ? priority : "", text);
}

void log_info(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    write_line(SD_INFO, format, args);
    va_end(args);
}

void log_warning(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    write_line(SD_WARNING, format, args);
    va_end(args);
}
