/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/bus/ioas-job.h"

#include "dbus/base/errors.h"
#include "dbus/bus/bus.h"
#include "dbus/state/records.h"
#include "dbus/base/worker.h"
#include "kernel/base/cleanup.h"

#include <fcntl.h>

Ioas *ioas_find(const TenantLife *life, uint32_t id, GError **error)
{
    Ioas *ioas = g_hash_table_lookup(life->ioases, GUINT_TO_POINTER(id));
    if (ioas && !ioas->going)
        return ioas;
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                "Tenant %s has no address space %u that AllocateIoas made: objects of machines "
                "can't be named here.",
                life->id, id);
    return NULL;
}

static void ioas_call_free(IoasCall *call)
{
    sd_bus_message_unref(call->message);
    close_fd(call->memfd);
    close_fd(call->fd);
    g_free(call);
}

static void ioas_call_run(void *data)
{
    IoasCall *call = data;
    const HostOps *ops = call->host->ops;
    switch (call->kind) {
    case IOAS_MAP_FILE:
        call->result = ops->ioas_map_file(call->host, call->fd, call->ioas, call->memfd,
                                          call->offset, call->length, call->access, &call->iova);
        break;
    case IOAS_COPY:
        call->result = ops->ioas_copy(call->host, call->fd, call->ioas, call->source, call->offset,
                                      call->length, call->access, &call->iova);
        break;
    case IOAS_UNMAP:
        call->result = ops->ioas_unmap(call->host, call->fd, call->ioas, call->iova, call->length,
                                       &call->unmapped);
        break;
    case IOAS_DESTROY:
        call->result = ops->object_destroy(call->host, call->fd, call->ioas);
        break;
    }
}

/* ---- the answer ---- */

static void set_map_error(const IoasCall *call, GError **error)
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
         "The file can't be mapped for writing: it was opened read-only."},
        {-EPERM, IOMMUD_ERROR_INVALID_ARGUMENT,
         "The file can't be mapped for writing: it is sealed against it."},
        {-ENOENT, IOMMUD_ERROR_INVALID_ARGUMENT,
         "Nothing is mapped there in the source, or not all of it."},
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
        if (call->result == known[i].r) {
            g_set_error_literal(error, IOMMUD_ERROR, (int)known[i].code, known[i].sentence);
            return;
        }
    }
    error_set_kernel(error, call->result, "The kernel refused to map into address space %u",
                     call->ioas);
}

static void set_error(const IoasCall *call, GError **error)
{
    if (call->kind == IOAS_MAP_FILE || call->kind == IOAS_COPY)
        set_map_error(call, error);
    else if (call->kind == IOAS_UNMAP && (call->result == -ENOENT || call->result == -EINVAL))
        g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_INVALID_ARGUMENT,
                    "Nothing is mapped there in address space %u, or only a part of a mapping "
                    "lies in the range: name it whole.",
                    call->ioas);
    else if (call->result == -EBUSY)
        error_set_kernel_advice(error, call->result, "detach the devices from it first",
                                "Address space %u can't be destroyed", call->ioas);
    else
        error_set_kernel(error, call->result, "The kernel refused to change address space %u",
                         call->ioas);
}

/* The charge follows what has happened. */
static void settle(IoasCall *call)
{
    TenantLife *life = call->life;
    Ioas *ioas = g_hash_table_lookup(life->ioases, GUINT_TO_POINTER(call->ioas));
    uint64_t bytes = charge_bytes(ioas->charge);
    if (call->kind == IOAS_DESTROY && call->result >= 0) {
        g_hash_table_remove(life->ioases, GUINT_TO_POINTER(call->ioas));
    } else if (call->kind == IOAS_DESTROY) {
        ioas->going = false;
    } else if (call->kind == IOAS_UNMAP && call->result >= 0) {
        (void)charge_resize(ioas->charge, bytes - MIN(bytes, call->unmapped), NULL);
    } else if (call->kind != IOAS_UNMAP && call->result < 0) {
        (void)charge_resize(ioas->charge, bytes - MIN(bytes, call->length), NULL);
    }
    state_save_tenant(life);
    bus_reserved_changed(life->manager, life->id);
}

static void ioas_call_done(void *data)
{
    IoasCall *call = data;
    call->life->calls--;
    settle(call);
    if (call->result < 0) {
        g_autoptr(GError) error = NULL;
        set_error(call, &error);
        bus_error_reply(call->message, error);
    } else if (call->kind == IOAS_DESTROY) {
        (void)sd_bus_reply_method_return(call->message, "");
    } else {
        (void)sd_bus_reply_method_return(call->message, "t",
                                         call->kind == IOAS_UNMAP ? call->unmapped : call->iova);
    }
    ioas_call_free(call);
}

/* ---- the question ---- */

/* Charged and written down before it is mapped: a crash in between must not let pages go
 * uncounted. */
static gboolean charge_mapping(const IoasCall *call, TenantLife *life, Ioas *ioas, GError **error)
{
    uint64_t bytes;
    if (call->kind != IOAS_MAP_FILE && call->kind != IOAS_COPY)
        return TRUE;
    g_autoptr(GError) refusal = NULL;
    if (__builtin_add_overflow(charge_bytes(ioas->charge), call->length, &bytes))
        bytes = UINT64_MAX;
    if (!charge_resize(ioas->charge, bytes, &refusal)) {
        manager_note_refusal(life->manager, life->id, "", call->length, refusal);
        g_propagate_error(error, g_steal_pointer(&refusal));
        return FALSE;
    }
    state_save_tenant(life);
    return TRUE;
}

gboolean ioas_call_queue(IoasCall *call, TenantLife *life, sd_bus_message *message, GError **error)
{
    call->life = life;
    call->message = sd_bus_message_ref(message);
    call->host = life->manager->host;
    call->fd = -EBADF;
    Ioas *ioas = ioas_find(life, call->ioas, error);
    if (!ioas || (call->kind == IOAS_COPY && !ioas_find(life, call->source, error))) {
        ioas_call_free(call);
        return FALSE;
    }
    call->fd = fcntl(life->tenant->iommufd, F_DUPFD_CLOEXEC, 3);
    if (call->fd < 0) {
        error_set_kernel(error, -errno, "The IOMMUFD of tenant %s can't be used", life->id);
        ioas_call_free(call);
        return FALSE;
    }
    if (!charge_mapping(call, life, ioas, error)) {
        ioas_call_free(call);
        return FALSE;
    }
    ioas->going = call->kind == IOAS_DESTROY;
    life->calls++;
    worker_queue(life->manager->worker, ioas_call_run, ioas_call_done, call);
    return TRUE;
}
