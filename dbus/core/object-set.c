/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/core/object-set.h"

#include <string.h>

struct ObjectSet {
    GHashTable *types; /* id -> HostObjectType */
};

static const char *const type_names[] = {
    [HOST_OBJECT_DEVICE] = "device",
    [HOST_OBJECT_HWPT] = "hwpt",
    [HOST_OBJECT_IOAS] = "ioas",
    [HOST_OBJECT_OTHER] = "other",
};

ObjectSet *object_set_new(void)
{
    ObjectSet *set = g_new0(ObjectSet, 1);
    set->types = g_hash_table_new(NULL, NULL);
    return set;
}

void object_set_free(ObjectSet *set)
{
    if (!set)
        return;
    g_hash_table_unref(set->types);
    g_free(set);
}

void object_set_add(ObjectSet *set, HostObject object)
{
    g_hash_table_insert(set->types, GUINT_TO_POINTER(object.id), GINT_TO_POINTER(object.type));
}

void object_set_remove(ObjectSet *set, uint32_t id)
{
    g_hash_table_remove(set->types, GUINT_TO_POINTER(id));
}

bool object_set_has(const ObjectSet *set, HostObject object)
{
    void *type;
    return set &&
           g_hash_table_lookup_extended(set->types, GUINT_TO_POINTER(object.id), NULL, &type) &&
           GPOINTER_TO_INT(type) == (int)object.type;
}

unsigned object_set_size(const ObjectSet *set)
{
    return g_hash_table_size(set->types);
}

void object_set_keep(ObjectSet *set, const HostObject *objects, size_t n)
{
    GHashTable *kept = g_hash_table_new(NULL, NULL);
    for (size_t i = 0; i < n; i++) {
        if (object_set_has(set, objects[i]))
            g_hash_table_insert(kept, GUINT_TO_POINTER(objects[i].id),
                                GINT_TO_POINTER(objects[i].type));
    }
    g_hash_table_unref(set->types);
    set->types = kept;
}

const char *object_type_to_string(HostObjectType type)
{
    return type_names[type];
}

int object_type_from_string(const char *text)
{
    for (size_t i = 0; i < G_N_ELEMENTS(type_names); i++) {
        if (strcmp(type_names[i], text) == 0)
            return (int)i;
    }
    return -1;
}

char **object_set_to_strings(const ObjectSet *set)
{
    GStrvBuilder *builder = g_strv_builder_new();
    GHashTableIter iter;
    void *id;
    void *type;
    g_hash_table_iter_init(&iter, set->types);
    while (g_hash_table_iter_next(&iter, &id, &type)) {
        g_autofree char *text =
            g_strdup_printf("%u:%s", GPOINTER_TO_UINT(id), type_names[GPOINTER_TO_INT(type)]);
        g_strv_builder_add(builder, text);
    }
    char **strings = g_strv_builder_end(builder);
    g_strv_builder_unref(builder);
    return strings;
}

ObjectSet *object_set_from_strings(const char *const *strings)
{
    ObjectSet *set = object_set_new();
    for (; strings && *strings; strings++) {
        char *end;
        uint64_t id = g_ascii_strtoull(*strings, &end, 10);
        int type = *end == ':' ? object_type_from_string(end + 1) : -1;
        if (type >= 0 && id <= UINT32_MAX)
            object_set_add(set, (HostObject){.id = (uint32_t)id, .type = (HostObjectType)type});
    }
    return set;
}
