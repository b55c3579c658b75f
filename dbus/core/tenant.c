/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/core/tenant.h"

#include "dbus/accounting/accounting.h"
#include "dbus/base/errors.h"
#include "dbus/state/fd-store.h"
#include "dbus/base/journal.h"
#include "dbus/core/machine.h"
#include "dbus/reaper/reaper.h"
#include "dbus/state/records.h"
#include "kernel/base/cleanup.h"

#include <string.h>

void tenant_life_free_ioas(void *data)
{
    Ioas *ioas = data;
    charge_free(ioas->charge);
    g_free(ioas);
}

TenantLife *tenant_life_new(Manager *manager, Tenant *tenant)
{
    TenantLife *life = g_new0(TenantLife, 1);
    life->manager = manager;
    life->tenant = tenant;
    life->id = g_strdup(tenant->config->id);
    life->ioases = g_hash_table_new_full(NULL, NULL, NULL, tenant_life_free_ioas);
    life->reap_calls = g_ptr_array_new_with_free_func(sd_auto_free_message);
    return life;
}

void tenant_life_free(TenantLife *life)
{
    if (!life)
        return;
    reaper_detach(life);
    sd_event_source_disable_unref(life->retry);
    g_hash_table_unref(life->ioases);
    g_ptr_array_unref(life->reap_calls);
    object_set_free(life->settled);
    g_free(life->id);
    g_free(life);
}

/* ---- the IOMMUFD ---- */

bool tenant_life_shares(const TenantLife *life)
{
    if (life->tenant->config->isolation != ISOLATION_TENANT)
        return false;
    /* One that is there is used on: what is in it has to be reaped. */
    return life->tenant->iommufd >= 0 || books_may_share(life->manager->books);
}

gboolean tenant_life_open_fresh(TenantLife *life, int *ret_fd, GError **error)
{
    Host *host = life->manager->host;
    if (!manager_need_iommufd(life->manager, error))
        return FALSE;
    int r = host->ops->iommufd_open(host, life->tenant->config->accounting, ret_fd);
    if (r < 0) {
        error_set_kernel(error, r, "No IOMMUFD could be opened for tenant %s", life->id);
        return FALSE;
    }
    return TRUE;
}

void tenant_life_adopt(TenantLife *life, int fd)
{
    life->tenant->iommufd = fd;
    g_autofree char *name = fd_store_tenant_name(life->id);
    fd_store_push(name, fd);
    life->stored = true;
}

gboolean tenant_life_open(TenantLife *life, bool *ret_fresh, GError **error)
{
    bool fresh = life->tenant->iommufd < 0;
    int fd;
    if (fresh) {
        if (!tenant_life_open_fresh(life, &fd, error))
            return FALSE;
        if (!books_register(life->manager->books, life, fd, true, error)) {
            close_fd(fd);
            return FALSE;
        }
        tenant_life_adopt(life, fd);
        journal_write(LOG_INFO, MESSAGE_IOMMUFD_OPENED, &(JournalAbout){.tenant = life->id},
                      "Opened the shared IOMMUFD of tenant %s.", life->id);
    }
    if (ret_fresh)
        *ret_fresh = fresh;
    return TRUE;
}

void tenant_life_close(TenantLife *life)
{
    life->tenant->iommufd = close_fd(life->tenant->iommufd);
    g_autofree char *name = fd_store_tenant_name(life->id);
    fd_store_remove(name);
    life->stored = false;
    life->context = 0;
}

/* ---- objects ---- */

static MachineLife *life_of(TenantLife *life, const char *uuid)
{
    return g_hash_table_lookup(life->manager->machines, uuid);
}

void tenant_life_note_objects(TenantLife *life, const HostObject *objects, size_t n)
{
    if (life->settled)
        object_set_keep(life->settled, objects, n);
    GHashTableIter iter;
    void *uuid;
    g_hash_table_iter_init(&iter, life->tenant->machines);
    while (g_hash_table_iter_next(&iter, &uuid, NULL)) {
        MachineLife *machine = life_of(life, uuid);
        if (machine)
            object_set_keep(machine->objects, objects, n);
    }
}

gboolean tenant_life_objects(TenantLife *life, HostObject **ret_objects, size_t *ret_n,
                             GError **error)
{
    Host *host = life->manager->host;
    if (life->tenant->iommufd < 0) {
        tenant_life_note_objects(life, NULL, 0);
        *ret_objects = NULL;
        *ret_n = 0;
        return TRUE;
    }
    int r = host->ops->objects(host, life->tenant->iommufd, ret_objects, ret_n);
    if (r < 0) {
        error_set_kernel(error, r, "The objects in the IOMMUFD of tenant %s could not be listed",
                         life->id);
        return FALSE;
    }
    tenant_life_note_objects(life, *ret_objects, *ret_n);
    return TRUE;
}

MachineLife *tenant_life_owner(TenantLife *life, HostObject object)
{
    GHashTableIter iter;
    void *uuid;
    g_hash_table_iter_init(&iter, life->tenant->machines);
    while (g_hash_table_iter_next(&iter, &uuid, NULL)) {
        MachineLife *machine = life_of(life, uuid);
        if (machine && object_set_has(machine->objects, object))
            return machine;
    }
    return NULL;
}

bool tenant_life_made(const TenantLife *life, HostObject object)
{
    return object.type == HOST_OBJECT_IOAS &&
           g_hash_table_contains(life->ioases, GUINT_TO_POINTER(object.id));
}

