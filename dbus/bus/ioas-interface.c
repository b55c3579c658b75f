/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/bus/ioas-interface.h"

#include "dbus/base/errors.h"
#include "dbus/bus/ioas-job.h"
#include "dbus/state/records.h"
#include "kernel/base/cleanup.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static gboolean need_shared(const TenantLife *life, GError **error)
{
    if (tenant_life_shares(life))
        return TRUE;
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_NOT_SUPPORTED,
                "Tenant %s has an IOMMUFD per machine (Isolation=machine): there is no shared one "
                "for address spaces that are made over D-Bus.",
                life->id);
    return FALSE;
}

int bus_allocate_ioas(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    TenantLife *life = userdata;
    Host *host = life->manager->host;
    uint32_t id;
    bool fresh;
    g_autoptr(GError) error = NULL;
    if (!need_shared(life, &error) || !tenant_life_open(life, &fresh, &error))
        return bus_error_set(ret_error, error);
    g_autofree char *what = g_strdup_printf("an address space of tenant %s", life->id);
    g_autoptr(Charge) charge = charge_take(life->tenant->budget, 0, what, &error);
    int r = charge ? host->ops->ioas_alloc(host, life->tenant->iommufd, &id) : 0;
    if (r < 0)
        error_set_kernel(&error, r, "The kernel made no address space for tenant %s", life->id);
    if (error) {
        if (fresh)
            tenant_life_close(life);
        return bus_error_set(ret_error, error);
    }
    Ioas *ioas = g_new0(Ioas, 1);
    ioas->id = id;
    ioas->charge = g_steal_pointer(&charge);
    g_hash_table_insert(life->ioases, GUINT_TO_POINTER(id), ioas);
    state_save_tenant(life);
    return sd_bus_reply_method_return(message, "u", id);
}

/* ---- addresses ---- */

int bus_iova_ranges(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    TenantLife *life = userdata;
    Host *host = life->manager->host;
    uint32_t id;
    g_autofree HostIovaRange *ranges = NULL;
    size_t n;
    g_autoptr(GError) error = NULL;
    g_autoptr(sd_bus_message) reply = NULL;
    int r = sd_bus_message_read(message, "u", &id);
    if (r < 0)
        return r;
    if (!ioas_find(life, id, &error))
        return bus_error_set(ret_error, error);
    r = host->ops->ioas_iova_ranges(host, life->tenant->iommufd, id, &ranges, &n);
    if (r < 0) {
        error_set_kernel(&error, r, "The ranges of address space %u can't be had", id);
        return bus_error_set(ret_error, error);
    }
    r = sd_bus_message_new_method_return(message, &reply);
    if (r >= 0)
        r = sd_bus_message_open_container(reply, 'a', "(tt)");
    for (size_t i = 0; r >= 0 && i < n; i++)
        r = sd_bus_message_append(reply, "(tt)", ranges[i].start, ranges[i].last);
    if (r >= 0)
        r = sd_bus_message_close_container(reply);
    return r < 0 ? r : sd_bus_message_send(reply);
}

static int read_ranges(sd_bus_message *message, GArray *ranges)
{
    HostIovaRange range;
    int r = sd_bus_message_enter_container(message, 'a', "(tt)");
    while (r >= 0 && (r = sd_bus_message_read(message, "(tt)", &range.start, &range.last)) > 0)
        g_array_append_val(ranges, range);
    return r < 0 ? r : sd_bus_message_exit_container(message);
}

int bus_allow_iovas(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    TenantLife *life = userdata;
    Host *host = life->manager->host;
    uint32_t id;
    g_autoptr(GArray) ranges = g_array_new(FALSE, FALSE, sizeof(HostIovaRange));
    g_autoptr(GError) error = NULL;
    int r = sd_bus_message_read(message, "u", &id);
    if (r >= 0)
        r = read_ranges(message, ranges);
    if (r < 0)
        return r;
    if (!ioas_find(life, id, &error))
        return bus_error_set(ret_error, error);
    r = host->ops->ioas_allow_iovas(host, life->tenant->iommufd, id,
                                    (const HostIovaRange *)ranges->data, ranges->len);
    if (r == -EINVAL || r == -EADDRINUSE)
        return bus_error_invalid(ret_error,
                                 "These can't be the ranges of address space %u: they begin after "
                                 "they end, overlap, or contain what a device reserves.",
                                 id);
    if (r < 0) {
        error_set_kernel(&error, r, "The ranges of address space %u can't be set", id);
        return bus_error_set(ret_error, error);
    }
    return sd_bus_reply_method_return(message, "");
}

