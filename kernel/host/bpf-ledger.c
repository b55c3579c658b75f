/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening the ledger, and its events: what the other files do is put together here. */
#include "kernel/host/bpf-ledger.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernel/base/cleanup.h"
#include "kernel/base/process.h"
#include "kernel/ledger/cgroups.h"
#include "kernel/ledger/devices.h"
#include "kernel/ledger/identities.h"
#include "kernel/ledger/audit/legacy-vfio.h"
#include "kernel/ledger/load.h"
#include "kernel/ledger/machines.h"
#include "kernel/ledger/pins.h"
#include "kernel/ledger/audit/reconcile.h"
#include "kernel/ledger/relays.h"
#include "kernel/ledger/upgrade.h"
#include "kernel/ledger/usage.h"

/* Numbers that the programs and the interface share. */
#define SAME(kernel, interface) _Static_assert((int)(kernel) == (int)(interface), #interface)
SAME(LEDGER_GUARD_OFF, LEDGER_GUARD_MODE_OFF);
SAME(LEDGER_GUARD_KNOWN, LEDGER_GUARD_MODE_KNOWN);
SAME(LEDGER_GUARD_STRICT, LEDGER_GUARD_MODE_STRICT);
SAME(LEDGER_COUNT_CHARGED, LEDGER_COUNT_MODE_CHARGED);
SAME(LEDGER_COUNT_UNIQUE, LEDGER_COUNT_MODE_UNIQUE);
SAME(LEDGER_OBJECT_OTHER, LEDGER_OBJECT_TYPE_OTHER);
SAME(LEDGER_OBJECT_DEVICE, LEDGER_OBJECT_TYPE_DEVICE);
SAME(LEDGER_OBJECT_HWPT_PAGING, LEDGER_OBJECT_TYPE_HWPT_PAGING);
SAME(LEDGER_OBJECT_HWPT_NESTED, LEDGER_OBJECT_TYPE_HWPT_NESTED);
SAME(LEDGER_OBJECT_IOAS, LEDGER_OBJECT_TYPE_IOAS);
SAME(LEDGER_OBJECT_ACCESS, LEDGER_OBJECT_TYPE_ACCESS);
SAME(LEDGER_OBJECT_FAULT, LEDGER_OBJECT_TYPE_FAULT);
SAME(LEDGER_OBJECT_VIOMMU, LEDGER_OBJECT_TYPE_VIOMMU);
SAME(LEDGER_OBJECT_VDEVICE, LEDGER_OBJECT_TYPE_VDEVICE);
SAME(LEDGER_OBJECT_VEVENTQ, LEDGER_OBJECT_TYPE_VEVENTQ);
SAME(LEDGER_OBJECT_HW_QUEUE, LEDGER_OBJECT_TYPE_HW_QUEUE);
SAME(LEDGER_CONTEXT_GUARDED, LEDGER_CONTEXT_FLAG_GUARDED);
SAME(LEDGER_CONTEXT_SHARED, LEDGER_CONTEXT_FLAG_SHARED);
SAME(LEDGER_CONTEXT_RESTRICTED, LEDGER_CONTEXT_FLAG_RESTRICTED);
SAME(LEDGER_DEVICE_RESET_SHARED, LEDGER_DEVICE_FLAG_RESET_SHARED);
_Static_assert(LEDGER_NO_LIMIT == LEDGER_UNLIMITED, "LEDGER_UNLIMITED");
#undef SAME

static const LedgerOps bpf_ops;

static const LedgerEventKind event_kinds[] = {
    [LEDGER_EVENT_REFUSED] = LEDGER_EVENT_KIND_REFUSED,
    [LEDGER_EVENT_LIMIT] = LEDGER_EVENT_KIND_LIMIT,
    [LEDGER_EVENT_ARGUMENT_CHANGED] = LEDGER_EVENT_KIND_ARGUMENT_CHANGED,
    [LEDGER_EVENT_EXIT] = LEDGER_EVENT_KIND_EXIT,
    [LEDGER_EVENT_FULL] = LEDGER_EVENT_KIND_FULL,
    [LEDGER_EVENT_PLUG] = LEDGER_EVENT_KIND_PLUG,
    [LEDGER_EVENT_PLUG_REFUSED] = LEDGER_EVENT_KIND_PLUG_REFUSED,
};

