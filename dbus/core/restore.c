/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/core/restore.h"

#include "dbus/accounting/accounting.h"
#include "dbus/state/fd-store.h"
#include "dbus/base/journal.h"
#include "dbus/core/machine.h"
#include "dbus/reaper/reaper.h"
#include "dbus/state/records.h"
#include "dbus/core/tenant.h"
#include "kernel/base/cleanup.h"
#include "kernel/base/process.h"

#include <inttypes.h>
#include <string.h>
#include <sys/syscall.h>

/* ---- tenants ---- */

/* A tenant that has machines but is configured no longer stays until they are gone. Its limit is
 * nothing: no more machines are admitted. */
static TenantLife *keep_tenant(Manager *manager, const char *id)
{
    TenantRecord *record = state_load_tenant(manager, id);
    TenantConfig *config = tenant_config_new(id);
    config->limit = 0;
    if (record) {
        config->isolation = record->isolation;
        config->accounting = record->accounting;
        tenant_record_free(record);
    }
    Tenant *tenant = registry_add_tenant(manager->registry, config, NULL);
    if (!tenant)
        return NULL;
    journal_write(
        LOG_WARNING, MESSAGE_TENANT_KEPT, &(JournalAbout){.tenant = id},
        "Tenant %s is no longer configured but has machines: it stays, with a limit of 0, "
        "until they are gone.",
        id);
    TenantLife *life = tenant_life_new(manager, tenant);
    g_hash_table_insert(manager->tenants, life->id, life);
    return life;
}

/* What is in the IOMMUFD of machines that are there has to be reaped, also where none would be
 * shared by now. */
static bool is_needed(TenantLife *life)
{
    bool needed = tenant_life_shares(life);
    g_autoptr(GPtrArray) machines = tenant_life_machines(life);
    for (unsigned i = 0; i < machines->len; i++)
        needed = needed || ((MachineLife *)g_ptr_array_index(machines, i))->shares;
    return needed;
}

static void claim_iommufd(TenantLife *life, FdStore *store)
{
    Host *host = life->manager->host;
    g_autofree char *name = fd_store_tenant_name(life->id);
    autoclose int fd = fd_store_claim(store, name);
    if (fd < 0)
        return;
    bool valid = host->ops->iommufd_check(host, fd) >= 0;
    if (valid && is_needed(life)) {
        life->tenant->iommufd = TAKE_FD(fd);
        life->stored = true;
        return;
    }
    fd_store_remove(name);
    journal_write(LOG_NOTICE, MESSAGE_IOMMUFD_CLOSED, &(JournalAbout){.tenant = life->id},
                  valid ? "Closed the shared IOMMUFD of tenant %s, which has no machine in it and "
                          "by the configuration shares none."
                        : "What the fd store had as the shared IOMMUFD of tenant %s is none: "
                          "closed it.",
                  life->id);
}

/* ---- machines ---- */

/* The leader's pidfd: the stored one, or a new one if the pid still is that process. -EBADF: it is
 * dead. */
static int claim_leader(const MachineRecord *record, FdStore *store)
{
    g_autofree char *name = fd_store_leader_name(record->uuid);
    autoclose int fd = fd_store_claim(store, name);
    bool stored = fd >= 0;
    pid_t pid;
    uint64_t start;
    if (!stored && process_open(record->leader, &fd) >= 0 &&
        (process_start_time(record->leader, &start) < 0 || start != record->leader_start))
        fd = close_fd(fd);
    if (fd >= 0 && process_alive(fd) == 1 && process_pid(fd, &pid) >= 0 && pid == record->leader) {
        if (!stored)
            fd_store_push(name, fd);
        return TAKE_FD(fd);
    }
    fd_store_remove(name);
    return -EBADF;
}

static void restore_life(MachineLife *life, MachineRecord *record, FdStore *store)
{
    Machine *machine = life->machine;
    machine->state = record->state;
    machine->since = record->since;
    machine->leader = record->leader;
    machine->last_pinned = record->last_pinned;
    life->leader_start = record->leader_start;
    life->number = record->number;
    life->window = record->window;
    life->shares = record->shares || (record->shares_as_tenant && tenant_life_shares(life->tenant));
    life->known = record->known;
    object_set_free(life->objects);
    life->objects = g_steal_pointer(&record->objects);
    if (machine->state == MACHINE_RUNNING) {
        machine->leader_pidfd = claim_leader(record, store);
        if (machine->leader_pidfd < 0)
            machine->state = MACHINE_REAPING;
    }
    if (machine->state == MACHINE_REAPING)
        machine->since = g_get_monotonic_time();
    life->inside = life->shares && !books_count(life->manager->books) &&
                   (machine->state == MACHINE_ADMITTED ||
                    (machine->state == MACHINE_RUNNING && record->inside));
    if (machine->state != MACHINE_REAPING && machine_life_watch(life) < 0)
        g_error("Out of memory or descriptors");
}

