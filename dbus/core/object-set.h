/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A set of an IOMMUFD's objects. The kernel gives the lowest free id to the next object, so an id
 * alone does not name an object for long: a member counts only while the kernel shows its id with
 * the type it had (object_set_keep()).
 */
#pragma once

#include "kernel/host/host.h"

#include <glib.h>

typedef struct ObjectSet ObjectSet;

ObjectSet *object_set_new(void);
/* Accepts NULL. */
void object_set_free(ObjectSet *set);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ObjectSet, object_set_free)

void object_set_add(ObjectSet *set, HostObject object);
void object_set_remove(ObjectSet *set, uint32_t id);
/* NULL is the empty set. */
bool object_set_has(const ObjectSet *set, HostObject object);
unsigned object_set_size(const ObjectSet *set);
/* Keeps what is among objects, too: the rest is gone, or another object has its id. */
void object_set_keep(ObjectSet *set, const HostObject *objects, size_t n);

/* "device", "hwpt", "ioas", "other". */
const char *object_type_to_string(HostObjectType type);
int object_type_from_string(const char *text);

/* "4:ioas" and so on, NULL-terminated, to be freed with g_strfreev(). */
char **object_set_to_strings(const ObjectSet *set);
/* Strings that are not like that are left out. */
ObjectSet *object_set_from_strings(const char *const *strings);
