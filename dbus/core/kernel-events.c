/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "dbus/core/kernel-events.h"

#include "dbus/base/journal.h"
#include "dbus/base/signals.h"
#include "dbus/core/machine-devices.h"
#include "kernel/uapi/iommufd.h"
#include "policy/size.h"

#include <inttypes.h>

/* An event, with the names of what it has numbers of. */
typedef struct {
    const LedgerEvent *event;
    Manager *manager;
    Tenant *tenant;   /* NULL: none, or gone */
    Machine *machine; /* NULL: none, or gone */
    char *command;    /* the process's name */
    char *who;        /* "Machine web-1 (UUID), process 12 (qemu)," or "Process 12 (qemu)" */
    Refusal refusal;  /* for the journal and the bus */
} KernelEvent;

static void kernel_event_init(KernelEvent *self, Manager *manager, const LedgerEvent *event)
{
    self->event = event;
    self->manager = manager;
    self->command = g_strndup(event->comm, sizeof(event->comm));
    self->tenant = manager_find_tenant_by_id(manager, event->tenant);
    self->machine = manager_find_machine_by_id(manager, event->machine);
    if (!self->tenant && self->machine)
        self->tenant = machine_tenant(self->machine);
    const Machine *owner = manager_find_machine_by_id(manager, event->object_machine);
    g_autofree char *quoted = error_quote(self->command);
    self->who =
        self->machine
            ? g_strdup_printf("Machine %s (%s), process %d (%s),", self->machine->policy.name,
                              machine_uuid(self->machine), (int)event->pid, quoted)
            : g_strdup_printf("Process %d (%s)", (int)event->pid, quoted);
    self->refusal = (Refusal){
        .tenant = self->tenant ? tenant_id(self->tenant) : "",
        .machine = self->machine ? machine_uuid(self->machine) : "",
        .pid = (uint32_t)event->pid,
        .command = self->command,
        .ioctl = event->command ? ledger_ioctl_name(event->command) : "",
        .object = event->id,
        .owner = owner ? machine_uuid(owner) : "",
        .error = g_strerror(-event->error),
    };
}

