/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A ledger's life: taking over what is pinned, or having it loaded. */
#include "kernel/ledger/bpf-ledger.h"

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
#include "kernel/ledger/internal.h"

const char *const ledger_map_names[N_MAPS] = {
    [MAP_CONFIG] = "config",     [MAP_LOADED] = "loaded",       [MAP_STATE] = "state",
    [MAP_CONTEXTS] = "contexts", [MAP_OBJECTS] = "objects",     [MAP_PAGES] = "pages",
    [MAP_EXTENTS] = "extents",   [MAP_PROCESSES] = "processes", [MAP_OWNERS] = "owners",
    [MAP_ACCOUNTS] = "accounts", [MAP_TENANTS] = "tenants",     [MAP_MACHINES] = "machines",
    [MAP_CGROUPS] = "cgroups",   [MAP_DEVICES] = "devices",     [MAP_EVENTS] = "events",
    [MAP_RECORDS] = "records",   [MAP_FENCE] = "fence",
};

const char *const ledger_program_names[N_PROGRAMS] = {
    [CONTROL_REGISTER] = "control_register",
    [CONTROL_NAME_PROCESS] = "control_name_process",
    [CONTROL_ADMIT_DEVICE] = "control_admit_device",
    [CONTROL_SET_LIMIT] = "control_set_limit",
    [CONTROL_SET_DEDUP_CREDIT] = "control_set_dedup_credit",
    [CONTROL_REMOVE_MACHINE] = "control_remove_machine",
    [CONTROL_SET_RANGE] = "control_set_range",
    [CONTROL_ADOPT_OBJECT] = "control_adopt_object",
    [CONTROL_REMOVE_RANGE] = "control_remove_range",
    [CONTROL_REMOVE_OBJECT] = "control_remove_object",
    [CONTROL_REMOVE_CONTEXT] = "control_remove_context",
    [CONTROL_CLOSE_ACCOUNT] = "control_close_account",
    [CONTROL_REMOVE_PROCESS] = "control_remove_process",
    [CONTROL_SET_COUNTS] = "control_set_counts",
    [CONTROL_SET_TOTALS] = "control_set_totals",
    [CONTROL_DROP_UNMATCHED] = "control_drop_unmatched",
    [WALK_CONTEXT] = "walk_context",
    [WALK_CONTAINER] = "walk_container",
};

static const LedgerOps bpf_ops;

BpfLedger *ledger_alloc(void)
{
    BpfLedger *ledger = g_new0(BpfLedger, 1);

    ledger->base.ops = &bpf_ops;
    for (int i = 0; i < N_MAPS; i++)
        ledger->maps[i].fd = -EBADF;
    for (int i = 0; i < N_PROGRAMS; i++)
        ledger->programs[i] = -EBADF;
    ledger->walk_files = -EBADF;
    ledger->presence = -EBADF;
    ledger->hooks = g_array_new(FALSE, FALSE, sizeof(int));
    ledger->links = g_array_new(FALSE, FALSE, sizeof(int));
    ledger->relay_units = g_new0(char *, 1);
    ledger->relays = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    ledger->machines = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    return ledger;
}

int ledger_run(const Ledger *ledger, enum ledger_program_id program, void *args, size_t size)
{
    LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = args, .ctx_size_in = size);
    int fd = bpf_ledger(ledger)->programs[program];

    if (fd < 0)
        return -EOPNOTSUPP;
    if (bpf_prog_test_run_opts(fd, &opts))
        return -errno;
    return (int)opts.retval;
}

