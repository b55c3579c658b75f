/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The properties of one object, read in one go and looked up by name. */
#pragma once

#include "dbus/client/client.h"

#include <stdbool.h>

typedef struct Properties Properties;

/* Reads the a{sv} at the message's position, and holds the message, in which all strings stay.
 * Values of a type that no interface of the service uses are left out. */
int properties_read(sd_bus_message *message, Properties **ret_properties);
/* Asks name for all properties of an interface. */
int properties_get(sd_bus *bus, const char *name, const char *path, const char *interface,
                   uint64_t timeout_usec, sd_bus_error *error, Properties **ret_properties);
/* Accepts NULL. */
void properties_free(Properties *properties);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Properties, properties_free)

/* A string, object path; "" when there is no such property. Not owned. */
const char *properties_string(const Properties *properties, const char *name);
/* A number of any width, a boolean as 0 or 1; 0 when there is no such property. */
uint64_t properties_number(const Properties *properties, const char *name);
/* An array of strings or paths, NULL-terminated; empty when there is no such property. Not
 * owned. */
const char *const *properties_strings(const Properties *properties, const char *name);
/* Whether an array of strings holds text. */
bool properties_has(const Properties *properties, const char *name, const char *text);
/* Whether there is such a property. */
bool properties_is_set(const Properties *properties, const char *name);
/* Puts a number in the place of what was there: one that was made of others. name is not copied. */
void properties_set_number(Properties *properties, const char *name, uint64_t number);
