/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/bus/ioas-job.h"

#include "dbus/base/errors.h"
#include "dbus/base/signals.h"
#include "dbus/base/worker.h"
#include "kernel/base/cleanup.h"

#include <fcntl.h>

static void ioas_job_free(IoasJob *job)
{
    sd_bus_message_unref(job->message);
    g_free(job->tenant);
    close_fd(job->memfd);
    close_fd(job->fd);
    g_free(job);
}

static void ioas_job_run(void *data)
{
    IoasJob *job = data;
    const HostOps *ops = job->host->ops;
    switch (job->kind) {
    case IOAS_MAP_FILE:
        job->result = ops->ioas_map_file(job->host, job->fd, job->ioas, job->memfd, job->offset,
                                         job->length, job->access, &job->iova);
        break;
    case IOAS_COPY:
        job->result = ops->ioas_copy(job->host, job->fd, job->ioas, job->source, job->offset,
                                     job->length, job->access, &job->iova);
        break;
    case IOAS_UNMAP:
        job->result =
            ops->ioas_unmap(job->host, job->fd, job->ioas, job->iova, job->length, &job->unmapped);
        break;
    case IOAS_DESTROY:
        job->result = ops->object_destroy(job->host, job->fd, job->ioas);
        break;
    }
}

/* ---- the answer ---- */

static void set_map_error(const IoasJob *job, GError **error)
{
    static const struct {
        int r;
        IommudError code;
        const char *sentence;
    } known[] = {
        {-EINVAL, IOMMUD_ERROR_INVALID_ARGUMENT,
         "The kernel can't map this: offset, length and address must be multiples of the page "
         "size, inside of a memfd."},
        {-EACCES, IOMMUD_ERROR_INVALID_ARGUMENT,
         "The file can't be mapped for writing, as it was opened read-only: open it for both, or "
         "ask "
         "for access 'r'."},
        {-EPERM, IOMMUD_ERROR_INVALID_ARGUMENT,
         "The file can't be mapped for writing, as it is sealed against that: ask for access 'r'."},
        {-ENOENT, IOMMUD_ERROR_INVALID_ARGUMENT,
         "Nothing is mapped there in the source, or not all of it: map it first."},
        {-EEXIST, IOMMUD_ERROR_INVALID_ARGUMENT,
         "Something is mapped at that address: unmap it first, or ask for any address."},
        {-EADDRINUSE, IOMMUD_ERROR_INVALID_ARGUMENT,
         "Something is mapped at that address: unmap it first, or ask for any address."},
        {-EDQUOT, IOMMUD_ERROR_LIMIT_EXCEEDED,
         "The tenant's machines have more mapped than was reserved for them, and its limit has no "
         "room left: raise the limit, or stop a machine of the tenant."},
        {-ENOSPC, IOMMUD_ERROR_KERNEL_REFUSED,
         "There is no room of that length in the address space: unmap something first."},
        {-EOPNOTSUPP, IOMMUD_ERROR_NOT_SUPPORTED,
         "This kernel can't map files into an address space: Linux 6.13 or newer can."},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
        if (job->result == known[i].r) {
            g_set_error_literal(error, IOMMUD_ERROR, (int)known[i].code, known[i].sentence);
            return;
        }
    }
    error_set_kernel(error, job->result, "The kernel refused to map into address space %u",
                     job->ioas);
}

static void set_error(const IoasJob *job, GError **error)
{
    if (job->kind == IOAS_MAP_FILE || job->kind == IOAS_COPY)
        set_map_error(job, error);
    else if (job->kind == IOAS_UNMAP && (job->result == -ENOENT || job->result == -EINVAL))
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                    "Nothing is mapped there in address space %u, or only a part of a mapping "
                    "lies in the range: name it whole.",
                    job->ioas);
    else if (job->result == -EBUSY)
        error_set_kernel_advice(error, job->result, "detach the devices from it first",
                                "Address space %u can't be destroyed", job->ioas);
    else
        error_set_kernel(error, job->result, "The kernel refused to change address space %u",
                         job->ioas);
}

