/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Loading: which programs fit the kernel, and how they outlive their loader. */
#include "kernel/ledger/load.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "iommud.skel.h"
#include "kernel/base/cleanup.h"
#include "kernel/ledger/pins.h"
#include "kernel/ledger/programs.h"
#include "kernel/ledger/types.h"
#include "kernel/ledger/upgrade.h"

G_GNUC_PRINTF(2, 0)
static int keep_quiet(enum libbpf_print_level level, const char *format, va_list args)
{
    return 0;
}

static const char *target_of(const struct bpf_program *program)
{
    const char *slash = strchr(bpf_program__section_name(program), '/');

    return slash ? slash + 1 : "";
}

static bool have_function(const void *types, const char *function)
{
    return types_have(types, function);
}

G_GNUC_PRINTF(2, 3)
static void no_guard(LedgerReport *report, const char *format, ...)
{
    va_list args;

    report->guard_active = report->can_refuse_late = false;
    va_start(args, format);
    vsnprintf(report->guard_reason, sizeof(report->guard_reason), format, args);
    va_end(args);
}

/* Whether iommufd has all hooks: with some of them the rest would go unchecked. */
static bool have_hooks(struct iommud_bpf *skeleton, const Types *types)
{
    struct bpf_program *program;

    bpf_object__for_each_program(program, skeleton->obj)
    {
        const Program *entry = program_find(bpf_program__name(program));

        if (entry && entry->kind == PROGRAM_HOOK && !types_may_refuse(types, target_of(program)))
            return false;
    }
    return true;
}

static void choose_programs(struct iommud_bpf *skeleton, const Types *types, LedgerGuardMode guard,
                            LedgerReport *report)
{
    g_autofree char *list = NULL;
    ProgramNeeds needs = {.lsm = lsm_has_bpf(&list)};
    struct bpf_program *program;

    report->guard_active = true;
    report->can_refuse_late = have_hooks(skeleton, types);
    if (guard == LEDGER_GUARD_MODE_OFF)
        no_guard(report, "The guard is switched off by configuration (Guard=off).");
    else if (!needs.lsm && !types_have(types, "security_file_ioctl"))
        no_guard(report,
                 "The BPF LSM is not enabled: add 'bpf' to lsm= on the kernel command line (now: "
                 "%s).",
                 list ? list : "none");
    else if (!report->can_refuse_late && !have_kprobes())
        no_guard(report, "The kernel has no kprobes (CONFIG_KPROBE_EVENTS), and its iommufd is not "
                         "iommud's: install the modules of iommud-vfio.");
    needs.guard = report->guard_active;
    needs.hooks = report->can_refuse_late;
    bpf_object__for_each_program(program, skeleton->obj)
    {
        const Program *entry = program_find(bpf_program__name(program));

        /* A test sees to it that each has one. */
        g_assert(entry);
        bpf_program__set_autoload(
            program, program_is_wanted(entry, target_of(program), &needs, have_function, types));
    }
}

static void set_size(struct bpf_map *map, uint32_t entries)
{
    if (entries)
        bpf_map__set_max_entries(map, entries);
}

/* Or the next one. */
static uint32_t power_of_two(uint32_t number)
{
    uint32_t power = 1;

    while (power < number && power < 1u << 31)
        power *= 2;
    return power;
}

static void set_sizes(struct iommud_bpf *skeleton, const LedgerOptions *options)
{
    set_size(skeleton->maps.contexts, options->max_contexts);
    set_size(skeleton->maps.objects, options->max_objects);
    set_size(skeleton->maps.pages, options->max_ranges);
    set_size(skeleton->maps.extents, options->max_ranges ? power_of_two(options->max_ranges) : 0);
    set_size(skeleton->maps.owners, options->max_owners);
    set_size(skeleton->maps.processes, options->max_owners);
    set_size(skeleton->maps.machines, options->max_owners);
    set_size(skeleton->maps.devices, options->max_owners);
    set_size(skeleton->maps.units, options->max_owners);
    set_size(skeleton->maps.cgroups, options->max_owners);
    set_size(skeleton->maps.tenants, options->max_contexts);
    set_size(skeleton->maps.accounts, options->max_owners ? 2 * options->max_owners : 0);
}

char *ledger_version(const LedgerOptions *options)
{
    const uint32_t choices[] = {options->max_contexts, options->max_objects, options->max_ranges,
                                options->max_owners, options->guard != LEDGER_GUARD_MODE_OFF};
    g_autoptr(GChecksum) checksum = g_checksum_new(G_CHECKSUM_SHA256);
    size_t size;
    const uint8_t *bytes = iommud_bpf__elf_bytes(&size);

    g_checksum_update(checksum, bytes, (gssize)size);
    g_checksum_update(checksum, (const uint8_t *)choices, sizeof(choices));
    return g_strdup_printf("%s/v%d-%.16s", options->folder, LEDGER_LAYOUT,
                           g_checksum_get_string(checksum));
}

