/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Preloaded into a program, this answers every open("/dev/iommu") with an IOMMUFD that iommud opens
 * for the tenant whose object path FD_TAKER_TENANT names. The program notices no difference.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>

static int take(sd_bus *bus, const char *tenant, sd_bus_error *error)
{
    sd_bus_message *reply = NULL;
    int fd, r = sd_bus_call_method(bus, "org.iommud1", tenant, "org.iommud1.Tenant", "Open", error,
                                   &reply, "");

    if (r >= 0)
        r = sd_bus_message_read(reply, "h", &fd);
    if (r >= 0)
        r = fd = fcntl(fd, F_DUPFD, 3); /* the message closes its own */
    if (r < 0 && !sd_bus_error_is_set(error))
        sd_bus_error_set_errno(error, r);
    sd_bus_message_unref(reply);
    return r;
}

static int open_by_iommud(const char *tenant)
{
    sd_bus_error error = SD_BUS_ERROR_NULL;
    sd_bus *bus = NULL;
    int r = sd_bus_open_system(&bus);

    if (r >= 0)
        r = take(bus, tenant, &error);
    if (r < 0)
        fprintf(stderr, "fd-taker: %s\n", error.message ? error.message : strerror(-r));
    sd_bus_error_free(&error);
    sd_bus_flush_close_unref(bus);
    errno = r < 0 ? -r : 0;
    return r < 0 ? -1 : r;
}

static int open_or_take(const char *name, const char *path, int flags, mode_t mode)
{
    const char *tenant = getenv("FD_TAKER_TENANT");
    int (*next)(const char *, int, ...);

    if (tenant && !strcmp(path, "/dev/iommu"))
        return open_by_iommud(tenant);
    *(void **)&next = dlsym(RTLD_NEXT, name);
    return next(path, flags, mode);
}

static mode_t mode_of(int flags, va_list args)
{
    return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(args, mode_t) : 0;
}

__attribute__((visibility("default"))) int open(const char *path, int flags, ...)
{
    va_list args;
    mode_t mode;

    va_start(args, flags);
    mode = mode_of(flags, args);
    va_end(args);
    return open_or_take("open", path, flags, mode);
}

__attribute__((visibility("default"))) int open64(const char *path, int flags, ...)
{
    va_list args;
    mode_t mode;

    va_start(args, flags);
    mode = mode_of(flags, args);
    va_end(args);
    return open_or_take("open64", path, flags, mode);
}
