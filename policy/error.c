/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policy/error.h"

#include "kernel/base/text.h"

G_DEFINE_QUARK(iommud - error, iommud_error)

char *error_quote(const char *text)
{
    g_autofree char *clean = text_sanitize(text, TEXT_QUOTED_MAX, false);
    return g_strdup_printf("\"%s\"", clean);
}