int ledger_each(const Ledger *ledger, enum ledger_map_id which, LedgerVisitor visit, void *data)
{
    const LedgerMap *map = &bpf_ledger(ledger)->maps[which];
    g_autofree void *key = g_malloc0(map->key_size);
    g_autofree void *next = g_malloc0(map->key_size);
    g_autofree void *value = g_malloc0(map->value_size);
    /* Entries that come and go can send the search back to the start: it ends all the same. */
    uint64_t steps = 2ull * map->max_entries;
    int r = 0;

    if (map->fd < 0)
        return -EOPNOTSUPP;
    if (bpf_map_get_next_key(map->fd, NULL, next))
        return errno == ENOENT ? 0 : -errno;
    do {
        memcpy(key, next, map->key_size);
        if (!bpf_map_lookup_elem(map->fd, key, value))
            r = visit(key, value, data);
        if (!steps--)
            return -EAGAIN;
    } while (!r && !bpf_map_get_next_key(map->fd, key, next));
    return r;
}

static int map_fd(const Ledger *ledger, enum ledger_map_id map)
{
    return bpf_ledger(ledger)->maps[map].fd;
}

int ledger_get(const Ledger *ledger, enum ledger_map_id map, const void *key, void *ret_value)
{
    if (map_fd(ledger, map) < 0)
        return -EOPNOTSUPP;
    return bpf_map_lookup_elem(map_fd(ledger, map), key, ret_value) ? -errno : 0;
}

static int update(const Ledger *ledger, enum ledger_map_id map, const void *key, const void *value,
                  uint64_t flags)
{
    if (map_fd(ledger, map) < 0)
        return -EOPNOTSUPP;
    return bpf_map_update_elem(map_fd(ledger, map), key, value, flags) ? -errno : 0;
}

int ledger_put(const Ledger *ledger, enum ledger_map_id map, const void *key, const void *value)
{
    return update(ledger, map, key, value, BPF_ANY);
}

int ledger_add(const Ledger *ledger, enum ledger_map_id map, const void *key, const void *value)
{
    return update(ledger, map, key, value, BPF_NOEXIST);
}

int ledger_drop(const Ledger *ledger, enum ledger_map_id map, const void *key)
{
    if (map_fd(ledger, map) < 0)
        return -EOPNOTSUPP;
    return bpf_map_delete_elem(map_fd(ledger, map), key) ? -errno : 0;
}

int ledger_fence(const Ledger *ledger)
{
    const uint32_t zero = 0;

    return ledger_put(ledger, MAP_FENCE, &zero, &bpf_ledger(ledger)->maps[MAP_CONFIG].fd);
}

int ledger_map_open(int fd, LedgerMap *ret_map)
{
    struct bpf_map_info info = {0};
    uint32_t size = sizeof(info);

    if (fd < 0)
        return -errno;
    ret_map->fd = fd;
    if (bpf_obj_get_info_by_fd(fd, &info, &size))
        return -errno;
    ret_map->key_size = info.key_size;
    ret_map->value_size = info.value_size;
    ret_map->max_entries = info.max_entries;
    return 0;
}

static int get_pinned(const char *folder, const char *kind, const char *name)
{
    g_autofree char *path = g_build_filename(folder, kind, name, NULL);

    return bpf_obj_get(path);
}

static int get_hooks(BpfLedger *ledger, const char *version)
{
    g_autofree char *path = g_build_filename(version, "hooks", NULL);
    g_autoptr(GDir) folder = g_dir_open(path, 0, NULL);
    const char *name;

    while (folder && (name = g_dir_read_name(folder))) {
        int fd = get_pinned(version, "hooks", name);

        if (fd < 0)
            return -errno;
        g_array_append_val(ledger->hooks, fd);
    }
    return 0;
}

/* What a loader has pinned is all there, or its folder would not have its name. */
int ledger_take_over(BpfLedger *ledger, const char *version)
{
    const uint32_t zero = 0;
    int r;

    for (int i = 0; i < N_MAPS; i++) {
        r = ledger_map_open(get_pinned(version, "maps", ledger_map_names[i]), &ledger->maps[i]);
        if (r)
            return r;
    }
    for (int i = 0; i < N_PROGRAMS; i++) {
        ledger->programs[i] = get_pinned(version, "programs", ledger_program_names[i]);
        if (ledger->programs[i] < 0)
            return -errno;
    }
    ledger->walk_files = get_pinned(version, "programs", "walk_files");
    if (ledger->walk_files < 0)
        return -errno;
    r = get_hooks(ledger, version);
    return r ? r : ledger_get(&ledger->base, MAP_LOADED, &zero, &ledger->report);
}

