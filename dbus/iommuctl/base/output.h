/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where and how iommuctl prints.
 *
 * Strings come from outside (names of machines, the service's sentences): what a terminal would
 * take for a command is printed as '?'.
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>

typedef enum {
    JSON_OFF,
    JSON_PRETTY,
    JSON_SHORT,
} JsonMode;

typedef struct {
    FILE *file;
    JsonMode json;
    bool legend; /* headings */
    bool quiet;  /* only what matters */
    bool colour;
    bool utf8;
} Output;

/* Text to stdout; colours when it is a terminal and NO_COLOR is not set; lines as the locale can
 * show them. Call setlocale() before. */
void output_init(Output *output);

/* What a text wants to be seen as. */
typedef enum {
    STYLE_NONE,
    STYLE_GOOD,
    STYLE_WARNING,
    STYLE_BAD,
    STYLE_FAINT,
} Style;

/* Escape sequences around text of this style; "" without colours. */
const char *style_begin(const Output *output, Style style);
const char *style_end(const Output *output, Style style);

/* The whole text as it may go to a terminal: text_sanitize(), in ASCII where the locale has no
 * more. Freed with g_free(). */
char *output_clean(const Output *output, const char *text);
