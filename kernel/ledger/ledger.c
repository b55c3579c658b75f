/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A ledger's life: taking over what is pinned, or having it loaded. */
#include "kernel/ledger/internal.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/base/cleanup.h"
#include "kernel/base/process.h"

const char *const ledger_map_names[N_MAPS] = {
    [MAP_CONFIG] = "config",     [MAP_LOADED] = "loaded",       [MAP_STATE] = "state",
    [MAP_CONTEXTS] = "contexts", [MAP_OBJECTS] = "objects",     [MAP_PAGES] = "pages",
    [MAP_PLACES] = "places",     [MAP_PROCESSES] = "processes", [MAP_OWNERS] = "owners",
    [MAP_BOOKS] = "books",       [MAP_TENANTS] = "tenants",     [MAP_MACHINES] = "machines",
    [MAP_CGROUPS] = "cgroups",   [MAP_DEVICES] = "devices",     [MAP_EVENTS] = "events",
    [MAP_ROWS] = "rows",         [MAP_FENCE] = "fence",
};

const char *const ledger_program_names[N_PROGRAMS] = {
    [CONTROL_REGISTER] = "control_register", [CONTROL_NAME] = "control_name",
    [CONTROL_ADMIT] = "control_admit",       [CONTROL_LIMIT] = "control_limit",
    [CONTROL_CREDIT] = "control_credit",     [CONTROL_FORGET] = "control_forget",
    [CONTROL_MEND] = "control_mend",         [CONTROL_SEED] = "control_seed",
    [CONTROL_DROP] = "control_drop",         [CONTROL_FREE] = "control_free",
    [CONTROL_CLOSE] = "control_close",       [CONTROL_RETIRE] = "control_retire",
    [CONTROL_BURY] = "control_bury",         [CONTROL_RECOUNT] = "control_recount",
    [CONTROL_BALANCE] = "control_balance",   [CONTROL_SETTLE] = "control_settle",
    [WALK_CONTEXT] = "walk_context",         [WALK_CONTAINER] = "walk_container",
};

Ledger *ledger_alloc(void)
{
    Ledger *ledger = g_new0(Ledger, 1);

    for (int i = 0; i < N_MAPS; i++)
        ledger->maps[i].fd = -EBADF;
    for (int i = 0; i < N_PROGRAMS; i++)
        ledger->programs[i] = -EBADF;
    ledger->walk_files = -EBADF;
    ledger->presence = -EBADF;
    ledger->hooks = g_array_new(FALSE, FALSE, sizeof(int));
    ledger->links = g_array_new(FALSE, FALSE, sizeof(int));
    ledger->tenants = g_hash_table_new(NULL, NULL);
    g_mutex_init(&ledger->lock);
    return ledger;
}

int ledger_run(const Ledger *ledger, enum ledger_program_id program, void *args, size_t size)
{
    LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = args, .ctx_size_in = size);

    if (ledger->programs[program] < 0)
        return -EOPNOTSUPP;
    if (bpf_prog_test_run_opts(ledger->programs[program], &opts))
        return -errno;
    return (int)opts.retval;
}