/* Makes the charge what is mapped now that the ioctl has ended. */
static void settle(const IoasJob *job, Tenant *tenant)
{
    Ioas *ioas = g_hash_table_lookup(tenant->ioases, GUINT_TO_POINTER(job->ioas));
    uint64_t bytes = charge_bytes(ioas->charge);
    if (job->kind == IOAS_DESTROY && job->result >= 0)
        tenant_remove_ioas(tenant, job->ioas);
    else if (job->kind == IOAS_DESTROY)
        ioas->destroying = false;
    else if (job->kind == IOAS_UNMAP && job->result >= 0)
        (void)charge_resize(ioas->charge, bytes - MIN(bytes, job->unmapped), NULL);
    else if (job->kind != IOAS_UNMAP && job->result < 0)
        (void)charge_resize(ioas->charge, bytes - MIN(bytes, job->length), NULL);
    /* It may have been the last that kept an IOMMUFD open which only waits for that. */
    if (job->kind == IOAS_DESTROY)
        queue_reap(job->manager->queue, job->tenant);
    tenant->ioas_jobs--;
    tenant_mark(tenant);
    writer_commit_or_log(tenant->manager->writer);
    signal_reserved_changed(tenant->manager->bus, tenant_id(tenant));
}

static void answer(const IoasJob *job)
{
    g_autoptr(GError) error = NULL;
    if (job->result < 0) {
        set_error(job, &error);
        bus_error_reply(job->message, error);
    } else if (job->kind == IOAS_DESTROY) {
        (void)sd_bus_reply_method_return(job->message, "");
    } else {
        (void)sd_bus_reply_method_return(job->message, "t",
                                         job->kind == IOAS_UNMAP ? job->unmapped : job->iova);
    }
}

/* The tenant is still there: one with jobs is not deleted (tenant_delete(), manager_reload()). */
static void ioas_job_done(void *data)
{
    IoasJob *job = data;
    settle(job, manager_find_tenant(job->manager, job->tenant));
    answer(job);
    ioas_job_free(job);
}

/* ---- the question ---- */

/* Charged and written down before it is mapped: a crash in between must not let pages go
 * uncounted. */
static gboolean charge_mapping(const IoasJob *job, Tenant *tenant, Ioas *ioas, GError **error)
{
    Manager *manager = tenant->manager;
    uint64_t before = charge_bytes(ioas->charge);
    uint64_t bytes;
    if (job->kind != IOAS_MAP_FILE && job->kind != IOAS_COPY)
        return TRUE;
    g_autoptr(GError) refusal = NULL;
    if (__builtin_add_overflow(before, job->length, &bytes))
        bytes = UINT64_MAX;
    if (!charge_resize(ioas->charge, bytes, &refusal)) {
        manager_log_refusal(manager, tenant_id(tenant), "", job->length, refusal);
        g_propagate_error(error, g_steal_pointer(&refusal));
        return FALSE;
    }
    tenant_mark(tenant);
    if (writer_commit(manager->writer, error))
        return TRUE;
    charge_put_back(ioas->charge, before);
    tenant_mark(tenant);
    return FALSE;
}

static gboolean prepare(IoasJob *job, Tenant *tenant, GError **error)
{
    Ioas *ioas = tenant_find_ioas(tenant, job->ioas, error);
    if (!ioas || (job->kind == IOAS_COPY && !tenant_find_ioas(tenant, job->source, error)))
        return FALSE;
    job->fd = fcntl(tenant->iommufd, F_DUPFD_CLOEXEC, 3);
    if (job->fd < 0) {
        error_set_kernel(error, -errno, "The descriptor of tenant %s's IOMMUFD can't be duplicated",
                         tenant_id(tenant));
        return FALSE;
    }
    if (!charge_mapping(job, tenant, ioas, error))
        return FALSE;
    ioas->destroying = job->kind == IOAS_DESTROY;
    return TRUE;
}

gboolean ioas_job_queue(IoasJob *job, Tenant *tenant, sd_bus_message *message, GError **error)
{
    Manager *manager = tenant->manager;
    job->manager = manager;
    job->tenant = g_strdup(tenant_id(tenant));
    job->message = sd_bus_message_ref(message);
    job->host = manager->host;
    job->fd = -EBADF;
    if (!prepare(job, tenant, error)) {
        ioas_job_free(job);
        return FALSE;
    }
    tenant->ioas_jobs++;
    worker_queue(manager->worker, ioas_job_run, ioas_job_done, job);
    return TRUE;
}