static int on_event(void *data, void *bytes, size_t size)
{
    const struct ledger_event *event = bytes;
    BpfLedger *ledger = data;

    if (!ledger->handler || size < sizeof(*event) || event->kind >= G_N_ELEMENTS(event_kinds))
        return 0;
    LedgerEvent told = {
        .kind = event_kinds[event->kind],
        .error = event->error,
        .pid = (pid_t)event->tgid,
        .machine = event->machine,
        .tenant = event->tenant,
        .context = event->context,
        .command = event->command,
        .id = event->id,
        .object_machine = event->object_machine,
        .requested = event->requested,
        .left = event->left,
        .host_is_short = event->of_host,
    };
    memcpy(told.comm, event->comm, sizeof(told.comm) - 1);
    ledger->handler(&told, ledger->handler_data);
    return 0;
}

/* The events, the records of walks, and the role of the service: whoever has loaded the programs,
 * these each process has for itself. */
static int open_channels(BpfLedger *ledger)
{
    size_t size = sizeof(struct ledger_record) * LEDGER_WALK_RECORDS;
    const uint32_t zero = 0;
    uint64_t start;

    ledger->events = ring_buffer__new(ledger->maps[MAP_EVENTS].fd, on_event, ledger, NULL);
    if (!ledger->events)
        return -errno;
    void *records = mmap(NULL, size, PROT_READ, MAP_SHARED, ledger->maps[MAP_RECORDS].fd, 0);
    if (records == MAP_FAILED)
        return -errno;
    ledger->records = records;

    int r = process_start_time(getpid(), &start);
    if (r >= 0)
        r = ledger_trust_process(&ledger->base, getpid(), start, LEDGER_ROLE_SERVICE);
    if (r < 0)
        return r;
    LedgerReport used = ledger->report;
    used.tables_used = 1;
    return map_put(ledger, MAP_LOADED, &zero, &used);
}

static bool is_there(const char *folder)
{
    return g_file_test(folder, G_FILE_TEST_IS_DIR);
}

