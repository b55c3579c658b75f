/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/iommuctl/base/failure.h"

#include <errno.h>

/* The verb's own sentence travels as a D-Bus error, the form that the service's sentences have
 * too: main prints both alike. */
static void set_error(Iommuctl *ctl, const char *format, va_list ap)
{
    g_autofree char *text = g_strdup_vprintf(format, ap);
    sd_bus_error_free(&ctl->error);
    (void)sd_bus_error_set(&ctl->error, BUS_ERROR_PREFIX "InvalidArgument", text);
}

int fail(Iommuctl *ctl, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    set_error(ctl, format, ap);
    va_end(ap);
    return -EINVAL;
}

int fail_usage(Iommuctl *ctl, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    set_error(ctl, format, ap);
    va_end(ap);
    ctl->usage = true;
    return -EINVAL;
}

void print_failure(Iommuctl *ctl, int r)
{
    g_autofree char *text = client_error_text(&ctl->error, r);
    g_autofree char *clean = output_clean(&ctl->output, text);
    fprintf(stderr, "iommuctl: %s\n", clean);
    sd_bus_error_free(&ctl->error);
}
