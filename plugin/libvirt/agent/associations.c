/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/libvirt/agent/associations.h"

#include <string.h>

struct Associations {
    GHashTable *table; /* uuid -> Association */
    GDestroyNotify free_caller;
};

static void association_free(void *data)
{
    Association *association = data;

    g_free(association->uuid);
    g_free(association->name);
    g_free(association->wanted);
    g_free(association->tenant);
    g_free(association->running);
    g_ptr_array_unref(association->callers);
    g_free(association);
}

Associations *associations_new(GDestroyNotify free_caller)
{
    Associations *associations = g_new0(Associations, 1);

    associations->table = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, association_free);
    associations->free_caller = free_caller;
    return associations;
}

void associations_free(Associations *associations)
{
    if (!associations)
        return;
    g_hash_table_unref(associations->table);
    g_free(associations);
}

Association *associations_find(Associations *associations, const char *uuid)
{
    return g_hash_table_lookup(associations->table, uuid);
}

static void set(char **text, const char *value)
{
    if (g_strcmp0(*text, value) == 0)
        return;
    g_free(*text);
    *text = g_strdup(value);
}

static Association *find_or_add(Associations *associations, const char *uuid)
{
    Association *association = associations_find(associations, uuid);

    if (!association) {
        association = g_new0(Association, 1);
        set(&association->uuid, uuid);
        set(&association->name, "");
        set(&association->wanted, "");
        set(&association->tenant, "");
        set(&association->running, "");
        association->callers = g_ptr_array_new_with_free_func(associations->free_caller);
        g_hash_table_insert(associations->table, association->uuid, association);
    }
    return association;
}

Association *associations_want(Associations *associations, const char *uuid, unsigned work,
                               void *caller)
{
    Association *association = find_or_add(associations, uuid);

    association->work |= work;
    if (caller)
        g_ptr_array_add(association->callers, caller);
    return association;
}

Association *associations_next(Associations *associations)
{
    GHashTableIter iter;
    void *value;

    g_hash_table_iter_init(&iter, associations->table);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Association *association = value;
        if (association->work && !association->busy)
            return association;
    }
    return NULL;
}

unsigned associations_begin(Associations *associations, Association *association,
                            GPtrArray **ret_callers)
{
    unsigned work = association->work;

    *ret_callers = association->callers;
    association->callers = g_ptr_array_new_with_free_func(associations->free_caller);
    association->work = 0;
    association->busy = true;
    return work;
}

void associations_done(Associations *associations, Association *association, unsigned done,
                       const Finding *finding)
{
    association->busy = false;
    if (done & WORK_ASSOCIATE)
        association->ours = finding->ours;
    if (!finding->found || !association->ours) {
        if (!association->work)
            g_hash_table_remove(associations->table, association->uuid);
        return;
    }
    set(&association->name, finding->name);
    if (done & WORK_ASSOCIATE)
        set(&association->wanted, finding->wanted);
    /* When it failed, libvirt keeps what it had. */
    if (finding->associated)
        set(&association->tenant, finding->wanted);
    if (finding->running && !*association->running)
        set(&association->running, finding->running);
}

void associations_stopped(Associations *associations, const char *uuid)
{
    Association *association = associations_find(associations, uuid);

    if (association)
        set(&association->running, "");
}

void associations_lost(Associations *associations, const char *tenant)
{
    GHashTableIter iter;
    void *value;

    g_hash_table_iter_init(&iter, associations->table);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Association *association = value;
        if (!tenant || g_str_equal(association->tenant, tenant))
            set(&association->tenant, "");
    }
}

void associations_want_tenant(Associations *associations, const char *tenant)
{
    GHashTableIter iter;
    void *value;

    g_hash_table_iter_init(&iter, associations->table);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Association *association = value;
        if (!*association->wanted || g_str_equal(association->wanted, tenant))
            association->work |= WORK_ASSOCIATE;
    }
}

static int compare(const void *a, const void *b)
{
    const Association *x = *(Association *const *)a, *y = *(Association *const *)b;
    int order = strcmp(x->name, y->name);

    return order ? order : strcmp(x->uuid, y->uuid);
}

GPtrArray *associations_list(Associations *associations)
{
    GPtrArray *list = g_ptr_array_new();
    GHashTableIter iter;
    void *value;

    g_hash_table_iter_init(&iter, associations->table);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        if (*((Association *)value)->tenant)
            g_ptr_array_add(list, value);
    g_ptr_array_sort(list, compare);
    return list;
}
