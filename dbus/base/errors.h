/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The one table of errors: IOMMUD_ERROR <-> name on the bus <-> errno. */
#pragma once

#include "dbus/base/sd-cleanup.h"
#include "policy/error.h"

/* So that sd_bus_error_get_errno() knows our names, as does a client that registers them. */
void bus_error_register(void);

/* For method handlers: fills ret_error from error (IOMMUD_ERROR) and returns the negative errno
 * that the handler returns. */
int bus_error_set(sd_bus_error *ret_error, const GError *error);
/* For calls that are answered later. */
void bus_error_reply(sd_bus_message *call, const GError *error);
/* INVALID_ARGUMENT with a sentence of the handler's own. */
int bus_error_invalid(sd_bus_error *ret_error, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* What the kernel said, as an error: r is a negative errno; the sentence is "WHAT: STRERROR.",
 * with KERNEL_REFUSED, or NOT_SUPPORTED where the kernel does not know the request. */
void error_set_kernel(GError **error, int r, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* The same with advice as the end of the sentence: "WHAT: STRERROR; ADVICE." */
void error_set_kernel_advice(GError **error, int r, const char *advice, const char *format, ...)
    G_GNUC_PRINTF(4, 5);
