/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "policy/device.h"

#include "kernel/base/pci-address.h"
#include "policy/error.h"

#include <stdlib.h>
#include <string.h>

/* An address as text at its longest; 'x' is any hex digit. */
static const char address_shape[] = "xxxxxxxx:xx:xx.x";

#define PATTERN_LENGTH_MAX 64

char *device_address_parse(const char *text, GError **error)
{
    PciAddress address;
    if (!pci_address_parse(text, &address)) {
        g_autofree char *quoted = error_quote(text);
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                    "%s is not the address of a PCI device: write DOMAIN:BUS:DEVICE.FUNCTION in "
                    "hex, such as 0000:01:00.0.",
                    quoted);
        return NULL;
    }
    char canonical[PCI_ADDRESS_SIZE];
    pci_address_format(&address, canonical);
    return g_strdup(canonical);
}

static int address_compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

char **device_addresses_parse(const char *const *texts, GError **error)
{
    size_t n = texts ? g_strv_length((char **)texts) : 0;
    g_auto(GStrv) addresses = g_new0(char *, n + 1);
    for (size_t i = 0; i < n; i++) {
        addresses[i] = device_address_parse(texts[i], error);
        if (!addresses[i])
            return NULL;
    }
    qsort(addresses, n, sizeof(*addresses), address_compare);
    for (size_t i = 1; i < n; i++) {
        if (g_str_equal(addresses[i - 1], addresses[i])) {
            g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                        "Device %s is named twice: name each device once.", addresses[i]);
            return NULL;
        }
    }
    return g_steal_pointer(&addresses);
}

bool device_addresses_are_canonical(const char *const *addresses)
{
    for (size_t i = 0; addresses && addresses[i]; i++) {
        if (!pci_address_is_canonical(addresses[i]) ||
            (i > 0 && strcmp(addresses[i - 1], addresses[i]) >= 0))
            return false;
    }
    return true;
}

/* ---- patterns ---- */

/* The character after a [...] that starts at p, or NULL if it never ends. As in a shell, a ']' in
 * the first place stands for itself. */
static const char *set_end(const char *p)
{
    p++;
    if (*p == '!')
        p++;
    if (*p == ']')
        p++;
    const char *close = strchr(p, ']');
    return close ? close + 1 : NULL;
}

static bool set_has(const char *p, const char *end, char c)
{
    const char *last = end - 1; /* the ']' */
    bool negated = *++p == '!';
    if (negated)
        p++;
    bool found = false;
    for (; p < last; p++) {
        char low = g_ascii_tolower(p[0]);
        char high = low;
        if (p + 2 < last && p[1] == '-') {
            high = g_ascii_tolower(p[2]);
            p += 2;
        }
        found |= low <= c && c <= high;
    }
    return found != negated;
}

/* Whether the element at *p (not '*') is one for c; moves *p behind it. */
static bool element_matches(const char **p, char c)
{
    const char *element = *p;
    if (*element == '[') {
        const char *end = set_end(element);
        *p = end;
        return c == 'x' || set_has(element, end, c);
    }
    *p = element + 1;
    if (*element == '?')
        return true;
    return c == 'x' ? g_ascii_isxdigit(*element) : g_ascii_tolower(*element) == c;
}

/* The shell's matching; in text, an 'x' stands for any hex digit. Going back to the last '*' only
 * is enough, and keeps it at length times length steps. */
static bool wildcard_matches(const char *pattern, const char *text)
{
    const char *p = pattern;
    const char *star = NULL;
    const char *star_text = NULL;
    while (*text) {
        if (*p == '*') {
            star = ++p;
            star_text = text;
        } else if (*p && element_matches(&p, *text)) {
            text++;
        } else if (star) {
            p = star;
            text = ++star_text;
        } else {
            return false;
        }
    }
    while (*p == '*')
        p++;
    return !*p;
}

/* Only characters that stand in addresses and wildcards, and every [ has its ]. */
static bool wildcard_valid(const char *pattern)
{
    for (const char *p = pattern; *p;) {
        if (*p == '[') {
            const char *end = set_end(p);
            if (!end)
                return false;
            for (p++; p < end; p++) {
                if (!g_ascii_isxdigit(*p) && !strchr("!-]", *p))
                    return false;
            }
        } else if (g_ascii_isxdigit(*p) || strchr(":.*?", *p)) {
            p++;
        } else {
            return false;
        }
    }
    return true;
}

static bool address_pattern_valid(const char *pattern)
{
    if (!*pattern || !wildcard_valid(pattern))
        return false;
    /* A rule that can't match anything, such as "81:00.*" without its domain, is a mistake. */
    for (unsigned n = PCI_DOMAIN_DIGITS_MIN; n <= PCI_DOMAIN_DIGITS_MAX; n++) {
        if (wildcard_matches(pattern, address_shape + PCI_DOMAIN_DIGITS_MAX - n))
            return true;
    }
    return false;
}

/* "10de" or "*", up to end. */
static bool id_valid(const char *p, const char *end)
{
    if (end - p == 1 && *p == '*')
        return true;
    if (end - p != 4)
        return false;
    for (; p < end; p++) {
        if (!g_ascii_isxdigit(*p))
            return false;
    }
    return true;
}

static bool id_matches(const char *p, uint16_t id)
{
    return *p == '*' || g_ascii_strtoull(p, NULL, 16) == id;
}

/* Whether VENDOR:PRODUCT is meant, rightly or wrongly written, rather than an address. No vendor
 * has the id 0000, so that "0000:8*" must mean the domain. */
static bool ids_meant(const char *pattern)
{
    const char *colon = strchr(pattern, ':');
    return colon && !strpbrk(colon + 1, ":.") && id_valid(pattern, colon) &&
           !g_str_has_prefix(pattern, "0000:");
}

static bool pattern_valid(const char *pattern)
{
    if (strlen(pattern) > PATTERN_LENGTH_MAX)
        return false;
    if (!ids_meant(pattern))
        return address_pattern_valid(pattern);
    const char *product = strchr(pattern, ':') + 1;
    return id_valid(product, product + strlen(product));
}

gboolean device_pattern_check(const char *pattern, GError **error)
{
    if (pattern && pattern_valid(pattern))
        return TRUE;
    g_autofree char *quoted = error_quote(pattern);
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                "%s matches no device: write an address with wildcards, such as 0000:81:00.*, or "
                "VENDOR:PRODUCT in four hex digits each, such as 10de:*.",
                quoted);
    return FALSE;
}

bool device_pattern_matches(const char *pattern, const char *address, uint16_t vendor,
                            uint16_t product)
{
    if (ids_meant(pattern))
        return id_matches(pattern, vendor) && id_matches(strchr(pattern, ':') + 1, product);
    return wildcard_matches(pattern, address);
}