static int load_programs(struct iommud_bpf *skeleton, LedgerReport *report)
{
    int r = iommud_bpf__load(skeleton);

    if (r == -EPERM || r == -EACCES)
        return ledger_unavailable(
            report,
            "The kernel does not let this process load BPF programs (%s): it needs "
            "CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN.",
            g_strerror(-r));
    if (r < 0)
        return ledger_unavailable(report, "The kernel does not accept the BPF programs: %s.",
                                  g_strerror(-r));
    return 0;
}

/* A descriptor of one's own, which outlives the skeleton's. */
static int copy_fd(int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

    return copy < 0 ? -errno : copy;
}

static int take_parts(BpfLedger *ledger, struct iommud_bpf *skeleton)
{
    struct bpf_object *object = skeleton->obj;

    for (int i = 0; i < N_MAPS; i++) {
        const struct bpf_map *map = bpf_object__find_map_by_name(object, map_names[i]);
        int r = map_open(copy_fd(bpf_map__fd(map)), &ledger->maps[i]);

        if (r < 0)
            return r;
    }
    for (int i = 0; i < N_PROGRAMS; i++) {
        const struct bpf_program *program =
            bpf_object__find_program_by_name(object, program_names[i]);

        ledger->programs[i] = copy_fd(bpf_program__fd(program));
        if (ledger->programs[i] < 0)
            return ledger->programs[i];
    }

    struct bpf_link *link = bpf_program__attach_iter(skeleton->progs.walk_files, NULL);
    if (!link)
        return -errno;
    ledger->walk_files = copy_fd(bpf_link__fd(link));
    bpf_link__destroy(link);
    return ledger->walk_files < 0 ? ledger->walk_files : 0;
}

static bool is_kprobe(const struct bpf_program *program)
{
    return bpf_program__type(program) == BPF_PROG_TYPE_KPROBE;
}

/* libbpf's own link of a kprobe stops it when it is freed, whoever else holds it. Bit 0 of config
 * is the kernel's for one at the function's return. */
