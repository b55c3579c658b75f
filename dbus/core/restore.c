/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/core/restore.h"

#include "dbus/base/journal.h"
#include "dbus/core/machine-devices.h"
#include "dbus/core/machine-end.h"
#include "dbus/core/machine-start.h"
#include "dbus/state/records.h"
#include "kernel/base/cleanup.h"

#include <inttypes.h>
#include <sys/syscall.h>

/* ---- tenants ---- */

/* A tenant that has machines but is configured no longer stays until they are gone. Its limit is
 * nothing: no more machines are admitted. */
static void keep_tenant(Manager *manager, const char *id)
{
    g_autoptr(TenantRecord) record = tenant_record_load(manager->runtime_dir, id);
    TenantConfig *config = tenant_config_new(id);
    config->limit = 0;
    if (record) {
        config->isolation = record->isolation;
        config->accounting = record->accounting;
    }
    g_autoptr(GError) impossible = NULL;
    Tenant *tenant = (Tenant *)registry_add_tenant(manager->registry, config, &impossible);
    g_assert_no_error(impossible);
    tenant_begin(tenant, manager);
    journal_write(
        LOG_WARNING, MESSAGE_TENANT_KEPT, &(JournalFields){.tenant = id},
        "Tenant %s is no longer configured but has machines: it stays, with a limit of 0, "
        "until they are gone.",
        id);
}

/* Machines in a shared IOMMUFD stay in it, also where none would be shared by now: what is in it
 * has to be reaped. */
static bool is_needed(const Tenant *tenant)
{
    bool needed = tenant_shares(tenant);
    g_autoptr(GPtrArray) machines = tenant_machines(tenant);
    for (unsigned i = 0; i < machines->len; i++)
        needed = needed || ((Machine *)g_ptr_array_index(machines, i))->shares;
    return needed;
}

static void claim_iommufd(Tenant *tenant, FdStore *store)
{
    Host *host = tenant->manager->host;
    g_autofree char *name = fd_store_tenant_name(tenant_id(tenant));
    autoclose int fd = fd_store_claim(store, name);
    if (fd < 0)
        return;
    g_autoptr(TenantRecord) record =
        tenant_record_load(tenant->manager->runtime_dir, tenant_id(tenant));
    bool valid = host->ops->iommufd_check(host, fd) >= 0;
    if (valid && is_needed(tenant)) {
        tenant->iommufd_id = record ? record->iommufd_id : 0;
        tenant_adopt_iommufd(tenant, TAKE_FD(fd), true);
        return;
    }
    fd_store_remove(name);
    journal_write(LOG_NOTICE, MESSAGE_IOMMUFD_CLOSED, &(JournalFields){.tenant = tenant_id(tenant)},
                  valid ? "Closed the shared IOMMUFD of tenant %s: no machine is in it, and none "
                          "is shared any more."
                        : "What the service manager kept as the shared IOMMUFD of tenant %s is "
                          "no open /dev/iommu: closed it. The tenant's next start gets a new one.",
                  tenant_id(tenant));
}

/* ---- machines ---- */

/* The leader: by its stored pidfd, or by a new one if the pid still is that process. -ESRCH: it is
 * dead; any other error says nothing. */
static int claim_leader(const MachineRecord *record, FdStore *store, PidRef *ret_leader)
{
    g_autofree char *name = fd_store_leader_name(record->uuid);
    autoclose int fd = fd_store_claim(store, name);
    int r = -EBADF;
    if (fd >= 0)
        r = pidref_from_pidfd(TAKE_FD(fd), ret_leader);
    if (r >= 0 && ret_leader->pid == record->leader)
        return 0;
    if (r >= 0)
        pidref_clear(ret_leader);
    fd_store_remove(name);
    if (r == -ESRCH)
        return r;
    /* Without its start time whoever has the pid by now would be taken for it. */
    r = record->leader_start != 0
            ? pidref_from_pid(record->leader, record->leader_start, ret_leader)
            : -ESRCH;
    if (r >= 0)
        fd_store_push(name, ret_leader->fd);
    return r;
}

