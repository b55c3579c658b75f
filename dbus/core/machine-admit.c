/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/core/machine-admit.h"

#include "dbus/base/errors.h"
#include "dbus/base/journal.h"
#include "dbus/base/signals.h"
#include "dbus/core/machine-devices.h"
#include "dbus/core/machine-end.h"
#include "dbus/state/records.h"
#include "policy/size.h"

/*
 * What can fail comes first: policy is asked, the IOMMUFD opened, the machine written down and made
 * known to the kernel under an id of its own. Only then, when nothing can fail any more, the
 * registry takes it, in place of the old one if there is one.
 */

typedef struct {
    Manager *manager;
    const AdmissionRequest *request;
    Machine *old; /* admitted, whose start was lost; NULL: none */
    Tenant *tenant;
    uint64_t bytes; /* what the tenant's limit counts of it */
    int64_t since;
    bool shares;
    bool fresh;         /* the tenant's IOMMUFD was opened for it */
    bool written;       /* there is a record of it */
    uint32_t ledger_id; /* 0: the ledger is not told of it */
} Admission;

static gboolean check_binding(const Admission *admission, GError **error)
{
    const char *const *devices = admission->request->devices;
    for (size_t i = 0; devices && devices[i]; i++) {
        if (g_hash_table_contains(admission->manager->binding, devices[i])) {
            g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_DEVICE_BUSY,
                        "Device %s is being bound to another driver right now: try again.",
                        devices[i]);
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean ask_policy(Admission *admission, GError **error)
{
    Manager *manager = admission->manager;
    const char *const *asked = admission->request->devices;
    const HostDevice *devices = NULL;
    TenantPolicy *tenant;
    size_t n = 0;
    /* Reading all devices of the host is most of what an admission costs. */
    if (!check_binding(admission, error) ||
        (asked && *asked && !host_devices_list(manager->devices, &devices, &n, error)) ||
        !registry_check_admission(manager->registry, admission->request, devices, n,
                                  admission->old ? &admission->old->policy : NULL, &tenant,
                                  &admission->bytes, error))
        return FALSE;
    admission->tenant = (Tenant *)tenant;
    return TRUE;
}

static gboolean open_iommufd(Admission *admission, GError **error)
{
    if (!admission->request->iommufd)
        return TRUE;
    admission->shares = tenant_shares(admission->tenant);
    return admission->shares ? tenant_open(admission->tenant, &admission->fresh, error)
                             : manager_need_iommufd(admission->manager, error);
}

/* What libvirt has for a domain may be another tenant's, that of an earlier tenant of this name, or
 * one that a start was given before. */
static gboolean check_given(const Admission *admission, GError **error)
{
    const AdmissionRequest *request = admission->request;
    return request->iommufd_id == 0 || tenant_check_given(admission->tenant, request->iommufd_id,
                                                          request->name, request->uuid, error);
}

/* Written before the kernel is told the id, so that no later run gives it out again. */
static gboolean write_down(Admission *admission, GError **error)
{
    Manager *manager = admission->manager;
    const AdmissionRequest *request = admission->request;
    static const char *const none[] = {NULL};
    if (request->iommufd && accounting_is_active(manager->accounting)) {
        if (!admission->tenant->introduced && !tenant_introduce(admission->tenant, error))
            return FALSE;
        admission->ledger_id = numbers_next_machine(manager->numbers);
    }
    admission->since = g_get_monotonic_time();
    const MachineRecord record = {
        .uuid = (char *)request->uuid,
        .name = (char *)request->name,
        .tenant = (char *)tenant_id(admission->tenant),
        .devices = (char **)(request->devices ? request->devices : none),
        .bytes = admission->bytes,
        .iommufd = request->iommufd,
        .shares = admission->shares,
        .follows_limit = request->follows_limit,
        .state = MACHINE_ADMITTED,
        .since = admission->since,
        .ledger_id = admission->ledger_id,
    };
    if (!writer_commit(manager->writer, error))
        return FALSE;
    admission->written = machine_record_save(&record, manager->runtime_dir, error);
    return admission->written;
}

static void leave_to_new(const Machine *old)
{
    Manager *manager = old->manager;
    g_auto(GStrv) devices = machine_devices(old);
    accounting_promise_again(manager->accounting, old->ledger_id, 0);
    for (char **device = devices; *device; device++)
        accounting_dismiss_device(manager->accounting, *device, old->ledger_id);
}

/* What the old one has first: the new one takes its place. If that is not to be, the old one has it
 * again: its promise also above a limit that others have reached meanwhile. */
static gboolean promise(const Admission *admission, GError **error)
{
    Manager *manager = admission->manager;
    const AdmissionRequest *request = admission->request;
    g_autofree char *what = g_strdup_printf("machine %s (%s)", request->name, request->uuid);
    const AccountingPromise wanted = {
        .machine = admission->ledger_id,
        .bytes = admission->bytes,
        .budget = admission->tenant->policy.budget,
        .what = what,
    };
    if (admission->old)
        leave_to_new(admission->old);
    return accounting_promise(manager->accounting, &wanted, error);
}

static gboolean tell_kernel(const Admission *admission, GError **error)
{
    Manager *manager = admission->manager;
    uint32_t tenant = admission->tenant->ledger_id;
    if (admission->ledger_id == 0)
        return TRUE;
    if (!accounting_add_machine(manager->accounting, admission->ledger_id, tenant, error)) {
        g_prefix_error(error, "Machine %s (%s): ", admission->request->name,
                       admission->request->uuid);
        return FALSE;
    }
    if (!promise(admission, error))
        return FALSE;
    return devices_admit(manager, admission->request->devices, tenant, admission->ledger_id,
                         admission->old ? &admission->old->policy : NULL, error);
}

/* Undoes what was done. Of the old one only its record and its devices' entries in the kernel were
 * overwritten: they are written again. */
static void take_back(Admission *admission)
{
    Manager *manager = admission->manager;
    if (admission->ledger_id)
        accounting_remove_machine(manager->accounting, admission->ledger_id);
    if (admission->ledger_id && admission->request->devices)
        devices_dismiss(manager, admission->request->devices, admission->ledger_id);
    if (admission->fresh)
        tenant_close(admission->tenant);
    if (admission->written && !admission->old)
        machine_record_remove(manager->runtime_dir, admission->request->uuid);
    if (admission->old) {
        accounting_promise_again(manager->accounting, admission->old->ledger_id,
                                 charge_bytes(admission->old->policy.charge));
        machine_mark(admission->old);
        writer_commit_or_log(manager->writer);
        (void)machine_admit_devices(admission->old, NULL);
    }
}

/* The old one was never seen to run. What it may have left in the IOMMUFD has an owner of its own
 * in the ledger, by which the reaper finds it. */
static void forget_old(Admission *admission)
{
    Machine *old = admission->old;
    Manager *manager = admission->manager;
    g_auto(GStrv) devices = machine_devices(old);
    uint32_t ledger_id = old->ledger_id;
    queue_reap(manager->queue, tenant_id(machine_tenant(old)));
    registry_remove_machine(manager->registry, &old->policy);
    for (char **device = devices; *device; device++) {
        const char *const gone[] = {*device, NULL};
        if (!admission->request->devices || !g_strv_contains(admission->request->devices, *device))
            devices_dismiss(manager, gone, ledger_id);
    }
    accounting_remove_machine(manager->accounting, ledger_id);
    signal_machine_removed(manager->bus, admission->request->uuid);
}

static Machine *take(Admission *admission)
{
    Manager *manager = admission->manager;
    if (admission->old)
        forget_old(admission);
    Machine *machine = (Machine *)registry_insert_admitted(
        manager->registry, admission->request, &admission->tenant->policy, admission->bytes);
    machine_begin(machine, manager);
    machine_set_ledger_id(machine, admission->ledger_id);
    machine->shares = admission->shares;
    tenant_use_given(admission->tenant, admission->request->iommufd_id);
    machine->follows_limit = admission->request->follows_limit;
    machine->since = admission->since;
    if (admission->ledger_id)
        devices_update_neighbours(manager, admission->request->devices);
    return machine;
}

static Machine *admit(Admission *admission, GError **error)
{
    if (!ask_policy(admission, error) || !open_iommufd(admission, error) ||
        !check_given(admission, error) || !write_down(admission, error) ||
        !tell_kernel(admission, error)) {
        take_back(admission);
        return NULL;
    }
    Machine *machine = take(admission);
    g_autoptr(GError) failure = NULL;
    if (!machine_start_clock(machine, &failure))
        g_error("Out of memory or descriptors");
    return machine;
}

static void announce(const Machine *machine)
{
    Manager *manager = machine->manager;
    const char *tenant = tenant_id(machine_tenant(machine));
    uint64_t bytes = charge_bytes(machine->policy.charge);
    uint64_t limit = budget_limit(machine->policy.tenant->budget);
    g_autofree char *size = size_format(bytes);
    journal_write(LOG_INFO, MESSAGE_MACHINE_ADMITTED,
                  &(JournalFields){JOURNAL_MACHINE(machine), .bytes = &bytes, .limit = &limit},
                  "Admitted machine %s (%s) of tenant %s with %s.", machine->policy.name,
                  machine_uuid(machine), tenant, size);
    signal_machine_added(manager->bus, machine_uuid(machine));
    signal_reserved_changed(manager->bus, tenant);
    manager_notify_status(manager);
}

static void refuse_running(const Machine *machine, GError **error)
{
    g_set_error(error, IOMMUD_ERROR, IOMMUD_ERROR_MACHINE_EXISTS,
                "Machine %s (%s) runs already as process %d: stop it before it is admitted again.",
                machine->policy.name, machine_uuid(machine), (int)machine->leader.pid);
}

AdmissionOutcome machine_admit(Manager *manager, const AdmissionRequest *request, GError **error)
{
    Machine *old = manager_find_machine(manager, request->uuid);
    if (old && old->policy.state == MACHINE_RUNNING && machine_check_alive(old)) {
        refuse_running(old, error);
        return ADMISSION_REFUSED;
    }
    /* An earlier start of it may live: its books are not written over. */
    if (old && old->policy.state == MACHINE_ADMITTED && !machine_check_unowned(old, error))
        return ADMISSION_REFUSED;
    if (old && old->policy.state == MACHINE_REAPING)
        return ADMISSION_WAIT;
    Admission admission = {.manager = manager, .request = request, .old = old};
    g_autoptr(GError) refusal = NULL;
    const Machine *machine = admit(&admission, &refusal);
    if (!machine) {
        manager_log_refusal(manager, request->tenant, request->uuid, request->bytes, refusal);
        g_propagate_error(error, g_steal_pointer(&refusal));
        return ADMISSION_REFUSED;
    }
    announce(machine);
    return ADMISSION_DONE;
}
