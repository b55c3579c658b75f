/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * iommud's errors. Each maps to one D-Bus error name (dbus/base/errors.c). A message is one full
 * sentence: the object, the figure asked for, the figure left, what to do about it.
 */
#pragma once

#include <glib.h>

#define IOMMUD_ERROR (iommud_error_quark())
GQuark iommud_error_quark(void);

typedef enum {
    IOMMUD_ERROR_NO_SUCH_TENANT,
    IOMMUD_ERROR_TENANT_EXISTS,
    IOMMUD_ERROR_TENANT_BUSY,
    IOMMUD_ERROR_NO_SUCH_MACHINE,
    IOMMUD_ERROR_MACHINE_EXISTS,
    IOMMUD_ERROR_NO_SUCH_DEVICE,
    IOMMUD_ERROR_DEVICE_BUSY,
    IOMMUD_ERROR_GROUP_SHARED,
    IOMMUD_ERROR_DEVICE_DENIED,
    IOMMUD_ERROR_LIMIT_EXCEEDED,
    IOMMUD_ERROR_HOST_BUDGET_EXCEEDED,
    IOMMUD_ERROR_INVALID_ARGUMENT,
    IOMMUD_ERROR_NOT_ASSOCIATED,
    IOMMUD_ERROR_NOT_SUPPORTED,
    IOMMUD_ERROR_KERNEL_REFUSED,
    _IOMMUD_ERROR_MAX,
} IommudError;

/* Somebody's text for use in a sentence: as text_sanitize() makes it, TEXT_QUOTED_MAX characters at
 * the most, in double quotes. NULL is "". Freed with g_free(). */
char *error_quote(const char *text);