static void take_up(Machine *machine, const MachineRecord *record, FdStore *store)
{
    g_autoptr(GError) error = NULL;
    machine->policy.state = record->state;
    machine->since = record->since;
    machine->last_pinned = record->last_pinned;
    machine->shares = record->shares;
    machine->follows_limit = record->follows_limit;
    machine->plug_limit = record->plug_limit;
    machine->plug_reserved = record->plug_reserved;
    machine->plug_lowered = record->plug_lowered;
    machine_set_ledger_id(machine, record->ledger_id);
    if (record->state == MACHINE_RUNNING) {
        PidRef leader;
        int r = claim_leader(record, store, &leader);
        /* What can't be asked is asked by the next run. */
        if (r < 0 && r != -ESRCH)
            g_error("The leader of machine %s can't be watched: %s", record->uuid, g_strerror(-r));
        if (r >= 0)
            machine_set_leader(machine, leader);
        else
            machine_set_state(machine, MACHINE_REAPING);
    }
    if (machine->policy.state == MACHINE_REAPING) {
        machine->leader.pid = record->leader;
        machine->leader.start = record->leader_start;
    }
    if ((machine->policy.state == MACHINE_RUNNING && !machine_watch_leader(machine, &error)) ||
        (machine->policy.state == MACHINE_ADMITTED && !machine_start_clock(machine, &error)))
        g_error("Out of memory or descriptors");
    if (!machine_is_live(machine)) {
        /* How long it has been tried is this run's to say. */
        machine->since = g_get_monotonic_time();
        queue_reap(machine->manager->queue, record->tenant);
    }
}

