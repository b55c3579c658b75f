/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From what people type to what the service knows. */
#include "dbus/iommuctl/iommuctl.h"
#include "policy/size.h"

#include <errno.h>

#define DELAY_MIN 0.1
#define DELAY_MAX 3600.0

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

int parse_size(Iommuctl *ctl, const char *text, uint64_t *ret_bytes)
{
    g_autoptr(GError) error = NULL;

    if (!size_parse(text, ret_bytes, &error))
        return fail_usage(ctl, "%s", error->message);
    return 0;
}

int parse_iterations(Iommuctl *ctl, const char *text, uint64_t *ret_n)
{
    guint64 n;

    if (!g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT32, &n, NULL))
        return fail_usage(ctl, "--iterations takes a number, 0 for no end, not '%s'.", text);
    *ret_n = n;
    return 0;
}

int parse_delay(Iommuctl *ctl, const char *text, uint64_t *ret_usec)
{
    char *end;
    double seconds = g_ascii_strtod(text, &end);

    if (end == text || *end || !(seconds >= DELAY_MIN && seconds <= DELAY_MAX))
        return fail_usage(ctl, "--delay takes seconds from %g to %g, not '%s'.", DELAY_MIN,
                          DELAY_MAX, text);
    *ret_usec = (uint64_t)(seconds * CLIENT_USEC_PER_SEC);
    return 0;
}

/* One of the Manager's methods that take a name and return a path. */
static int get_path(Iommuctl *ctl, const char *method, const char *name, char **ret_path)
{
    g_autoptr(sd_bus_message) reply = NULL;
    const char *path;
    int r = client_call(ctl->bus, BUS_PATH, BUS_INTERFACE_MANAGER, method, CLIENT_TIMEOUT,
                        &ctl->error, &reply, "s", name);

    if (r >= 0)
        r = sd_bus_message_read(reply, "o", &path);
    if (r < 0)
        return r;
    *ret_path = g_strdup(path);
    return 0;
}

int find_tenant(Iommuctl *ctl, const char *id, char **ret_path)
{
    return get_path(ctl, "GetTenant", id, ret_path);
}

int find_device(Iommuctl *ctl, const char *address, char **ret_path)
{
    return get_path(ctl, "GetDevice", address, ret_path);
}

int find_machine(Iommuctl *ctl, const char *text, char **ret_uuid)
{
    g_autoptr(GPtrArray) machines = NULL;
    const MachineRow *machine = NULL;
    int r = rows_machines(ctl->bus, &ctl->error, &machines);

    if (r < 0)
        return r;
    r = rows_find_machine(machines, text, &machine);
    if (r == -ENOTUNIQ)
        return fail(ctl,
                    "More than one machine is named '%s': name it by its UUID, which "
                    "'iommuctl machines' shows.",
                    text);
    if (r < 0)
        return fail(ctl, "There is no machine '%s': 'iommuctl machines' lists those there are.",
                    text);
    *ret_uuid = g_strdup(machine->uuid);
    return 0;
}