static void restore_machine(Manager *manager, MachineRecord *record, FdStore *store)
{
    g_autoptr(GError) error = NULL;
    TenantLife *tenant = g_hash_table_lookup(manager->tenants, record->tenant);
    AdmissionRequest request = {
        .uuid = record->uuid,
        .name = record->name,
        .tenant = record->tenant,
        .bytes = record->bytes,
        .devices = (const char *const *)record->devices,
        .iommufd = record->iommufd,
    };
    if (!tenant)
        tenant = keep_tenant(manager, record->tenant);
    Machine *machine = registry_restore(manager->registry, &request, &error);
    if (!tenant || !machine) {
        journal_write(LOG_ERR, MESSAGE_STATE_NOT_READ,
                      &(JournalAbout){.tenant = record->tenant, .machine = record->uuid},
                      "The record of machine %s can't be taken up: %s", record->uuid,
                      error ? error->message : "its tenant has no valid name.");
        state_remove_machine(manager, record->uuid);
        return;
    }
    MachineLife *life = machine_life_new(manager, tenant, machine);
    g_hash_table_insert(manager->machines, life->uuid, life);
    restore_life(life, record, store);
}

/* ---- an IOMMUFD that was lost ---- */

/* What /proc calls an IOMMUFD, less the folder: that depends on who looks from which mount
 * namespace. */
static char *link_name(const char *folder, const char *fd)
{
    g_autofree char *path = g_build_filename(folder, fd, NULL);
    char target[PATH_MAX];
    ssize_t length = readlink(path, target, sizeof(target) - 1);
    if (length < 0)
        return NULL;
    target[length] = '\0';
    return g_path_get_basename(target);
}

static char *iommufd_link_name(TenantLife *life)
{
    int opened;
    if (!tenant_life_open_fresh(life, &opened, NULL))
        return NULL;
    autoclose int fd = opened;
    g_autofree char *number = g_strdup_printf("%d", fd);
    return link_name("/proc/self/fd", number);
}

/* A copy of the IOMMUFD that the leader holds, or -EBADF. A machine that shares one holds that and
 * no other. */
static int take_from_leader(const MachineLife *machine, const char *iommufd_name)
{
    Host *host = machine->manager->host;
    int pidfd = machine->machine->leader_pidfd;
    g_autofree char *folder = g_strdup_printf("/proc/%d/fd", (int)machine->machine->leader);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *number;
    while (dir && (number = g_dir_read_name(dir))) {
        g_autofree char *name = link_name(folder, number);
        if (g_strcmp0(name, iommufd_name) != 0)
            continue;
        int theirs = (int)g_ascii_strtoll(number, NULL, 10);
        autoclose int fd = (int)syscall(SYS_pidfd_getfd, pidfd, theirs, 0);
        if (fd >= 0 && host->ops->iommufd_check(host, fd) >= 0)
            return TAKE_FD(fd);
    }
    return -EBADF;
}

/* For a tenant whose machines run in an IOMMUFD that the fd store did not give back. */
static void take_back(TenantLife *life)
{
    g_autofree char *name = NULL;
    bool wanted = false;
    g_autoptr(GPtrArray) machines = tenant_life_machines(life);
    for (unsigned i = 0; i < machines->len && life->tenant->iommufd < 0; i++) {
        const MachineLife *machine = g_ptr_array_index(machines, i);
        if (machine->machine->state != MACHINE_RUNNING || !machine->shares)
            continue;
        wanted = true;
        if (!name)
            name = iommufd_link_name(life);
        int fd = name ? take_from_leader(machine, name) : -EBADF;
        if (fd >= 0)
            tenant_life_adopt(life, fd);
    }
    if (!wanted)
        return;
    if (life->tenant->iommufd >= 0)
        journal_write(LOG_NOTICE, MESSAGE_IOMMUFD_REGAINED, &(JournalAbout){.tenant = life->id},
                      "The shared IOMMUFD of tenant %s was not in the fd store: took it back from "
                      "a machine that holds it.",
                      life->id);
    else
        journal_write(LOG_ERR, MESSAGE_IOMMUFD_LOST, &(JournalAbout){.tenant = life->id},
                      "The shared IOMMUFD of tenant %s is lost: its machines run on, but what they "
                      "leave behind stays pinned until the last of them has stopped.",
                      life->id);
}

/* ---- what is known of an IOMMUFD's objects ---- */

static void restore_ioases(TenantLife *life, TenantRecord *record)
{
    g_autofree HostObject *objects = NULL;
    size_t n = 0;
    (void)tenant_life_objects(life, &objects, &n, NULL);
    g_autofree char *what = g_strdup_printf("an IOAS of tenant %s", life->id);
    for (size_t i = 0; i < n; i++) {
        const uint64_t *bytes =
            g_hash_table_lookup(record->ioases, GUINT_TO_POINTER(objects[i].id));
        if (!bytes || objects[i].type != HOST_OBJECT_IOAS)
            continue;
        Ioas *ioas = g_new0(Ioas, 1);
        ioas->id = objects[i].id;
        ioas->charge = charge_restore(life->tenant->budget, *bytes, what);
        g_hash_table_insert(life->ioases, GUINT_TO_POINTER(ioas->id), ioas);
    }
}