/* ---- the start window ---- */

static gboolean window_open(TenantLife *life, GError **error)
{
    g_autofree HostObject *objects = NULL;
    size_t n;
    if (!tenant_life_objects(life, &objects, &n, error))
        return FALSE;
    object_set_free(life->settled);
    life->settled = object_set_new();
    for (size_t i = 0; i < n; i++)
        object_set_add(life->settled, objects[i]);
    life->window++;
    life->entered = 0;
    return TRUE;
}

gboolean tenant_life_enter(TenantLife *life, MachineLife *machine, GError **error)
{
    if (machine->inside || books_count(life->manager->books))
        return TRUE;
    if (life->inside == 0 && !window_open(life, error))
        return FALSE;
    life->inside++;
    life->entered++;
    machine->inside = true;
    machine->window = life->window;
    state_save_tenant(life);
    return TRUE;
}

gboolean tenant_life_renew_window(TenantLife *life, MachineLife *machine, GError **error)
{
    g_assert(machine->inside && life->inside == 1);
    if (!window_open(life, error))
        return FALSE;
    life->entered = 1;
    machine->window = life->window;
    state_save_tenant(life);
    return TRUE;
}

bool tenant_life_attribute(TenantLife *life, MachineLife *machine)
{
    g_autofree HostObject *objects = NULL;
    size_t n;
    /* While a sweep is with the worker, an id of the settled may be on its second object. */
    if (!machine->inside || life->entered > 1 || life->sweep ||
        !tenant_life_objects(life, &objects, &n, NULL))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (!object_set_has(life->settled, objects[i]) && !tenant_life_made(life, objects[i]) &&
            !tenant_life_owner(life, objects[i]))
            object_set_add(machine->objects, objects[i]);
    }
    return true;
}

void tenant_life_leave(TenantLife *life, MachineLife *machine)
{
    if (!machine->inside)
        return;
    machine->inside = false;
    life->inside--;
    if (life->inside == 0)
        g_clear_pointer(&life->settled, object_set_free);
    state_save_tenant(life);
    if (life->inside == 0)
        reaper_window_closed(life);
}

/* ---- figures ---- */

/* What this process has pinned is memory of MapFile calls. It shows up as one sum for all tenants
 * (and as nothing when an earlier run of the service has mapped it): no tenant has more of it than
 * it has mapped. */
static uint64_t mapped_and_pinned(TenantLife *life)
{
    Host *host = life->manager->host;
    uint64_t mapped = 0;
    GHashTableIter iter;
    void *ioas;
    g_hash_table_iter_init(&iter, life->ioases);
    while (g_hash_table_iter_next(&iter, NULL, &ioas))
        mapped += charge_bytes(((Ioas *)ioas)->charge);
    uint64_t pinned = 0;
    if (mapped == 0 || host->ops->process_pinned(host, getpid(), &pinned) < 0)
        return 0;
    return MIN(mapped, pinned);
}

/* Of machines that the ledger does not know: those with legacy VFIO, or all where there is none. */
static uint64_t machines_pinned(TenantLife *life, bool counted)
{
    uint64_t pinned = 0;
    g_autoptr(GPtrArray) machines = tenant_life_machines(life);
    for (unsigned i = 0; i < machines->len; i++) {
        MachineLife *machine = g_ptr_array_index(machines, i);
        if (!counted || !machine->machine->iommufd)
            pinned += machine_life_pinned(machine);
    }
    return pinned;
}

uint64_t tenant_life_pinned(TenantLife *life)
{
    Figures figures;
    bool counted = books_tenant(life->manager->books, life, &figures);
    uint64_t pinned = counted ? figures.pinned : mapped_and_pinned(life);
    pinned += machines_pinned(life, counted);
    life->peak_pinned = MAX(life->peak_pinned, MAX(figures.peak, pinned));
    return pinned;
}

void tenant_life_figures(TenantLife *life, Figures *ret_figures)
{
    Figures figures;
    uint64_t pinned = tenant_life_pinned(life);
    if (!books_tenant(life->manager->books, life, &figures))
        figures.unique = pinned;
    figures.peak = life->peak_pinned;
    *ret_figures = figures;
}

uint64_t tenant_life_orphaned(TenantLife *life)
{
    uint64_t orphaned = 0;
    Figures figures;
    if (books_tenant(life->manager->books, life, &figures))
        return figures.orphaned;
    g_autoptr(GPtrArray) machines = tenant_life_machines(life);
    for (unsigned i = 0; i < machines->len; i++)
        orphaned += machine_life_orphaned(g_ptr_array_index(machines, i));
    return orphaned;
}

static int compare_machines(const void *a, const void *b)
{
    const Machine *left = (*(MachineLife *const *)a)->machine;
    const Machine *right = (*(MachineLife *const *)b)->machine;
    int order = strcmp(left->name, right->name);
    return order != 0 ? order : strcmp(left->uuid, right->uuid);
}

GPtrArray *tenant_life_machines(TenantLife *life)
{
    GPtrArray *machines = g_ptr_array_new();
    GHashTableIter iter;
    void *uuid;
    g_hash_table_iter_init(&iter, life->tenant->machines);
    while (g_hash_table_iter_next(&iter, &uuid, NULL)) {
        MachineLife *machine = life_of(life, uuid);
        if (machine)
            g_ptr_array_add(machines, machine);
    }
    g_ptr_array_sort(machines, compare_machines);
    return machines;
}