static void restore_machine(Manager *manager, const MachineRecord *record, FdStore *store)
{
    g_autoptr(GError) error = NULL;
    const AdmissionRequest request = {
        .uuid = record->uuid,
        .name = record->name,
        .tenant = record->tenant,
        .bytes = record->bytes,
        .devices = (const char *const *)record->devices,
        .iommufd = record->iommufd,
    };
    if (!manager_find_tenant(manager, record->tenant))
        keep_tenant(manager, record->tenant);
    MachinePolicy *policy = registry_restore(manager->registry, &request, &error);
    if (!policy) {
        journal_write(
            LOG_ERR, MESSAGE_STATE_NOT_READ,
            &(JournalFields){.tenant = record->tenant, .machine = record->uuid},
            "The record of machine %s can't be taken up, so that it is not accounted until it is "
            "started again: %s",
            record->uuid, error->message);
        machine_record_remove(manager->runtime_dir, record->uuid);
        return;
    }
    machine_begin((Machine *)policy, manager);
    take_up((Machine *)policy, record, store);
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

static char *iommufd_link_name(Manager *manager)
{
    autoclose int fd = -EBADF;
    if (manager->host->ops->iommufd_open(manager->host, HOST_ACCOUNTING_PROCESS, &fd) < 0)
        return NULL;
    g_autofree char *number = g_strdup_printf("%d", fd);
    return link_name("/proc/self/fd", number);
}

/* A copy of the IOMMUFD that the leader holds, or -EBADF. A machine that shares one holds that and
 * no other. */
static int take_from_leader(Host *host, const PidRef *leader, const char *iommufd_name)
{
    g_autofree char *folder = g_strdup_printf("/proc/%d/fd", (int)leader->pid);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *number;
    while (dir && (number = g_dir_read_name(dir))) {
        g_autofree char *name = link_name(folder, number);
        if (g_strcmp0(name, iommufd_name) != 0)
            continue;
        int theirs = (int)g_ascii_strtoll(number, NULL, 10);
        autoclose int fd = (int)syscall(SYS_pidfd_getfd, leader->fd, theirs, 0);
        if (fd >= 0 && host->ops->iommufd_check(host, fd) >= 0)
            return TAKE_FD(fd);
    }
    return -EBADF;
}

/* Of one that runs, or that has only been admitted and lives. */
static bool open_leader(const Machine *machine, PidRef *ret_leader)
{
    const PidRef *leader = &machine->leader;
    if (!machine->shares || !machine_is_live(machine))
        return false;
    if (machine->policy.state == MACHINE_RUNNING)
        return pidref_from_pid(leader->pid, leader->start, ret_leader) >= 0;
    return machine_find_owner(machine, ret_leader) == OWNER_FOUND;
}

/* For a tenant whose machines run in an IOMMUFD that the fd store did not give back. */
static void take_back(Tenant *tenant)
{
    Host *host = tenant->manager->host;
    g_autofree char *name = NULL;
    bool wanted = false;
    g_autoptr(GPtrArray) machines = tenant_machines(tenant);
    for (unsigned i = 0; i < machines->len && tenant->iommufd < 0; i++) {
        autopidref PidRef leader = PIDREF_NULL;
        if (!open_leader(g_ptr_array_index(machines, i), &leader))
            continue;
        wanted = true;
        if (!name)
            name = iommufd_link_name(tenant->manager);
        int fd = name ? take_from_leader(host, &leader, name) : -EBADF;
        if (fd >= 0)
            tenant_adopt_iommufd(tenant, fd, false);
    }
    const JournalFields fields = {.tenant = tenant_id(tenant)};
    if (wanted && tenant->iommufd >= 0)
        journal_write(LOG_NOTICE, MESSAGE_IOMMUFD_REGAINED, &fields,
                      "The shared IOMMUFD of tenant %s was not in the fd store: took it back from "
                      "a machine that holds it.",
                      tenant_id(tenant));
    else if (wanted)
        journal_write(LOG_ERR, MESSAGE_IOMMUFD_LOST, &fields,
                      "The shared IOMMUFD of tenant %s is lost: its machines run on, but what they "
                      "leave behind stays pinned until the last of them has stopped. Stop them to "
                      "free it.",
                      tenant_id(tenant));
}

/* ---- the ledger ---- */

static void log_unguarded(const char *tenant, const char *uuid, const GError *error)
{
    journal_write(LOG_ERR, MESSAGE_KERNEL_NOT_TOLD,
                  &(JournalFields){.tenant = tenant, .machine = uuid},
                  "After the restart the guard does not know all of tenant %s%s%s: %s", tenant,
                  uuid ? ", machine " : "", uuid ? uuid : "", error->message);
}

/* Whether an IOAS is still there, by the ledger; true where that can't tell. */
static bool has_ioas(const LedgerObject *objects, size_t n, uint32_t id)
{
    for (size_t i = 0; i < n; i++) {
        if (objects[i].id == id && objects[i].type == LEDGER_OBJECT_TYPE_IOAS)
            return true;
    }
    return false;
}

static void restore_ioases(Tenant *tenant, const TenantRecord *record)
{
    g_autofree LedgerObject *objects = NULL;
    size_t n = 0;
    bool known =
        tenant->context_id != 0 &&
        accounting_objects(tenant->manager->accounting, tenant->context_id, &objects, &n, NULL);
    g_autofree char *what = g_strdup_printf("an IOAS of tenant %s", tenant_id(tenant));
    GHashTableIter iter;
    void *key;
    void *bytes;
    g_hash_table_iter_init(&iter, record->ioases);
    while (tenant->iommufd >= 0 && g_hash_table_iter_next(&iter, &key, &bytes)) {
        uint32_t id = GPOINTER_TO_UINT(key);
        Charge *charge = known && !has_ioas(objects, n, id)
                             ? NULL
                             : charge_restore(tenant->policy.budget, *(uint64_t *)bytes, what);
        if (charge)
            tenant_add_ioas(tenant, id, charge);
    }
}

/* The tenant's limit first: what is mapped in its IOMMUFD counts from the registration on. */
static void restore_tenant(Tenant *tenant)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(TenantRecord) record =
        tenant_record_load(tenant->manager->runtime_dir, tenant_id(tenant));
    if (record) {
        tenant->ledger_id = record->ledger_id;
        tenant->peak_pinned = record->peak_pinned;
    }
    if (tenant->iommufd < 0)
        take_back(tenant);
    if (!tenant_introduce(tenant, &error) ||
        (tenant->iommufd >= 0 && !tenant_register_iommufd(tenant, &error)))
        log_unguarded(tenant_id(tenant), NULL, error);
    if (record)
        restore_ioases(tenant, record);
}

/* What the kernel's account has promised is what was promised. A ledger that has nothing is new, or
 * was not told any more, and is told. */
static void take_up_promise(Machine *machine)
{
    Accounting *accounting = machine->manager->accounting;
    uint64_t recorded = charge_bytes(machine->policy.charge), promised = 0;
    if (!accounting_promised(accounting, machine->ledger_id, &promised) || promised == recorded)
        return;
    if (promised == 0) {
        accounting_promise_again(accounting, machine->ledger_id, recorded);
        return;
    }
    charge_put_back(machine->policy.charge, promised);
    machine_mark(machine);
}