/* ---- mappings ---- */

static int read_access(const char *text, unsigned *ret_access, sd_bus_error *ret_error)
{
    static const struct {
        const char *text;
        unsigned access;
    } known[] = {
        {"r", HOST_ACCESS_READ},
        {"w", HOST_ACCESS_WRITE},
        {"rw", HOST_ACCESS_READ | HOST_ACCESS_WRITE},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
        if (strcmp(text, known[i].text) == 0) {
            *ret_access = known[i].access;
            return 0;
        }
    }
    return bus_error_invalid(ret_error, "The access is r, w or rw.");
}

static int check_length(uint64_t start, uint64_t length, sd_bus_error *ret_error)
{
    uint64_t end;
    if (length > 0 && !__builtin_add_overflow(start, length - 1, &end))
        return 0;
    return bus_error_invalid(ret_error,
                             "A range of %" G_GUINT64_FORMAT " bytes from %" G_GUINT64_FORMAT
                             " on is empty or goes beyond 2^64.",
                             length, start);
}

static int check_file(int fd, const IoasCall *call, sd_bus_error *ret_error)
{
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || fcntl(fd, F_GET_SEALS) < 0)
        return bus_error_invalid(ret_error, "What is to be mapped is not a memfd.");
    if (call->offset + call->length > (uint64_t)st.st_size)
        return bus_error_invalid(ret_error,
                                 "The memfd is %" G_GUINT64_FORMAT " bytes long: %" G_GUINT64_FORMAT
                                 " bytes from %" G_GUINT64_FORMAT " on are not all in it.",
                                 (uint64_t)st.st_size, call->length, call->offset);
    return 0;
}

/* Answered when the worker has done it. */
static int queue(IoasCall *call, TenantLife *life, sd_bus_message *message, sd_bus_error *ret_error)
{
    g_autoptr(GError) error = NULL;
    if (!ioas_call_queue(call, life, message, &error))
        return bus_error_set(ret_error, error);
    return 1;
}

int bus_map_file(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    IoasCall call = {.kind = IOAS_MAP_FILE, .memfd = -EBADF};
    int fd;
    const char *access;
    int r = sd_bus_message_read(message, "uhttts", &call.ioas, &fd, &call.offset, &call.length,
                                &call.iova, &access);
    if (r >= 0)
        r = read_access(access, &call.access, ret_error);
    if (r >= 0)
        r = check_length(call.offset, call.length, ret_error);
    if (r >= 0)
        r = check_file(fd, &call, ret_error);
    if (r < 0)
        return r;
    call.memfd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (call.memfd < 0)
        return -errno;
    return queue(g_memdup2(&call, sizeof(call)), userdata, message, ret_error);
}

int bus_copy(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    IoasCall call = {.kind = IOAS_COPY, .memfd = -EBADF};
    const char *access;
    int r = sd_bus_message_read(message, "uuttts", &call.ioas, &call.source, &call.offset,
                                &call.length, &call.iova, &access);
    if (r >= 0)
        r = read_access(access, &call.access, ret_error);
    if (r >= 0)
        r = check_length(call.offset, call.length, ret_error);
    if (r < 0)
        return r;
    return queue(g_memdup2(&call, sizeof(call)), userdata, message, ret_error);
}

int bus_unmap(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    IoasCall call = {.kind = IOAS_UNMAP, .memfd = -EBADF};
    int r = sd_bus_message_read(message, "utt", &call.ioas, &call.iova, &call.length);
    if (r >= 0)
        r = check_length(call.iova, call.length, ret_error);
    if (r < 0)
        return r;
    return queue(g_memdup2(&call, sizeof(call)), userdata, message, ret_error);
}

int bus_destroy(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    IoasCall call = {.kind = IOAS_DESTROY, .memfd = -EBADF};
    int r = sd_bus_message_read(message, "u", &call.ioas);
    if (r < 0)
        return r;
    return queue(g_memdup2(&call, sizeof(call)), userdata, message, ret_error);
}
