/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The values of an enum as words: in configuration, on the bus, in files. */
#pragma once

#include <stddef.h>

typedef struct {
    const char *what;         /* for sentences, with its article: "an isolation" */
    const char *const *names; /* by value, from 0 on */
    int n;
} EnumTable;

/* The table of an enum, from an array of names by value. */
#define ENUM_TABLE(sentence, array)                                                                \
    {                                                                                              \
        .what = (sentence), .names = (array), .n = sizeof(array) / sizeof((array)[0])              \
    }

/* The word of a value, which must be one of the table's. */
const char *enum_to_string(const EnumTable *table, int value);
/* The value of a word, or -1. text may be NULL. */
int enum_from_string(const EnumTable *table, const char *text);
/* "tenant or machine", "off, known or strict", to be freed with g_free(). */
char *enum_alternatives(const EnumTable *table);

/* Declares the table NAME_table, and NAME_to_string() and NAME_from_string() for it. */
#define ENUM_DECLARE(name, Type)                                                                   \
    extern const EnumTable name##_table;                                                           \
    static inline const char *name##_to_string(Type value)                                         \
    {                                                                                              \
        return enum_to_string(&name##_table, (int)value);                                          \
    }                                                                                              \
    static inline int name##_from_string(const char *text)                                         \
    {                                                                                              \
        return enum_from_string(&name##_table, text);                                              \
    }