/* Nobody unloads what is in use: until this process ends. */
static int lock_folder(BpfLedger *ledger)
{
    ledger->lock_fd = open(ledger->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return ledger->lock_fd < 0 || flock(ledger->lock_fd, LOCK_SH) ? -errno : 0;
}

static void set_status(const LedgerReport *report, LedgerStatus *status)
{
    *status = (LedgerStatus){
        .counting = report->active,
        .guarding = report->active && report->guard_active,
        .rechecking = report->active && report->guard_active && report->can_refuse_late,
    };
    g_strlcpy(status->reason, report->reason, sizeof(status->reason));
    g_strlcpy(status->guard_reason, report->guard_reason, sizeof(status->guard_reason));
}

/* Opens what is pinned, once it is. */
static int open_pinned(BpfLedger *ledger, const LedgerOptions *options)
{
    g_autofree char *version = ledger_version(options);
    int r = 0;

    if (!is_there(version))
        r = ledger_load_pinned(options, &ledger->report);
    if (r >= 0 && is_there(version))
        r = pins_open(ledger, version);
    ledger->folder = g_strdup(options->folder);
    ledger->version = g_steal_pointer(&version);
    return r;
}

static int start(BpfLedger *ledger, const LedgerOptions *options)
{
    int r = options->folder ? open_pinned(ledger, options) : ledger_load_here(ledger, options);

    if (r < 0 || !ledger->report.active)
        return r;
    set_status(&ledger->report, &ledger->base.status);
    r = ledger_configure(ledger, options);
    if (r >= 0)
        r = open_channels(ledger);
    if (r >= 0 && ledger->folder)
        r = lock_folder(ledger);
    if (r >= 0 && ledger->folder)
        upgrade_trust_service(ledger);
    if (r >= 0 && ledger->folder)
        ledger_find_scopes(&ledger->base);
    return r < 0 ? r : ledger_reconcile(&ledger->base, NULL, NULL, NULL);
}

int bpf_ledger_load(const LedgerOptions *options, LedgerStatus *ret_status)
{
    LedgerReport report = {0};
    int r = ledger_load_pinned(options, &report);

    if (r >= 0)
        set_status(&report, ret_status);
    return r;
}

int bpf_ledger_open(const LedgerOptions *options, Ledger **ret_ledger)
{
    g_autoptr(BpfLedger) ledger = bpf_ledger_alloc();

    ledger->base.ops = &bpf_ops;
    int r = start(ledger, options);
    if (r == -ENOMEM)
        return r;
    if (r < 0)
        bpf_ledger_disable(ledger, r);
    set_status(&ledger->report, &ledger->base.status);
    *ret_ledger = &g_steal_pointer(&ledger)->base;
    return 0;
}

static int finish_upgrade(Ledger *ledger)
{
    const BpfLedger *self = bpf_ledger(ledger);

    if (!ledger->status.counting)
        return -EOPNOTSUPP;
    int r = ledger_reconcile(ledger, NULL, NULL, NULL);
    return r < 0 || !self->folder ? r : pins_remove_others(self->folder, self->version);
}

static void free_ledger(Ledger *ledger)
{
    bpf_ledger_free(bpf_ledger(ledger));
}

int bpf_ledger_unload(const char *folder)
{
    autoclose int lock_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (lock_fd < 0)
        return errno == ENOENT ? 0 : -errno;
    if (flock(lock_fd, LOCK_EX | LOCK_NB))
        return errno == EWOULDBLOCK ? -EBUSY : -errno;
    return pins_remove(folder);
}

/* The folder keeps everything. */
static int descriptor(Ledger *ledger)
{
    return -EBADF;
}

static int event_fd(Ledger *ledger)
{
    return ledger->status.counting ? ring_buffer__epoll_fd(bpf_ledger(ledger)->events)
                                   : -EOPNOTSUPP;
}

static int dispatch(Ledger *ledger, LedgerEventHandler handler, void *data)
{
    BpfLedger *self = bpf_ledger(ledger);

    if (!ledger->status.counting)
        return -EOPNOTSUPP;
    self->handler = handler;
    self->handler_data = data;
    int r = ring_buffer__consume(self->events);
    self->handler = NULL;
    return r < 0 ? r : 0;
}

static const LedgerOps bpf_ops = {
    .name = "bpf",
    .free = free_ledger,
    .finish_upgrade = finish_upgrade,
    .descriptor = descriptor,
    .register_iommufd = ledger_register,
    .set_limit = ledger_set_limit,
    .remove_tenant = ledger_remove_tenant,
    .set_budget = ledger_set_budget,
    .add_machine = ledger_add_machine,
    .remove_machine = ledger_remove_machine,
    .reserve_machine = ledger_reserve_machine,
    .follow_limit = ledger_follow_limit,
    .name_process = ledger_name_process,
    .machine = ledger_machine,
    .admit_device = ledger_admit_device,
    .dismiss_device = ledger_dismiss_device,
    .device = ledger_device,
    .trust_relay = ledger_trust_relay,
    .set_relay_units = ledger_set_relay_units,
    .allow_receiver = ledger_allow_receiver,
    .tenant_usage = ledger_tenant_usage,
    .usage = ledger_usage,
    .objects = ledger_objects,
    .object = ledger_object,
    .legacy = ledger_legacy,
    .counters = ledger_counters,
    .reconcile = ledger_reconcile,
    .event_fd = event_fd,
    .dispatch = dispatch,
};