static void kernel_event_clear(KernelEvent *self)
{
    g_free(self->command);
    g_free(self->who);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(KernelEvent, kernel_event_clear)

/* ---- one kind each ---- */

/* QEMU asks for this at each of its starts, and goes on without. */
static bool is_expected(const LedgerEvent *event)
{
    return (event->command & 0xff) == (IOMMU_IOAS_CHANGE_PROCESS & 0xff);
}

/* An open of /dev/iommu, which is in no IOMMUFD yet; or an mmap(2) by a machine of the tenant; or
 * the receipt of an IOMMUFD by anybody else. */
static void log_refused_file(const KernelEvent *self, const JournalFields *fields)
{
    const LedgerEvent *event = self->event;
    if (event->context == 0)
        journal_write(LOG_WARNING, MESSAGE_REFUSED, fields,
                      "%s was refused to open /dev/iommu, as DirectOpen=no in iommud.conf says: no "
                      "limit would hold for what it maps there.",
                      self->who);
    else if (self->machine && machine_tenant(self->machine)->ledger_id == event->tenant)
        journal_write(LOG_WARNING, MESSAGE_REFUSED, fields,
                      "%s was refused mmap(2) of tenant %s's IOMMUFD, whose registers are not kept "
                      "apart by machine. Give it Isolation=machine if it needs them.",
                      self->who, self->refusal.tenant);
    else
        journal_write(LOG_WARNING, MESSAGE_REFUSED, fields,
                      "%s was refused the IOMMUFD of tenant %s: it is no machine of the tenant. If "
                      "it passes IOMMUFDs on, add its unit to FdRelayUnits= in iommud.conf and "
                      "reload iommud.",
                      self->who, self->refusal.tenant);
}

static void log_refusal(const KernelEvent *self)
{
    const Refusal *refusal = &self->refusal;
    JournalFields fields = {.refusal = refusal};
    if (self->event->command == 0)
        log_refused_file(self, &fields);
    else if (*refusal->owner)
        journal_write(LOG_WARNING, MESSAGE_REFUSED, &fields,
                      "%s was refused %s on object %u of tenant %s's IOMMUFD (%s): the object is "
                      "machine %s's.",
                      self->who, refusal->ioctl, refusal->object, refusal->tenant, refusal->error,
                      refusal->owner);
    else if (refusal->object)
        journal_write(LOG_WARNING, MESSAGE_REFUSED, &fields,
                      "%s was refused %s on object %u of tenant %s's IOMMUFD (%s): the object is "
                      "not its own.",
                      self->who, refusal->ioctl, refusal->object, refusal->tenant, refusal->error);
    else
        journal_write(LOG_WARNING, MESSAGE_REFUSED, &fields, "%s was refused %s: %s.", self->who,
                      refusal->ioctl, refusal->error);
}

static void on_refused(const KernelEvent *self)
{
    if (is_expected(self->event)) {
        journal_write(
            LOG_DEBUG, MESSAGE_REFUSED_EXPECTED, &(JournalFields){.refusal = &self->refusal},
            "%s was refused %s in an IOMMUFD that it shares: QEMU asks for it at each start, and "
            "goes on without.",
            self->who, self->refusal.ioctl);
        return;
    }
    log_refusal(self);
    signal_refused(self->manager->bus, &self->refusal);
}

/* Takes over the figures of a limit. Whose limit it is, in words; freed with g_free(). */
static char *note_limit(KernelEvent *self)
{
    const LedgerEvent *event = self->event;
    Refusal *refusal = &self->refusal;
    refusal->requested = event->requested;
    refusal->left = event->left;
    refusal->limit = self->tenant ? budget_limit(self->tenant->policy.budget) : SIZE_INFINITY;
    g_autofree char *limit = size_format(refusal->limit);
    return event->host_is_short
               ? g_strdup("the host's budget")
               : g_strdup_printf("the limit of tenant %s, %s", refusal->tenant, limit);
}

/* What to do about it: the end of a sentence, or of two. */
static const char *limit_advice(const KernelEvent *self)
{
    return self->event->host_is_short ? "Raise Budget= in iommud.conf"
                                      : "Raise it with 'iommuctl tenant set-limit'";
}

static void on_limit(KernelEvent *self)
{
    Refusal *refusal = &self->refusal;
    g_autofree char *whose = note_limit(self);
    g_autofree char *asked = size_format(refusal->requested);
    g_autofree char *left = size_format(refusal->left);
    journal_write(LOG_WARNING, MESSAGE_LIMIT_EXCEEDED, &(JournalFields){.refusal = refusal},
                  "%s was refused %s of %s (%" PRIu64
                  " bytes), which is more than was promised to it: %s (%" PRIu64
                  " bytes) are left to it, of its promise and of %s. %s, or stop a machine.",
                  self->who, refusal->ioctl, asked, refusal->requested, left, refusal->left, whose,
                  limit_advice(self));
    if (!self->tenant)
        return;
    signal_limit_exceeded(self->manager->bus, refusal);
    /* Memory that is mapped twice counts once only when a reconciliation has found that. Rate
     * limited, since a machine can cause this event at will. */
    if (self->tenant->policy.config->count == COUNT_UNIQUE)
        accounting_refresh_if_older(self->manager->accounting, G_USEC_PER_SEC);
}

/* The owner's last process has ended or was killed: the tenant is reaped. */
static void queue_owner(const KernelEvent *self)
{
    if (self->tenant)
        queue_reap(self->manager->queue, tenant_id(self->tenant));
}

static void on_argument_changed(const KernelEvent *self)
{
    journal_write(
        LOG_ALERT, MESSAGE_ARGUMENT_CHANGED, &(JournalFields){.refusal = &self->refusal},
        "%s changed the argument of %s while it was being checked, and was killed. Only an "
        "attack or a fault of that program does so: look into it before it starts again.",
        self->who, self->refusal.ioctl);
    queue_owner(self);
}

static void on_full(const KernelEvent *self)
{
    bool object = self->event->requested == 0;
    journal_write(
        LOG_ERR, MESSAGE_LEDGER_FULL, &(JournalFields){.refusal = &self->refusal},
        "%s was refused %s: the ledger's table of %s is so full that what is left is kept "
        "for others. Raise %s= in iommud.conf and restart iommud.",
        self->who, self->refusal.ioctl, object ? "objects" : "mappings",
        object ? "MaxObjects" : "MaxMappings");
}

/* What whoever plugs it in is told is a number (EDQUOT): here is the rest. */
static void on_plug_refused(KernelEvent *self)
{
    Refusal *refusal = &self->refusal;
    g_autofree char *whose = note_limit(self);
    g_autofree char *asked = size_format(refusal->requested);
    g_autofree char *left = size_format(refusal->left);
    if (!self->machine)
        return;
    journal_write(LOG_WARNING, MESSAGE_LIMIT_EXCEEDED, &(JournalFields){.refusal = refusal},
                  "Something was not plugged into machine %s (%s), which runs on: it needs %s more "
                  "(%" PRIu64 " bytes), and %s (%" PRIu64 " bytes) are left of %s. %s, or stop a "
                  "machine.",
                  self->machine->policy.name, machine_uuid(self->machine), asked,
                  refusal->requested, left, refusal->left, whose, limit_advice(self));
    signal_limit_exceeded(self->manager->bus, refusal);
}

void kernel_event_handle(const LedgerEvent *event, void *manager)
{
    g_auto(KernelEvent) self = {0};
    kernel_event_init(&self, manager, event);
    switch (event->kind) {
    case LEDGER_EVENT_KIND_REFUSED:
        on_refused(&self);
        break;
    case LEDGER_EVENT_KIND_LIMIT:
        on_limit(&self);
        break;
    case LEDGER_EVENT_KIND_ARGUMENT_CHANGED:
        on_argument_changed(&self);
        break;
    case LEDGER_EVENT_KIND_EXIT:
        queue_owner(&self);
        break;
    case LEDGER_EVENT_KIND_FULL:
        on_full(&self);
        break;
    case LEDGER_EVENT_KIND_PLUG:
        if (self.machine && self.machine->policy.state == MACHINE_RUNNING)
            machine_follow_plug(self.machine);
        break;
    case LEDGER_EVENT_KIND_PLUG_REFUSED:
        on_plug_refused(&self);
        break;
    }
}