int ledger_each(const Ledger *ledger, enum ledger_map_id which, LedgerVisitor visit, void *data)
{
    const LedgerMap *map = &ledger->maps[which];
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

int ledger_get(const Ledger *ledger, enum ledger_map_id map, const void *key, void *ret_value)
{
    if (ledger->maps[map].fd < 0)
        return -EOPNOTSUPP;
    return bpf_map_lookup_elem(ledger->maps[map].fd, key, ret_value) ? -errno : 0;
}

static int update(const Ledger *ledger, enum ledger_map_id map, const void *key, const void *value,
                  uint64_t flags)
{
    if (ledger->maps[map].fd < 0)
        return -EOPNOTSUPP;
    return bpf_map_update_elem(ledger->maps[map].fd, key, value, flags) ? -errno : 0;
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
    if (ledger->maps[map].fd < 0)
        return -EOPNOTSUPP;
    return bpf_map_delete_elem(ledger->maps[map].fd, key) ? -errno : 0;
}

int ledger_fence(const Ledger *ledger)
{
    const uint32_t zero = 0;

    return ledger_put(ledger, MAP_FENCE, &zero, &ledger->maps[MAP_CONFIG].fd);
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

static int get_hooks(Ledger *ledger, const char *version)
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
int ledger_take_over(Ledger *ledger, const char *version)
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
    return r ? r : ledger_get(ledger, MAP_LOADED, &zero, &ledger->report);
}

static int on_event(void *data, void *bytes, size_t size)
{
    Ledger *ledger = data;

    if (ledger->handler && size >= sizeof(struct ledger_event))
        ledger->handler(bytes, ledger->handler_data);
    return 0;
}

/* What every ledger has for itself, whoever loaded the programs. */
static int open_channels(Ledger *ledger)
{
    size_t size = sizeof(struct ledger_row) * LEDGER_WALK_ROWS;
    const uint32_t zero = 0;
    LedgerReport used;
    uint64_t start;
    void *rows;
    int r;

    ledger->events = ring_buffer__new(ledger->maps[MAP_EVENTS].fd, on_event, ledger, NULL);
    if (!ledger->events)
        return -errno;
    rows = mmap(NULL, size, PROT_READ, MAP_SHARED, ledger->maps[MAP_ROWS].fd, 0);
    if (rows == MAP_FAILED)
        return -errno;
    ledger->rows = rows;
    r = process_start_time(getpid(), &start);
    if (!r)
        r = ledger_trust_process(ledger, getpid(), start, LEDGER_ROLE_SERVICE);
    if (r)
        return r;
    ledger->taken_over = ledger->report.used;
    used = ledger->report;
    used.used = 1;
    return ledger_put(ledger, MAP_LOADED, &zero, &used);
}

static bool is_there(const char *folder)
{
    return g_file_test(folder, G_FILE_TEST_IS_DIR);
}

/* In a child, whose memory for reading all the kernel's types ends with it. */
static int load_apart(const LedgerOptions *options, LedgerReport *report)
{
    int channel[2], r;
    ssize_t n;
    pid_t pid;

    if (pipe2(channel, O_CLOEXEC))
        return -errno;
    pid = fork();
    if (!pid) {
        r = ledger_load(options, report);
        n = r ? 0 : write(channel[1], report, sizeof(*report));
        _exit(n == sizeof(*report) ? 0 : 1);
    }
    r = pid < 0 ? -errno : 0;
    close(channel[1]);
    do
        n = read(channel[0], report, sizeof(*report));
    while (n < 0 && errno == EINTR);
    close(channel[0]);
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    if (!r && n != sizeof(*report))
        r = -ECHILD;
    return r;
}

/* Nobody unloads what is in use: until this process ends. */
static int be_present(Ledger *ledger)
{
    ledger->presence = open(ledger->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return ledger->presence < 0 || flock(ledger->presence, LOCK_SH) ? -errno : 0;
}

static int start(Ledger *ledger, const LedgerOptions *options)
{
    g_autofree char *version = NULL;
    int r = 0;

    if (!options->folder) {
        r = ledger_load_here(ledger, options);
    } else {
        version = ledger_version(options);
        if (!is_there(version))
            r = load_apart(options, &ledger->report);
        if (!r && is_there(version))
            r = ledger_take_over(ledger, version);
        ledger->folder = g_strdup(options->folder);
        ledger->version = g_steal_pointer(&version);
    }
    if (r || !ledger->report.active)
        return r;
    r = ledger_configure(ledger, options);
    if (!r)
        r = open_channels(ledger);
    if (!r && ledger->folder)
        r = be_present(ledger);
    if (!r && ledger->folder)
        ledger_trust_others(ledger);
    return r ? r : ledger_reconcile(ledger, NULL, NULL, NULL);
}

/* The latest first: the guard's links came last, and need what the ledger's do. */
static void close_all(GArray *descriptors)
{
    while (descriptors->len) {
        close_fd(g_array_index(descriptors, int, descriptors->len - 1));
        g_array_set_size(descriptors, descriptors->len - 1);
    }
}

static void close_parts(Ledger *ledger)
{
    close_all(ledger->links);
    close_all(ledger->hooks);
    if (ledger->rows)
        munmap((void *)ledger->rows, sizeof(struct ledger_row) * LEDGER_WALK_ROWS);
    ledger->rows = NULL;
    g_clear_pointer(&ledger->events, ring_buffer__free);
    for (int i = 0; i < N_PROGRAMS; i++)
        ledger->programs[i] = close_fd(ledger->programs[i]);
    ledger->walk_files = close_fd(ledger->walk_files);
    ledger->presence = close_fd(ledger->presence);
    for (int i = 0; i < N_MAPS; i++)
        ledger->maps[i].fd = close_fd(ledger->maps[i].fd);
}

void ledger_explain(Ledger *ledger, int error)
{
    LedgerReport *report = &ledger->report;

    close_parts(ledger);
    report->active = report->guarding = report->exact = false;
    if (!*report->reason)
        snprintf(report->reason, sizeof(report->reason), "The ledger can't be started: %s.",
                 g_strerror(-error));
    if (!*report->guard_reason)
        g_strlcpy(report->guard_reason, report->reason, sizeof(report->guard_reason));
}

int ledger_new(const LedgerOptions *options, Ledger **ret_ledger)
{
    Ledger *ledger = ledger_alloc();
    int r;

    r = start(ledger, options);
    if (r == -ENOMEM) {
        ledger_free(ledger);
        return r;
    }
    if (r)
        ledger_explain(ledger, r);
    *ret_ledger = ledger;
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

int ledger_commit(Ledger *ledger)
{
    int r;

    if (!ledger->report.active)
        return -EOPNOTSUPP;
    r = ledger_reconcile(ledger, NULL, NULL, NULL);
    return r || !ledger->folder ? r : remove_others(ledger->folder, ledger->version);
}

void ledger_free(Ledger *ledger)
{
    if (!ledger)
        return;
    close_parts(ledger);
    g_array_unref(ledger->links);
    g_array_unref(ledger->hooks);
    g_hash_table_unref(ledger->tenants);
    g_mutex_clear(&ledger->lock);
    g_free(ledger->folder);
    g_free(ledger->version);
    g_free(ledger);
}

int ledger_unload(const char *folder)
{
    autoclose int presence = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (presence < 0)
        return errno == ENOENT ? 0 : -errno;
    if (flock(presence, LOCK_EX | LOCK_NB))
        return errno == EWOULDBLOCK ? -EBUSY : -errno;
    return ledger_remove_folder(folder);
}

bool ledger_is_active(const Ledger *ledger)
{
    return ledger->report.active;
}

bool ledger_guard_is_active(const Ledger *ledger)
{
    return ledger->report.active && ledger->report.guarding;
}

bool ledger_guard_is_exact(const Ledger *ledger)
{
    return ledger_guard_is_active(ledger) && ledger->report.exact;
}

const char *ledger_reason(const Ledger *ledger)
{
    return ledger->report.reason;
}

const char *ledger_guard_reason(const Ledger *ledger)
{
    return ledger->report.guard_reason;
}

bool ledger_was_taken_over(const Ledger *ledger)
{
    return ledger->taken_over;
}

int ledger_event_fd(const Ledger *ledger)
{
    return ledger->report.active ? ring_buffer__epoll_fd(ledger->events) : -EOPNOTSUPP;
}

int ledger_dispatch(Ledger *ledger, LedgerEventHandler handler, void *data)
{
    int r;

    if (!ledger->report.active)
        return -EOPNOTSUPP;
    ledger->handler = handler;
    ledger->handler_data = data;
    r = ring_buffer__consume(ledger->events);
    ledger->handler = NULL;
    return r < 0 ? r : 0;
}