static void restore_window(TenantLife *life, TenantRecord *record)
{
    g_autoptr(GPtrArray) machines = tenant_life_machines(life);
    for (unsigned i = 0; i < machines->len; i++) {
        if (((MachineLife *)g_ptr_array_index(machines, i))->inside)
            life->inside++;
    }
    /* Without a record, two have been inside and nothing is settled: the careful assumption. */
    life->entered = record ? record->entered : 2;
    if (life->inside > 0)
        life->settled = record ? g_steal_pointer(&record->settled) : object_set_new();
}

static void restore_tenant(TenantLife *life)
{
    TenantRecord *record = state_load_tenant(life->manager, life->id);
    if (life->tenant->iommufd < 0)
        take_back(life);
    if (record) {
        life->number = record->number;
        life->peak_pinned = record->peak_pinned;
        life->window = record->window;
        restore_ioases(life, record);
    }
    restore_window(life, record);
    if (record)
        tenant_record_free(record);
}

/* ---- the ledger ---- */

static void warn_unguarded(const char *tenant, const char *uuid, const GError *error)
{
    journal_write(LOG_ERR, MESSAGE_KERNEL_NOT_TOLD,
                  &(JournalAbout){.tenant = tenant, .machine = uuid}, "%s", error->message);
}

/* The tenant's limit first: what is mapped in its IOMMUFD counts from the registration on. */
static void restore_tenant_books(TenantLife *life)
{
    g_autoptr(GError) error = NULL;
    Books *books = life->manager->books;
    books_set_tenant(books, life);
    if (life->tenant->iommufd >= 0 &&
        !books_register(books, life, life->tenant->iommufd, true, &error))
        warn_unguarded(life->id, NULL, error);
}

static void restore_machine_books(MachineLife *life)
{
    g_autoptr(GError) error = NULL;
    const Machine *machine = life->machine;
    Books *books = life->manager->books;
    if (!machine->iommufd)
        return;
    uint32_t number = life->number;
    if (!books_admit(books, life, &error) ||
        (machine->state == MACHINE_RUNNING &&
         !books_start(books, life, machine->leader, life->leader_start, &error)) ||
        (number != life->number && !state_save_machine(life, &error)))
        warn_unguarded(life->tenant->id, life->uuid, error);
}

static void restore_books(Manager *manager)
{
    GHashTableIter iter;
    void *life;
    g_hash_table_iter_init(&iter, manager->tenants);
    while (g_hash_table_iter_next(&iter, NULL, &life))
        restore_tenant_books(life);
    g_hash_table_iter_init(&iter, manager->machines);
    while (g_hash_table_iter_next(&iter, NULL, &life))
        restore_machine_books(life);
    books_settle(manager->books);
}

/* ---- */

/* Finishes what died meanwhile. */
static void reap_dead(Manager *manager)
{
    GHashTableIter iter;
    void *tenant;
    g_autoptr(GPtrArray) gone = g_ptr_array_new();
    void *machine;
    g_hash_table_iter_init(&iter, manager->machines);
    while (g_hash_table_iter_next(&iter, NULL, &machine)) {
        MachineLife *life = machine;
        if (life->machine->state == MACHINE_REAPING && !life->shares)
            g_ptr_array_add(gone, life);
    }
    for (unsigned i = 0; i < gone->len; i++)
        machine_life_finish(g_ptr_array_index(gone, i));
    g_hash_table_iter_init(&iter, manager->tenants);
    while (g_hash_table_iter_next(&iter, NULL, &tenant))
        reaper_wake(tenant);
}

static void forget_unknown_tenants(Manager *manager)
{
    g_auto(GStrv) ids = state_list_tenants(manager);
    for (char **id = ids; *id; id++) {
        if (!g_hash_table_contains(manager->tenants, *id))
            state_remove_tenant(manager, *id);
    }
}

void restore(Manager *manager, FdStore *left)
{
    g_autoptr(FdStore) store = left;
    g_autoptr(GPtrArray) records = state_load_machines(manager);
    GHashTableIter iter;
    void *tenant;
    for (unsigned i = 0; i < records->len; i++)
        restore_machine(manager, g_ptr_array_index(records, i), store);
    g_hash_table_iter_init(&iter, manager->tenants);
    while (g_hash_table_iter_next(&iter, NULL, &tenant)) {
        claim_iommufd(tenant, store);
        restore_tenant(tenant);
    }
    restore_books(manager);
    forget_unknown_tenants(manager);
    if (records->len > 0)
        journal_write(LOG_INFO, MESSAGE_RESTORED, NULL,
                      "Took up %u machines that an earlier run of the service had left.",
                      records->len);
    reap_dead(manager);
}