static gboolean tell_of_machine(Machine *machine, GError **error)
{
    Manager *manager = machine->manager;
    uint32_t tenant = machine_tenant(machine)->ledger_id;
    /* It was admitted by a run that had no ledger. The guard lets a device that it knows go into an
     * IOMMUFD that it knows only, and that of a machine which has not shown itself yet was handed
     * out by that run: its start is left as it was promised. */
    if (machine->ledger_id == 0 && machine->policy.state == MACHINE_ADMITTED)
        return TRUE;
    if (machine->ledger_id == 0) {
        machine_set_ledger_id(machine, numbers_next_machine(manager->numbers));
        machine_mark(machine);
        if (!writer_commit(manager->writer, error))
            return FALSE;
    }
    if (!accounting_add_machine(manager->accounting, machine->ledger_id, tenant, error))
        return FALSE;
    take_up_promise(machine);
    return machine_admit_devices(machine, error) &&
           (machine->policy.state != MACHINE_RUNNING ||
            accounting_name_leader(manager->accounting, machine->ledger_id, tenant,
                                   &machine->leader, error));
}

/* What was given back while nobody could tell the kernel: devices that it still takes for a
 * machine's could be bound by nobody else. */
static void dismiss_devices(Manager *manager)
{
    const HostDevice *devices;
    size_t n;
    if (!host_devices_list(manager->devices, &devices, &n, NULL))
        return;
    for (size_t i = 0; i < n; i++) {
        const Machine *holder =
            (Machine *)registry_device_holder(manager->registry, devices[i].address);
        uint32_t claimed = accounting_device_machine(manager->accounting, devices[i].address);
        if (!holder || holder->ledger_id != claimed)
            accounting_dismiss_device(manager->accounting, devices[i].address, claimed);
    }
}

static void tell_of_machines(Manager *manager)
{
    if (!accounting_is_active(manager->accounting))
        return;
    dismiss_devices(manager);
    g_autoptr(GPtrArray) machines = registry_machines(manager->registry);
    for (unsigned i = 0; i < machines->len; i++) {
        g_autoptr(GError) error = NULL;
        Machine *machine = g_ptr_array_index(machines, i);
        if (machine->policy.iommufd && !tell_of_machine(machine, &error))
            log_unguarded(tenant_id(machine_tenant(machine)), machine_uuid(machine), error);
        machine_resume_plugs(machine);
    }
}

/* ---- */

/* Those whose leader has shown itself run: who was to name it may have come while nobody listened.
 * The others have all their time again. */
static void adopt_machines(Manager *manager)
{
    g_autoptr(GPtrArray) machines = registry_machines(manager->registry);
    for (unsigned i = 0; i < machines->len; i++) {
        Machine *machine = g_ptr_array_index(machines, i);
        if (machine->policy.state == MACHINE_ADMITTED)
            (void)machine_check_unowned(machine, NULL);
    }
}

static void forget_unknown_tenants(Manager *manager)
{
    g_auto(GStrv) ids = tenant_records_list(manager->runtime_dir);
    for (char **id = ids; *id; id++) {
        if (!manager_find_tenant(manager, *id))
            tenant_record_remove(manager->runtime_dir, *id);
    }
}

/* What is taken up keeps its number, which nobody else may be given. */
static void note_numbers(Manager *manager, const GPtrArray *machines)
{
    for (unsigned i = 0; i < machines->len; i++) {
        const MachineRecord *record = g_ptr_array_index(machines, i);
        numbers_note(manager->numbers, 0, record->ledger_id);
    }
    g_auto(GStrv) ids = tenant_records_list(manager->runtime_dir);
    for (char **id = ids; *id; id++) {
        g_autoptr(TenantRecord) record = tenant_record_load(manager->runtime_dir, *id);
        numbers_note(manager->numbers, record ? record->ledger_id : 0, 0);
    }
}

void restore(Manager *manager, FdStore *store)
{
    g_autoptr(GPtrArray) records = machine_records_load(manager->runtime_dir);
    note_numbers(manager, records);
    for (unsigned i = 0; i < records->len; i++)
        restore_machine(manager, g_ptr_array_index(records, i), store);
    g_autoptr(GPtrArray) tenants = registry_tenants(manager->registry);
    for (unsigned i = 0; i < tenants->len; i++) {
        claim_iommufd(g_ptr_array_index(tenants, i), store);
        restore_tenant(g_ptr_array_index(tenants, i));
        queue_reap(manager->queue, tenant_id(g_ptr_array_index(tenants, i)));
    }
    tell_of_machines(manager);
    accounting_finish_start(manager->accounting);
    adopt_machines(manager);
    forget_unknown_tenants(manager);
    writer_commit_or_log(manager->writer);
    if (records->len > 0)
        journal_write(LOG_INFO, MESSAGE_RESTORED, NULL,
                      "Took up %u machines that an earlier run of the service had left.",
                      records->len);
}
