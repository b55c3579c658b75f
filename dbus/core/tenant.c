/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/core/tenant.h"

#include "dbus/base/errors.h"
#include "dbus/base/journal.h"
#include "dbus/state/fd-store.h"
#include "dbus/state/records.h"
#include "kernel/base/cleanup.h"

#include <string.h>

/* A caller who opens one after the other makes no list that grows for ever. */
#define MAX_FRESH_IDS 65536

static void ioas_free(void *data)
{
    Ioas *ioas = data;
    charge_free(ioas->charge);
    g_free(ioas);
}

static gboolean tenant_save(WriterItem *item, GError **error)
{
    const Tenant *tenant = (const Tenant *)((char *)item - offsetof(Tenant, record));
    g_autoptr(TenantRecord) record = tenant_record_new(tenant_id(tenant));
    record->peak_pinned = tenant->peak_pinned;
    record->ledger_id = tenant->ledger_id;
    record->iommufd_id = tenant->iommufd_id;
    record->isolation = tenant->policy.config->isolation;
    record->accounting = tenant->policy.config->accounting;
    GHashTableIter iter;
    void *ioas;
    g_hash_table_iter_init(&iter, tenant->ioases);
    while (g_hash_table_iter_next(&iter, NULL, &ioas))
        tenant_record_add_ioas(record, ((Ioas *)ioas)->id, charge_bytes(((Ioas *)ioas)->charge));
    return tenant_record_save(record, tenant->manager->runtime_dir, error);
}

void tenant_begin(Tenant *tenant, Manager *manager)
{
    tenant->manager = manager;
    tenant->record.save = tenant_save;
    tenant->iommufd = -EBADF;
    tenant->fresh_ids = g_queue_new();
    tenant->ioases = g_hash_table_new_full(NULL, NULL, NULL, ioas_free);
}

void tenant_clear(TenantPolicy *policy)
{
    Tenant *tenant = (Tenant *)policy;
    writer_forget(tenant->manager->writer, &tenant->record);
    if (tenant->ledger_id)
        g_hash_table_remove(tenant->manager->tenant_ids, GUINT_TO_POINTER(tenant->ledger_id));
    g_hash_table_unref(tenant->ioases);
    g_queue_free_full(tenant->fresh_ids, g_free);
    close_fd(tenant->iommufd);
}

void tenant_mark(Tenant *tenant)
{
    writer_mark(tenant->manager->writer, &tenant->record);
}

/* ---- the ledger ---- */

gboolean tenant_introduce(Tenant *tenant, GError **error)
{
    Manager *manager = tenant->manager;
    if (tenant->ledger_id == 0) {
        tenant->ledger_id = numbers_next_tenant(manager->numbers);
        tenant_mark(tenant);
    }
    g_hash_table_insert(manager->tenant_ids, GUINT_TO_POINTER(tenant->ledger_id), tenant);
    /* Its id is written by then, if the kernel has heard of it before. */
    tenant->introduced =
        (tenant->introduced || writer_commit(manager->writer, error)) &&
        accounting_set_tenant(manager->accounting, tenant->ledger_id, tenant->policy.config, error);
    return tenant->introduced;
}

/* ---- the IOMMUFD ---- */

bool tenant_shares(const Tenant *tenant)
{
    return tenant->policy.config->isolation == ISOLATION_TENANT &&
           accounting_allows_sharing(tenant->manager->accounting);
}

gboolean tenant_need_shared(const Tenant *tenant, GError **error)
{
    if (tenant_shares(tenant))
        return TRUE;
    if (!manager_need_iommufd(tenant->manager, error))
        return FALSE;
    if (tenant->policy.config->isolation != ISOLATION_TENANT)
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_NOT_SUPPORTED,
                    "Tenant %s has an IOMMUFD per machine (Isolation=machine): there is no shared "
                    "one for address spaces that are made over D-Bus.",
                    tenant_id(tenant));
    else
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_NOT_SUPPORTED,
                    "Tenant %s has no shared IOMMUFD, because nothing is shared on this host: %s",
                    tenant_id(tenant), accounting_sharing_reason(tenant->manager->accounting));
    return FALSE;
}

static gboolean open_iommufd(Tenant *tenant, int *ret_fd, GError **error)
{
    Host *host = tenant->manager->host;
    /* Before it is registered: the ledger knows a limit by the tenant's id only. */
    if (!manager_need_iommufd(tenant->manager, error) ||
        (!tenant->introduced && !tenant_introduce(tenant, error)))
        return FALSE;
    int r = host->ops->iommufd_open(host, tenant->policy.config->accounting, ret_fd);
    if (r < 0)
        error_set_kernel(error, r, "No IOMMUFD could be opened for tenant %s", tenant_id(tenant));
    return r >= 0;
}

static gboolean register_iommufd(const Tenant *tenant, int fd, bool shared, uint32_t *ret_context,
                                 GError **error)
{
    Accounting *accounting = tenant->manager->accounting;
    gboolean done =
        accounting_register_iommufd(accounting, fd, tenant->ledger_id, shared, ret_context, error);
    if (!done)
        g_prefix_error(error, "Tenant %s: ", tenant_id(tenant));
    return done;
}

/* By chance: two are the same once in 2^64, and none has to be remembered for that. */
static uint64_t new_iommufd_id(void)
{
    uint64_t id;
    do
        id = (uint64_t)g_random_int() << 32 | g_random_int();
    while (id == 0);
    return id;
}

