/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/libvirt/agent/associations.h"

#include <string.h>

DomainLive *domain_live_new(char **devices, uint64_t bytes, uint64_t reserved)
{
    DomainLive *live = g_new0(DomainLive, 1);

    live->devices = g_strdupv(devices);
    live->bytes = bytes;
    live->reserved = reserved;
    return live;
}

DomainLive *domain_live_copy(const DomainLive *live)
{
    return live ? domain_live_new(live->devices, live->bytes, live->reserved) : NULL;
}

void domain_live_free(DomainLive *live)
{
    if (!live)
        return;
    g_strfreev(live->devices);
    g_free(live);
}

struct Associations {
    GHashTable *table; /* uuid -> Association */
    GDestroyNotify free_caller;
};

static void association_free(void *data)
{
    Association *association = data;

    g_free(association->uuid);
    g_free(association->name);
    g_free(association->desired_tenant);
    g_free(association->tenant);
    g_free(association->why);
    g_free(association->pinned_tenant);
    domain_live_free(association->live);
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

/* NULL is "". */
static void set(char **text, const char *value)
{
    if (g_strcmp0(*text, value ? value : "") == 0)
        return;
    g_free(*text);
    *text = g_strdup(value ? value : "");
}

static Association *find_or_add(Associations *associations, const char *uuid)
{
    Association *association = associations_find(associations, uuid);

    if (!association) {
        association = g_new0(Association, 1);
        set(&association->uuid, uuid);
        set(&association->name, "");
        set(&association->desired_tenant, "");
        set(&association->tenant, "");
        set(&association->pinned_tenant, "");
        association->callers = g_ptr_array_new_with_free_func(associations->free_caller);
        g_hash_table_insert(associations->table, association->uuid, association);
    }
    return association;
}

Association *associations_request(Associations *associations, const char *uuid, unsigned flags,
                                  void *caller)
{
    Association *association = find_or_add(associations, uuid);

    association->pending |= flags;
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
        if (association->pending && !association->busy)
            return association;
    }
    return NULL;
}

unsigned associations_begin(Associations *associations, Association *association,
                            GPtrArray **ret_callers)
{
    unsigned flags = association->pending;

    *ret_callers = association->callers;
    association->callers = g_ptr_array_new_with_free_func(associations->free_caller);
    association->pending = 0;
    association->busy = true;
    return flags;
}

static void lose(Association *association)
{
    set(&association->tenant, "");
    association->iommufd = 0;
    association->epoch++;
}

unsigned associations_give(Association *association)
{
    lose(association);
    return association->epoch;
}

/* When it failed before anything was handed over, libvirt keeps what it had. */
static void take(Association *association, JobResult *result)
{
    result->associated = result->associated && result->epoch == association->epoch;
    g_free(association->why);
    association->why = g_strdup(result->associated ? NULL : result->why);
    if (!result->associated)
        return;
    if (association->iommufd != result->iommufd)
        association->given = false;
    set(&association->tenant, result->desired_tenant);
    association->iommufd = result->iommufd;
}

void associations_done(Associations *associations, Association *association, unsigned done,
                       JobResult *result)
{
    association->busy = false;
    if (done & JOB_ASSOCIATE)
        association->uses_iommud = result->uses_iommud;
    if (!result->found || !association->uses_iommud) {
        if (!association->pending)
            g_hash_table_remove(associations->table, association->uuid);
        return;
    }
    set(&association->name, result->name);
    if (done & JOB_ASSOCIATE) {
        set(&association->desired_tenant, result->desired_tenant);
        take(association, result);
    }
    if (result->pinned_tenant && !*association->pinned_tenant)
        set(&association->pinned_tenant, result->pinned_tenant);
    if (result->live) {
        domain_live_free(association->live);
        association->live = g_steal_pointer(&result->live);
    }
}

void associations_void(Associations *associations, const char *uuid)
{
    Association *association = associations_find(associations, uuid);

    if (association)
        lose(association);
}

void associations_stopped(Associations *associations, const char *uuid)
{
    Association *association = associations_find(associations, uuid);

    if (!association)
        return;
    set(&association->pinned_tenant, "");
    g_clear_pointer(&association->live, domain_live_free);
}

void associations_lost(Associations *associations, const char *tenant)
{
    GHashTableIter iter;
    void *value;

    g_hash_table_iter_init(&iter, associations->table);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Association *association = value;
        if (!tenant || g_str_equal(association->tenant, tenant))
            lose(association);
    }
}

void associations_request_tenant(Associations *associations, const char *tenant)
{
    GHashTableIter iter;
    void *value;

    g_hash_table_iter_init(&iter, associations->table);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Association *association = value;
        if (!*association->desired_tenant || g_str_equal(association->desired_tenant, tenant))
            association->pending |= JOB_ASSOCIATE;
    }
}

bool associations_idle(Associations *associations)
{
    GHashTableIter iter;
    void *value;

    g_hash_table_iter_init(&iter, associations->table);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        if (((Association *)value)->busy || ((Association *)value)->pending)
            return false;
    return true;
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