static const LedgerEventKind event_kinds[] = {
    [LEDGER_EVENT_REFUSED] = LEDGER_EVENT_KIND_REFUSED,
    [LEDGER_EVENT_LIMIT] = LEDGER_EVENT_KIND_LIMIT,
    [LEDGER_EVENT_ARGUMENT_CHANGED] = LEDGER_EVENT_KIND_ARGUMENT_CHANGED,
    [LEDGER_EVENT_EXIT] = LEDGER_EVENT_KIND_EXIT,
    [LEDGER_EVENT_FULL] = LEDGER_EVENT_KIND_FULL,
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
    };
    memcpy(told.comm, event->comm, sizeof(told.comm) - 1);
    ledger->handler(&told, ledger->handler_data);
    return 0;
}

/* What every ledger has for itself, whoever loaded the programs. */
static int open_channels(BpfLedger *ledger)
{
    size_t size = sizeof(struct ledger_record) * LEDGER_WALK_RECORDS;
    const uint32_t zero = 0;
    LedgerReport used;
    uint64_t start;
    void *rows;
    int r;

    ledger->events = ring_buffer__new(ledger->maps[MAP_EVENTS].fd, on_event, ledger, NULL);
    if (!ledger->events)
        return -errno;
    rows = mmap(NULL, size, PROT_READ, MAP_SHARED, ledger->maps[MAP_RECORDS].fd, 0);
    if (rows == MAP_FAILED)
        return -errno;
    ledger->rows = rows;
    r = process_start_time(getpid(), &start);
    if (!r)
        r = ledger_trust_process(&ledger->base, getpid(), start, LEDGER_ROLE_SERVICE);
    if (r)
        return r;
    used = ledger->report;
    used.tables_used = 1;
    return ledger_put(&ledger->base, MAP_LOADED, &zero, &used);
}

static bool is_there(const char *folder)
{
    return g_file_test(folder, G_FILE_TEST_IS_DIR);
}

