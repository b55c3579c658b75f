/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/base/errors.h"

#include "dbus/base/names.h"

#include <errno.h>

static const struct {
    const char *name;
    int number;
} errors[_IOMMUD_ERROR_MAX] = {
    [IOMMUD_ERROR_NO_SUCH_TENANT] = {BUS_ERROR_PREFIX "NoSuchTenant", ENOENT},
    [IOMMUD_ERROR_TENANT_EXISTS] = {BUS_ERROR_PREFIX "TenantExists", EEXIST},
    [IOMMUD_ERROR_TENANT_BUSY] = {BUS_ERROR_PREFIX "TenantBusy", EBUSY},
    [IOMMUD_ERROR_NO_SUCH_MACHINE] = {BUS_ERROR_PREFIX "NoSuchMachine", ENXIO},
    [IOMMUD_ERROR_MACHINE_EXISTS] = {BUS_ERROR_PREFIX "MachineExists", EEXIST},
    [IOMMUD_ERROR_NO_SUCH_DEVICE] = {BUS_ERROR_PREFIX "NoSuchDevice", ENODEV},
    [IOMMUD_ERROR_DEVICE_BUSY] = {BUS_ERROR_PREFIX "DeviceBusy", EBUSY},
    [IOMMUD_ERROR_GROUP_SHARED] = {BUS_ERROR_PREFIX "GroupShared", EADDRINUSE},
    [IOMMUD_ERROR_DEVICE_DENIED] = {BUS_ERROR_PREFIX "DeviceDenied", EPERM},
    [IOMMUD_ERROR_LIMIT_EXCEEDED] = {BUS_ERROR_PREFIX "LimitExceeded", EDQUOT},
    [IOMMUD_ERROR_HOST_BUDGET_EXCEEDED] = {BUS_ERROR_PREFIX "HostBudgetExceeded", ENOSPC},
    [IOMMUD_ERROR_INVALID_ARGUMENT] = {BUS_ERROR_PREFIX "InvalidArgument", EINVAL},
    [IOMMUD_ERROR_NOT_ASSOCIATED] = {BUS_ERROR_PREFIX "NotAssociated", ENOTCONN},
    [IOMMUD_ERROR_NOT_SUPPORTED] = {BUS_ERROR_PREFIX "NotSupported", EOPNOTSUPP},
    [IOMMUD_ERROR_KERNEL_REFUSED] = {BUS_ERROR_PREFIX "KernelRefused", EIO},
};

void bus_error_register(void)
{
    /* sd_bus_error_add_map() keeps the pointer. */
    static sd_bus_error_map map[_IOMMUD_ERROR_MAX + 1];
    for (size_t i = 0; i < G_N_ELEMENTS(errors); i++)
        map[i] = (sd_bus_error_map)SD_BUS_ERROR_MAP(errors[i].name, errors[i].number);
    map[_IOMMUD_ERROR_MAX] = (sd_bus_error_map)SD_BUS_ERROR_MAP_END;
    (void)sd_bus_error_add_map(map);
}

int bus_error_set(sd_bus_error *ret_error, const GError *error)
{
    g_assert(error && error->domain == IOMMUD_ERROR);
    (void)sd_bus_error_set(ret_error, errors[error->code].name, error->message);
    return -errors[error->code].number;
}

void bus_error_reply(sd_bus_message *call, const GError *error)
{
    g_auto(sd_bus_error) bus_error = SD_BUS_ERROR_NULL;
    (void)bus_error_set(&bus_error, error);
    /* The caller may be gone. */
    (void)sd_bus_reply_method_error(call, &bus_error);
}

int bus_error_invalid(sd_bus_error *ret_error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    g_autofree char *message = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    (void)sd_bus_error_set(ret_error, errors[IOMMUD_ERROR_INVALID_ARGUMENT].name, message);
    return -errors[IOMMUD_ERROR_INVALID_ARGUMENT].number;
}

/* ---- errno to GError ---- */

static IommudError code_of_errno(int r)
{
    return r == -EOPNOTSUPP || r == -ENOTTY || r == -ENOSYS ? IOMMUD_ERROR_NOT_SUPPORTED
                                                            : IOMMUD_ERROR_KERNEL_REFUSED;
}

void error_set_kernel(GError **error, int r, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    g_autofree char *what = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    g_set_error(error, IOMMUD_ERROR, (int)code_of_errno(r), "%s: %s.", what, g_strerror(-r));
}

void error_set_kernel_advice(GError **error, int r, const char *advice, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    g_autofree char *what = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    g_set_error(error, IOMMUD_ERROR, (int)code_of_errno(r), "%s: %s; %s.", what, g_strerror(-r),
                advice);
}
