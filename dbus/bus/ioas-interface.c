/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/bus/ioas-interface.h"

#include "dbus/base/errors.h"
#include "dbus/bus/ioas-job.h"
#include "dbus/bus/tenant-path.h"
#include "kernel/base/cleanup.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* The charge is written down before the kernel makes anything; an IOAS that nobody knows of goes
 * when the tenant's IOMMUFD does. */
int bus_allocate_ioas(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    Tenant *tenant = bus_tenant_of(message, userdata);
    Manager *manager = tenant->manager;
    uint32_t id;
    bool fresh;
    g_autoptr(GError) error = NULL;
    if (!tenant_need_shared(tenant, &error) || !tenant_open(tenant, &fresh, &error))
        return bus_error_set(ret_error, error);
    g_autofree char *what = g_strdup_printf("an address space of tenant %s", tenant_id(tenant));
    Charge *charge = charge_take(tenant->policy.budget, 0, what, &error);
    int r = charge ? manager->host->ops->ioas_alloc(manager->host, tenant->iommufd, &id) : 0;
    if (charge && r >= 0) {
        tenant_add_ioas(tenant, id, charge);
        if (writer_commit(manager->writer, &error))
            return sd_bus_reply_method_return(message, "u", id);
        (void)manager->host->ops->object_destroy(manager->host, tenant->iommufd, id);
        tenant_remove_ioas(tenant, id);
    } else if (charge) {
        charge_free(charge);
        error_set_kernel(&error, r, "IOMMU_IOAS_ALLOC failed for tenant %s", tenant_id(tenant));
    }
    if (fresh)
        tenant_close(tenant);
    return bus_error_set(ret_error, error);
}

/* ---- addresses ---- */

int bus_iova_ranges(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    Tenant *tenant = bus_tenant_of(message, userdata);
    Host *host = tenant->manager->host;
    uint32_t id;
    g_autofree HostIovaRange *ranges = NULL;
    size_t n;
    g_autoptr(GError) error = NULL;
    g_autoptr(sd_bus_message) reply = NULL;
    int r = sd_bus_message_read(message, "u", &id);
    if (r < 0)
        return r;
    if (!tenant_find_ioas(tenant, id, &error))
        return bus_error_set(ret_error, error);
    r = host->ops->ioas_iova_ranges(host, tenant->iommufd, id, &ranges, &n);
    if (r < 0) {
        error_set_kernel(&error, r, "IOMMU_IOAS_IOVA_RANGES failed for address space %u", id);
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
    Tenant *tenant = bus_tenant_of(message, userdata);
    Host *host = tenant->manager->host;
    uint32_t id;
    g_autoptr(GArray) ranges = g_array_new(FALSE, FALSE, sizeof(HostIovaRange));
    g_autoptr(GError) error = NULL;
    int r = sd_bus_message_read(message, "u", &id);
    if (r >= 0)
        r = read_ranges(message, ranges);
    if (r < 0)
        return r;
    if (!tenant_find_ioas(tenant, id, &error))
        return bus_error_set(ret_error, error);
    r = host->ops->ioas_allow_iovas(host, tenant->iommufd, id, (const HostIovaRange *)ranges->data,
                                    ranges->len);
    if (r == -EINVAL || r == -EADDRINUSE)
        return bus_error_invalid(ret_error,
                                 "These can't be the ranges of address space %u: they begin after "
                                 "they end, overlap, or contain what a device reserves.",
                                 id);
    if (r < 0) {
        error_set_kernel(&error, r, "IOMMU_IOAS_ALLOW_IOVAS failed for address space %u", id);
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

static int check_file(int fd, const IoasJob *job, sd_bus_error *ret_error)
{
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || fcntl(fd, F_GET_SEALS) < 0)
        return bus_error_invalid(
            ret_error, "What is to be mapped is not a memfd: make it with memfd_create(2).");
    if (job->offset + job->length > (uint64_t)st.st_size)
        return bus_error_invalid(ret_error,
                                 "The memfd is %" G_GUINT64_FORMAT " bytes long: %" G_GUINT64_FORMAT
                                 " bytes from %" G_GUINT64_FORMAT " on are not all in it.",
                                 (uint64_t)st.st_size, job->length, job->offset);
    return 0;
}

/* Answered when the worker has done it. */
static int queue(IoasJob *job, void *userdata, sd_bus_message *message, sd_bus_error *ret_error)
{
    g_autoptr(GError) error = NULL;
    if (!ioas_job_queue(job, bus_tenant_of(message, userdata), message, &error))
        return bus_error_set(ret_error, error);
    return 1;
}

int bus_map_file(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    IoasJob job = {.kind = IOAS_MAP_FILE, .memfd = -EBADF};
    int fd;
    const char *access;
    int r = sd_bus_message_read(message, "uhttts", &job.ioas, &fd, &job.offset, &job.length,
                                &job.iova, &access);
    if (r >= 0)
        r = read_access(access, &job.access, ret_error);
    if (r >= 0)
        r = check_length(job.offset, job.length, ret_error);
    if (r >= 0)
        r = check_file(fd, &job, ret_error);
    if (r < 0)
        return r;
    job.memfd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (job.memfd < 0)
        return -errno;
    return queue(g_memdup2(&job, sizeof(job)), userdata, message, ret_error);
}

int bus_copy(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    IoasJob job = {.kind = IOAS_COPY, .memfd = -EBADF};
    const char *access;
    int r = sd_bus_message_read(message, "uuttts", &job.ioas, &job.source, &job.offset, &job.length,
                                &job.iova, &access);
    if (r >= 0)
        r = read_access(access, &job.access, ret_error);
    if (r >= 0)
        r = check_length(job.offset, job.length, ret_error);
    if (r < 0)
        return r;
    return queue(g_memdup2(&job, sizeof(job)), userdata, message, ret_error);
}

int bus_unmap(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    IoasJob job = {.kind = IOAS_UNMAP, .memfd = -EBADF};
    int r = sd_bus_message_read(message, "utt", &job.ioas, &job.iova, &job.length);
    if (r >= 0)
        r = check_length(job.iova, job.length, ret_error);
    if (r < 0)
        return r;
    return queue(g_memdup2(&job, sizeof(job)), userdata, message, ret_error);
}

int bus_destroy(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
    IoasJob job = {.kind = IOAS_DESTROY, .memfd = -EBADF};
    int r = sd_bus_message_read(message, "u", &job.ioas);
    if (r < 0)
        return r;
    return queue(g_memdup2(&job, sizeof(job)), userdata, message, ret_error);
}
