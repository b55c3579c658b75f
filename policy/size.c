/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policy/size.h"

#include "policy/error.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

/* The n-th letter stands for 1024^n bytes. */
static const char units[] = "BKMGTP";
#define DIGITS "0123456789"

/* A number as it is written: whole.decimals unit. */
typedef struct {
    uint64_t whole;
    bool overflow; /* whole has no room in 64 bits */
    const char *decimals;
    size_t n_decimals;
    unsigned unit;
} Number;

/* "", or one of units, which from K on may be spelled "K", "KB" or "KiB", in any case. */
static bool unit_scan(const char *text, unsigned *ret_unit)
{
    *ret_unit = 0;
    if (!*text)
        return true;
    const char *letter = strchr(units, g_ascii_toupper(*text));
    if (!letter)
        return false;
    *ret_unit = (unsigned)(letter - units);
    const char *rest = text + 1;
    return !*rest || (*ret_unit > 0 &&
                      (g_ascii_strcasecmp(rest, "B") == 0 || g_ascii_strcasecmp(rest, "iB") == 0));
}

/* false: text is no number. */
static bool number_scan(const char *text, Number *ret_number)
{
    Number number = {0};
    size_t n_digits = strspn(text, DIGITS);
    if (n_digits == 0)
        return false;
    errno = 0;
    number.whole = g_ascii_strtoull(text, NULL, 10);
    number.overflow = errno == ERANGE;
    const char *rest = text + n_digits;
    if (*rest == '.') {
        number.decimals = rest + 1;
        number.n_decimals = strspn(number.decimals, DIGITS);
        rest = number.decimals + number.n_decimals;
        if (number.n_decimals == 0)
            return false;
    }
    /* There are no fractions of a byte. */
    if (!unit_scan(rest, &number.unit) || (number.decimals && number.unit == 0))
        return false;
    *ret_number = number;
    return true;
}

/*
 *   bytes = whole * unit + floor(0.d1 d2 d3 ... * unit)
 *
 * The fraction is computed from its last digit on, f = floor((d * unit + f) / 10), which is exact
 * for any number of digits, and never more than 10 * 2^50. false: more than 2^64 - 2.
 */
static bool number_bytes(const Number *number, uint64_t *ret_bytes)
{
    uint64_t unit = UINT64_C(1) << (10 * number->unit);
    uint64_t fraction = 0;
    for (size_t i = number->n_decimals; i > 0; i--)
        fraction = ((uint64_t)(number->decimals[i - 1] - '0') * unit + fraction) / 10;
    uint64_t bytes;
    if (number->overflow || __builtin_mul_overflow(number->whole, unit, &bytes) ||
        __builtin_add_overflow(bytes, fraction, &bytes) || bytes == SIZE_INFINITY)
        return false;
    *ret_bytes = bytes;
    return true;
}

gboolean size_parse(const char *text, uint64_t *ret_bytes, GError **error)
{
    if (text && g_ascii_strcasecmp(text, "infinity") == 0) {
        *ret_bytes = SIZE_INFINITY;
        return TRUE;
    }
    Number number;
    if (!text || !number_scan(text, &number)) {
        g_autofree char *quoted = error_quote(text);
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                    "%s is not a size: write a number of bytes, a number with one of the suffixes "
                    "K, M, G, T, P, such as 64G or 1.5G, or infinity.",
                    quoted);
        return FALSE;
    }
    uint64_t bytes;
    if (!number_bytes(&number, &bytes)) {
        g_autofree char *quoted = error_quote(text);
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                    "The size %s is over 2^64 - 2 bytes: write a smaller one, or infinity.",
                    quoted);
        return FALSE;
    }
    *ret_bytes = bytes;
    return TRUE;
}

char *size_format(uint64_t bytes)
{
    if (bytes == SIZE_INFINITY)
        return g_strdup("infinity");
    unsigned n = 0;
    while (n + 1 < sizeof(units) - 1 && bytes >> (10 * (n + 1)) > 0)
        n++;
    uint64_t unit = UINT64_C(1) << (10 * n);
    /* Rounded down: what is promised must be there. */
    unsigned tenths = (unsigned)(bytes % unit * 10 / unit);
    if (tenths == 0)
        return g_strdup_printf("%" PRIu64 "%c", bytes / unit, units[n]);
    return g_strdup_printf("%" PRIu64 ".%u%c", bytes / unit, tenths, units[n]);
}