static int attach_kprobe(const struct bpf_program *program)
{
    struct perf_event_attr attr = {.size = sizeof(attr)};
    const char *function = target_of(program);
    g_autofree char *type = NULL;
    autoclose int event = -EBADF;
    int link;

    if (!g_file_get_contents("/sys/bus/event_source/devices/kprobe/type", &type, NULL, NULL))
        return -ENOENT;
    attr.type = g_ascii_strtoull(type, NULL, 10);
    attr.config = g_str_has_prefix(bpf_program__section_name(program), "kretprobe/");
    attr.kprobe_func = (uintptr_t)function;
    event = syscall(SYS_perf_event_open, &attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
    if (event < 0)
        return -errno;
    link = bpf_link_create(bpf_program__fd(program), event, BPF_PERF_EVENT, NULL);
    return link < 0 ? -errno : link;
}

/* A descriptor of the link. */
static int attach_one(const struct bpf_program *program)
{
    struct bpf_link *link;
    int fd;

    if (is_kprobe(program))
        return attach_kprobe(program);
    link = bpf_program__attach(program);
    if (!link)
        return -errno;
    fd = copy_fd(bpf_link__fd(link));
    bpf_link__destroy(link);
    return fd;
}

static int attach_as(BpfLedger *ledger, const struct bpf_program *program, GPtrArray *names)
{
    const char *name = bpf_program__name(program);
    int link = attach_one(program);

    if (link < 0)
        return ledger_unavailable(&ledger->report, "The BPF program %s can't be attached: %s.",
                                  name, g_strerror(-link));
    g_array_append_val(ledger->links, link);

    int hook = copy_fd(bpf_program__fd(program));
    if (hook < 0)
        return hook;
    g_array_append_val(ledger->hooks, hook);
    g_ptr_array_add(names, g_strdup(name));
    return 0;
}

static int attach(BpfLedger *ledger, struct iommud_bpf *skeleton, GPtrArray *names)
{
    struct bpf_program *program;

    for (ProgramKind kind = 0; kind < PROGRAM_CONTROL; kind++) {
        bpf_object__for_each_program(program, skeleton->obj)
        {
            int r = 0;

            if (bpf_program__autoload(program) &&
                program_find(bpf_program__name(program))->kind == kind)
                r = attach_as(ledger, program, names);
            if (r < 0)
                return r;
        }
    }
    return 0;
}

/* The kernel's own form of a device number. */
static uint32_t kernel_rdev(dev_t rdev)
{
    return major(rdev) << 20 | minor(rdev);
}

static uint32_t vfio_major(void)
{
    g_autofree char *text = NULL;
    unsigned number;
    const char *line;

    if (!g_file_get_contents("/proc/devices", &text, NULL, NULL))
        return 0;
    line = strstr(text, " vfio-dev\n");
    while (line && line > text && line[-1] != '\n')
        line--;
    return line && sscanf(line, "%u", &number) == 1 ? number : 0;
}

int ledger_configure(BpfLedger *ledger, const LedgerOptions *options)
{
    struct ledger_config config = {
        .guard = ledger->report.guard_active ? options->guard : LEDGER_GUARD_MODE_OFF,
        .flags = (options->forbid_open ? LEDGER_CONFIG_NO_OPEN : 0) |
                 (ledger->report.can_refuse_late ? LEDGER_CONFIG_CAN_REFUSE_LATE : 0),
        .vfio_major = vfio_major(),
        .max_pages = ledger->maps[MAP_PAGES].max_entries,
        .max_objects = ledger->maps[MAP_OBJECTS].max_entries,
        .extents = ledger->maps[MAP_EXTENTS].max_entries,
    };
    const uint32_t zero = 0;
    struct stat st;

    if (!stat("/dev/iommu", &st))
        config.iommu_rdev = kernel_rdev(st.st_rdev);
    return map_put(ledger, MAP_CONFIG, &zero, &config);
}

/* Until somebody sets it, the host's budget is not limited. */
static int begin_host(const BpfLedger *ledger)
{
    const struct ledger_budget budget = {.limit = LEDGER_NO_LIMIT};
    const uint32_t zero = 0;

    return map_put(ledger, MAP_HOST, &zero, &budget);
}

/* Then BPF programs may not read the kernel's memory, which is all that these do. */
static bool is_locked_down(void)
{
    g_autofree char *modes = NULL;

    return g_file_get_contents("/sys/kernel/security/lockdown", &modes, NULL, NULL) &&
           strstr(modes, "[confidentiality]");
}

/* A bpffs is there, and may be written to. */
static int prepare_folder(LedgerReport *report, const char *folder)
{
    if (g_mkdir_with_parents(folder, 0700))
        return ledger_unavailable(report,
                                  "%s can't be made (%s): a bpffs must be mounted at /sys/fs/bpf.",
                                  folder, g_strerror(errno));
    return 0;
}

static int load_skeleton(BpfLedger *ledger, struct iommud_bpf *skeleton, const Types *types,
                         const LedgerOptions *options, GPtrArray *names)
{
    set_sizes(skeleton, options);
    choose_programs(skeleton, types, options->guard, &ledger->report);

    int r = load_programs(skeleton, &ledger->report);
    if (r >= 0)
        r = take_parts(ledger, skeleton);
    if (r >= 0)
        r = ledger_configure(ledger, options);
    if (r >= 0)
        r = begin_host(ledger);
    if (r >= 0 && options->folder) {
        g_autofree char *version = ledger_version(options);

        r = upgrade_copy_tables(ledger, options->folder, version);
    }
    return r < 0 ? r : attach(ledger, skeleton, names);
}

/* names: of the programs that were attached. */
static int load(BpfLedger *ledger, const LedgerOptions *options, GPtrArray *names)
{
    g_auto(Types) types = {.iommufd_fd = -EBADF};
    const uint32_t zero = 0;

    if (sysconf(_SC_PAGESIZE) != LEDGER_PAGE_SIZE)
        return ledger_unavailable(
            &ledger->report,
            "The kernel's pages are of %ld bytes, and the ledger knows only such of %llu.",
            sysconf(_SC_PAGESIZE), LEDGER_PAGE_SIZE);
    libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
    libbpf_set_print(keep_quiet);
    if (is_locked_down())
        return ledger_unavailable(
            &ledger->report,
            "The kernel is locked down against reading its memory: start it without "
            "lockdown=confidentiality (lockdown=integrity is enough for Secure "
            "Boot).");

    int r = types_find(&ledger->report, &types);
    if (r >= 0 && options->folder)
        r = prepare_folder(&ledger->report, options->folder);
    if (r < 0)
        return r;

    struct iommud_bpf *skeleton = iommud_bpf__open();
    if (!skeleton)
        return -errno;
    r = load_skeleton(ledger, skeleton, &types, options, names);
    iommud_bpf__destroy(skeleton);
    if (r < 0)
        return r;
    ledger->report.active = true;
    return map_put(ledger, MAP_LOADED, &zero, &ledger->report);
}

int ledger_load_here(BpfLedger *ledger, const LedgerOptions *options)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

    return load(ledger, options, names);
}

int ledger_load_pinned(const LedgerOptions *options, LedgerReport *ret_report)
{
    g_autofree char *version = ledger_version(options);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(BpfLedger) ledger = bpf_ledger_alloc();
    int r;

    if (g_file_test(version, G_FILE_TEST_IS_DIR)) {
        r = pins_open(ledger, version);
    } else {
        r = load(ledger, options, names);
        if (r >= 0)
            r = pins_write(ledger, names, version);
    }
    if (r == -ENOMEM)
        return r;
    if (r < 0)
        bpf_ledger_disable(ledger, r);
    *ret_report = ledger->report;
    return 0;
}