/* Nobody unloads what is in use: until this process ends. */
static int be_present(BpfLedger *ledger)
{
    ledger->presence = open(ledger->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return ledger->presence < 0 || flock(ledger->presence, LOCK_SH) ? -errno : 0;
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

static int start(BpfLedger *ledger, const LedgerOptions *options)
{
    g_autofree char *version = NULL;
    int r = 0;

    if (!options->folder) {
        r = ledger_load_here(ledger, options);
    } else {
        version = ledger_version(options);
        if (!is_there(version))
            r = ledger_load_pinned(options, &ledger->report);
        if (!r && is_there(version))
            r = ledger_take_over(ledger, version);
        ledger->folder = g_strdup(options->folder);
        ledger->version = g_steal_pointer(&version);
    }
    if (r || !ledger->report.active)
        return r;
    set_status(&ledger->report, &ledger->base.status);
    r = ledger_configure(ledger, options);
    if (!r)
        r = open_channels(ledger);
    if (!r && ledger->folder)
        r = be_present(ledger);
    if (!r && ledger->folder)
        ledger_trust_others(ledger);
    return r ? r : ledger_reconcile(&ledger->base, NULL, NULL, NULL);
}

/* The latest first: the guard's links came last, and need what the ledger's do. */
static void close_all(GArray *descriptors)
{
    while (descriptors->len) {
        close_fd(g_array_index(descriptors, int, descriptors->len - 1));
        g_array_set_size(descriptors, descriptors->len - 1);
    }
}

static void close_parts(BpfLedger *ledger)
{
    close_all(ledger->links);
    close_all(ledger->hooks);
    if (ledger->rows)
        munmap((void *)ledger->rows, sizeof(struct ledger_record) * LEDGER_WALK_RECORDS);
    ledger->rows = NULL;
    g_clear_pointer(&ledger->events, ring_buffer__free);
    for (int i = 0; i < N_PROGRAMS; i++)
        ledger->programs[i] = close_fd(ledger->programs[i]);
    ledger->walk_files = close_fd(ledger->walk_files);
    ledger->presence = close_fd(ledger->presence);
    for (int i = 0; i < N_MAPS; i++)
        ledger->maps[i].fd = close_fd(ledger->maps[i].fd);
}

void ledger_explain(BpfLedger *ledger, int error)
{
    LedgerReport *report = &ledger->report;

    close_parts(ledger);
    report->active = report->guard_active = report->can_refuse_late = false;
    if (!*report->reason)
        snprintf(report->reason, sizeof(report->reason), "The ledger can't be started: %s.",
                 g_strerror(-error));
    if (!*report->guard_reason)
        g_strlcpy(report->guard_reason, report->reason, sizeof(report->guard_reason));
}

int bpf_ledger_load(const LedgerOptions *options, LedgerStatus *ret_status)
{
    LedgerReport report = {0};
    int r = ledger_load_pinned(options, &report);

    if (!r)
        set_status(&report, ret_status);
    return r;
}

int bpf_ledger_open(const LedgerOptions *options, Ledger **ret_ledger)
{
    BpfLedger *ledger = ledger_alloc();
    int r;

    r = start(ledger, options);
    if (r == -ENOMEM) {
        bpf_ledger_free(&ledger->base);
        return r;
    }
    if (r)
        ledger_explain(ledger, r);
    set_status(&ledger->report, &ledger->base.status);
    *ret_ledger = &ledger->base;
    return 0;
}

/* The versions before this one: with their links they end. */
static int remove_others(const char *folder, const char *current)
{
    g_autoptr(GDir) versions = g_dir_open(folder, 0, NULL);
    const char *name;
    int r = 0;

    while (versions && (name = g_dir_read_name(versions))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);

        if (strcmp(path, current) && ledger_remove_folder(path))
            r = -EIO;
    }
    return r;
}

static int finish_upgrade(Ledger *ledger)
{
    const BpfLedger *self = bpf_ledger(ledger);
    int r;

    if (!ledger->status.counting)
        return -EOPNOTSUPP;
    r = ledger_reconcile(ledger, NULL, NULL, NULL);
    return r || !self->folder ? r : remove_others(self->folder, self->version);
}

void bpf_ledger_free(Ledger *ledger)
{
    BpfLedger *self = bpf_ledger(ledger);

    if (!self)
        return;
    close_parts(self);
    g_array_unref(self->links);
    g_array_unref(self->hooks);
    g_hash_table_unref(self->relays);
    g_hash_table_unref(self->machines);
    g_strfreev(self->relay_units);
    g_free(self->folder);
    g_free(self->version);
    g_free(self);
}

int bpf_ledger_unload(const char *folder)
{
    autoclose int presence = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (presence < 0)
        return errno == ENOENT ? 0 : -errno;
    if (flock(presence, LOCK_EX | LOCK_NB))
        return errno == EWOULDBLOCK ? -EBUSY : -errno;
    return ledger_remove_folder(folder);
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
    int r;

    if (!ledger->status.counting)
        return -EOPNOTSUPP;
    self->handler = handler;
    self->handler_data = data;
    r = ring_buffer__consume(self->events);
    self->handler = NULL;
    return r < 0 ? r : 0;
}

static const LedgerOps bpf_ops = {
    .name = "bpf",
    .free = bpf_ledger_free,
    .finish_upgrade = finish_upgrade,
    .descriptor = descriptor,
    .register_iommufd = ledger_register,
    .set_limit = ledger_set_limit,
    .remove_tenant = ledger_remove_tenant,
    .add_machine = ledger_add_machine,
    .remove_machine = ledger_remove_machine,
    .name_process = ledger_name_process,
    .machine = ledger_machine,
    .admit_device = ledger_admit_device,
    .dismiss_device = ledger_dismiss_device,
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