gboolean tenant_open_fresh(Tenant *tenant, int *ret_fd, uint64_t *ret_id, GError **error)
{
    uint32_t context;
    autoclose int fd = -EBADF;
    if (!open_iommufd(tenant, &fd, error) || !register_iommufd(tenant, fd, false, &context, error))
        return FALSE;
    *ret_fd = TAKE_FD(fd);
    if (ret_id) {
        *ret_id = new_iommufd_id();
        g_queue_push_tail(tenant->fresh_ids, g_memdup2(ret_id, sizeof(*ret_id)));
        if (tenant->fresh_ids->length > MAX_FRESH_IDS)
            g_free(g_queue_pop_head(tenant->fresh_ids));
    }
    return TRUE;
}

static int compare_ids(const void *a, const void *b)
{
    return *(const uint64_t *)a != *(const uint64_t *)b;
}

gboolean tenant_check_given(const Tenant *tenant, uint64_t id, const char *name, const char *uuid,
                            GError **error)
{
    if (tenant_shares(tenant) ? id == tenant->iommufd_id
                              : g_queue_find_custom(tenant->fresh_ids, &id, compare_ids) != NULL)
        return TRUE;
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_NOT_ASSOCIATED,
                "Machine %s (%s) would be started with an IOMMUFD that is %s: run 'iommuctl "
                "libvirt associate %s' and start it again.",
                name, uuid,
                tenant_shares(tenant) ? "not the one that its tenant's machines share"
                                      : "not a new one for it alone",
                uuid);
    return FALSE;
}

void tenant_use_given(Tenant *tenant, uint64_t id)
{
    GList *link = g_queue_find_custom(tenant->fresh_ids, &id, compare_ids);
    if (!link)
        return;
    g_free(link->data);
    g_queue_delete_link(tenant->fresh_ids, link);
}

void tenant_adopt_iommufd(Tenant *tenant, int fd, bool stored)
{
    tenant->iommufd = fd;
    /* One that was stored has kept its id in the tenant's record. */
    if (!stored || tenant->iommufd_id == 0)
        tenant->iommufd_id = new_iommufd_id();
    tenant_mark(tenant);
    tenant->iommufd_accounting = tenant->policy.config->accounting;
    g_autofree char *name = fd_store_tenant_name(tenant_id(tenant));
    if (!stored)
        fd_store_push(name, fd);
}

gboolean tenant_register_iommufd(Tenant *tenant, GError **error)
{
    return register_iommufd(tenant, tenant->iommufd, true, &tenant->context_id, error);
}

gboolean tenant_open(Tenant *tenant, bool *ret_fresh, GError **error)
{
    bool fresh = tenant->iommufd < 0;
    if (fresh) {
        if (!open_iommufd(tenant, &tenant->iommufd, error))
            return FALSE;
        if (!tenant_register_iommufd(tenant, error)) {
            tenant->iommufd = close_fd(tenant->iommufd);
            return FALSE;
        }
        tenant_adopt_iommufd(tenant, tenant->iommufd, false);
        /* Who is told of its id may be asked for it after a restart. */
        if (!writer_commit(tenant->manager->writer, error)) {
            tenant_close(tenant);
            return FALSE;
        }
        journal_write(LOG_INFO, MESSAGE_IOMMUFD_OPENED,
                      &(JournalFields){.tenant = tenant_id(tenant)},
                      "Opened the shared IOMMUFD of tenant %s.", tenant_id(tenant));
    }
    if (ret_fresh)
        *ret_fresh = fresh;
    return TRUE;
}

void tenant_close(Tenant *tenant)
{
    tenant->iommufd = close_fd(tenant->iommufd);
    tenant->context_id = 0;
    tenant->iommufd_id = 0;
    tenant_mark(tenant);
    g_autofree char *name = fd_store_tenant_name(tenant_id(tenant));
    fd_store_remove(name);
}

void tenant_follow_config(Tenant *tenant)
{
    if (tenant->iommufd >= 0 && (tenant->policy.config->isolation != ISOLATION_TENANT ||
                                 tenant->iommufd_accounting != tenant->policy.config->accounting))
        tenant_close(tenant);
}

/* ---- IOASes ---- */

Ioas *tenant_find_ioas(const Tenant *tenant, uint32_t id, GError **error)
{
    Ioas *ioas = g_hash_table_lookup(tenant->ioases, GUINT_TO_POINTER(id));
    if (ioas && !ioas->destroying)
        return ioas;
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                "Tenant %s has no address space %u that AllocateIoas made: objects of machines "
                "can't be named here.",
                tenant_id(tenant), id);
    return NULL;
}

void tenant_add_ioas(Tenant *tenant, uint32_t id, Charge *charge)
{
    Ioas *ioas = g_new0(Ioas, 1);
    ioas->id = id;
    ioas->charge = charge;
    g_hash_table_insert(tenant->ioases, GUINT_TO_POINTER(id), ioas);
    tenant_mark(tenant);
}

void tenant_remove_ioas(Tenant *tenant, uint32_t id)
{
    g_hash_table_remove(tenant->ioases, GUINT_TO_POINTER(id));
    tenant_mark(tenant);
}

/* ---- machines ---- */

static int compare_machines(const void *a, const void *b)
{
    const MachinePolicy *left = *(MachinePolicy *const *)a;
    const MachinePolicy *right = *(MachinePolicy *const *)b;
    int order = strcmp(left->name, right->name);
    return order != 0 ? order : strcmp(left->uuid, right->uuid);
}

GPtrArray *tenant_machines(const Tenant *tenant)
{
    GPtrArray *machines = g_ptr_array_new();
    GHashTableIter iter;
    void *machine;
    g_hash_table_iter_init(&iter, tenant->policy.machines);
    while (g_hash_table_iter_next(&iter, NULL, &machine))
        g_ptr_array_add(machines, machine);
    g_ptr_array_sort(machines, compare_machines);
    return machines;
}
