/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Loading: what the kernel offers, which programs fit it, and how they outlive their loader. */
#include "kernel/ledger-internal.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "iommud.skel.h"
#include "kernel/cleanup.h"

/* Functions of which the ledger needs one each, and how many parameters they have to have; the
 * alternatives are names of other versions. */
static const struct {
    const char *names[2];
    uint16_t parameters;
} needed[] = {
    {{"iommufd_fops_open"}, 2},
    {{"iommufd_fops_release"}, 2},
    {{"iommufd_fops_ioctl"}, 3},
    {{"_iommufd_object_alloc"}, 3},
    {{"iommufd_object_remove"}, 4},
    {{"iommufd_get_object"}, 3},
    {{"iopt_alloc_user_pages", "iopt_alloc_pages"}, 3},
    {{"iopt_release_pages"}, 1},
    {{"iopt_pages_update_pinned", "do_update_pinned"}, 4},
};

G_GNUC_PRINTF(2, 0)
static int keep_quiet(enum libbpf_print_level level, const char *format, va_list args)
{
    return 0;
}

/* Tells why the ledger can't work: what came of the first thing that was missing. */
G_GNUC_PRINTF(2, 3)
static int unavailable(LedgerReport *report, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(report->reason, sizeof(report->reason), format, args);
    va_end(args);
    return -EOPNOTSUPP;
}

typedef struct {
    struct btf *kernel;
    struct btf *iommufd; /* NULL: it is built in */
    struct btf *vfio;    /* likewise */
    int iommufd_fd;      /* the kernel's own copy of it */
} Types;

static void types_clear(Types *types)
{
    close_fd(types->iommufd_fd);
    btf__free(types->vfio);
    btf__free(types->iommufd);
    btf__free(types->kernel);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Types, types_clear)

/* The function's prototype, wherever it is. NULL: it is not there. */
static const struct btf_type *find_function(const Types *types, const char *function)
{
    const struct btf *places[] = {types->iommufd, types->kernel};

    for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
        int id = places[i] ? btf__find_by_name_kind(places[i], function, BTF_KIND_FUNC) : 0;

        if (id > 0)
            return btf__type_by_id(places[i], btf__type_by_id(places[i], id)->type);
    }
    return NULL;
}

static bool types_have(const Types *types, const char *function)
{
    return find_function(types, function);
}

/* One of the names, with that many parameters. */
static bool types_fit(const Types *types, const char *const names[2], uint16_t parameters)
{
    const struct btf_type *type = find_function(types, names[0]);

    if (!type && names[1])
        type = find_function(types, names[1]);
    return type && btf_vlen(type) == parameters;
}

static bool types_have_vfio(const Types *types)
{
    static const char device_file[] = "vfio_device_file";

    return btf__find_by_name_kind(types->kernel, device_file, BTF_KIND_STRUCT) > 0 ||
           (types->vfio && btf__find_by_name_kind(types->vfio, device_file, BTF_KIND_STRUCT) > 0);
}

static struct btf *load_module_btf(const Types *types, const char *module)
{
    struct btf *btf = btf__load_module_btf(module, types->kernel);

    return libbpf_get_error(btf) ? NULL : btf;
}

/* The module's BTF as the kernel has it. */
static int find_module_btf(const char *module)
{
    uint32_t id = 0;

    while (!bpf_btf_get_next_id(id, &id)) {
        char name[64] = "";
        struct bpf_btf_info info = {.name = (uintptr_t)name, .name_len = sizeof(name)};
        uint32_t size = sizeof(info);
        int fd = bpf_btf_get_fd_by_id(id);

        if (fd < 0)
            continue;
        if (!bpf_obj_get_info_by_fd(fd, &info, &size) && !strcmp(name, module))
            return fd;
        close(fd);
    }
    return -ENOENT;
}

/* Finds the kernel's description of itself, and in it what the ledger needs. */
static int types_find(LedgerReport *report, Types *types)
{
    types->kernel = btf__load_vmlinux_btf();
    if (libbpf_get_error(types->kernel)) {
        types->kernel = NULL;
        return unavailable(report, "The kernel has no BTF (/sys/kernel/btf/vmlinux): it must be "
                                   "built with CONFIG_DEBUG_INFO_BTF.");
    }
    types->vfio = load_module_btf(types, "vfio");
    types->iommufd = load_module_btf(types, "iommufd");
    if (types->iommufd)
        types->iommufd_fd = find_module_btf("iommufd");
    if (!types_have(types, "iommufd_fops_ioctl"))
        return unavailable(report,
                           "iommufd is not there, or has no BTF: load it with 'modprobe iommufd' "
                           "(and build it with CONFIG_DEBUG_INFO_BTF_MODULES) before iommud "
                           "starts.");
    for (size_t i = 0; i < G_N_ELEMENTS(needed); i++)
        if (!types_fit(types, needed[i].names, needed[i].parameters))
            return unavailable(report,
                               "The kernel's iommufd has no function %s that BPF could attach to: "
                               "it is older than 6.12, or built differently.",
                               needed[i].names[0]);
    if (!types_have_vfio(types))
        return unavailable(report, "vfio is not there, or has no BTF: load it with 'modprobe "
                                   "vfio-pci' (and build it with CONFIG_DEBUG_INFO_BTF_MODULES) "
                                   "before iommud starts.");
    return 0;
}

/* Whether a BPF program may return in the function's place: found out by loading one that could. */
static bool may_refuse(const Types *types, const char *function)
{
    const struct bpf_insn nothing[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0},
        {.code = BPF_JMP | BPF_EXIT},
    };
    int id = btf__find_by_name_kind(types->iommufd ? types->iommufd : types->kernel, function,
                                    BTF_KIND_FUNC);
    LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = BPF_MODIFY_RETURN,
                .attach_btf_id = id, .attach_btf_obj_fd = types->iommufd ? types->iommufd_fd : 0);
    int fd;

    if (id <= 0)
        return false;
    fd = bpf_prog_load(BPF_PROG_TYPE_TRACING, "may_refuse", "GPL", nothing, G_N_ELEMENTS(nothing),
                       &opts);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* *ret_list: the active LSMs, NULL where that can't be told. */
static bool lsm_has_bpf(char **ret_list)
{
    g_auto(GStrv) names = NULL;

    *ret_list = NULL;
    if (!g_file_get_contents("/sys/kernel/security/lsm", ret_list, NULL, NULL))
        return false;
    names = g_strsplit(g_strstrip(*ret_list), ",", -1);
    return g_strv_contains((const char *const *)names, "bpf");
}

/* Kprobes stand in for what only iommud's own iommufd has. */
static bool have_kprobes(void)
{
    return !access("/sys/bus/event_source/devices/kprobe/type", R_OK);
}

/* Whether a program fits: by the presence of what it attaches to, never by the kernel's version. */
static bool fits(const struct bpf_program *program, const Types *types, const LedgerReport *report,
                 bool lsm)
{
    const char *section = bpf_program__section_name(program), *name = bpf_program__name(program);
    const char *target = strchr(section, '/');

    if (g_str_has_prefix(name, "ledger_alone_") && report->guarding)
        return false;
    /* Asked about every capability on the host, and of no use where a point refuses before. */
    if (g_str_has_prefix(name, "guard_capable") && report->exact)
        return false;
    if (g_str_has_prefix(section, "fentry/") || g_str_has_prefix(section, "fexit/"))
        return types_have(types, target + 1);
    if (g_str_has_prefix(section, "lsm"))
        return report->guarding && lsm;
    if (g_str_has_prefix(section, "kprobe/"))
        return report->guarding && !report->exact && types_have(types, target + 1);
    if (g_str_has_prefix(name, "point_"))
        return report->exact && types_have(types, target + 1);
    if (g_str_has_prefix(section, "fmod_ret/"))
        return report->guarding && !lsm && types_have(types, target + 1);
    return true;
}

G_GNUC_PRINTF(2, 3)
static void no_guard(LedgerReport *report, const char *format, ...)
{
    va_list args;

    report->guarding = report->exact = false;
    va_start(args, format);
    vsnprintf(report->guard_reason, sizeof(report->guard_reason), format, args);
    va_end(args);
}

static void choose_programs(struct iommud_bpf *skeleton, const Types *types,
                            enum ledger_guard_mode guard, LedgerReport *report)
{
    g_autofree char *list = NULL;
    bool lsm = lsm_has_bpf(&list);
    struct bpf_program *program;

    report->guarding = true;
    report->exact = may_refuse(types, "iommud_guard_call");
    if (!guard)
        no_guard(report, "The guard is switched off by configuration (Guard=off).");
    else if (!lsm && !types_have(types, "security_file_ioctl"))
        no_guard(report,
                 "The BPF LSM is not enabled: add 'bpf' to lsm= on the kernel command line (now: "
                 "%s).",
                 list ? list : "none");
    else if (!report->exact && !have_kprobes())
        no_guard(report, "The kernel has no kprobes (CONFIG_KPROBE_EVENTS), and its iommufd is not "
                         "iommud's: install the modules of iommud-vfio.");
    bpf_object__for_each_program(program, skeleton->obj)
        bpf_program__set_autoload(program, fits(program, types, report, lsm));
    /* From 6.13 on it is a part of the two others, and may be there under its own name, too. */
    if (types_have(types, "iopt_alloc_user_pages"))
        bpf_program__set_autoload(skeleton->progs.ledger_pages_6_12, false);
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
    set_size(skeleton->maps.pages, options->max_pages);
    set_size(skeleton->maps.places, options->max_pages ? power_of_two(options->max_pages) : 0);
    set_size(skeleton->maps.owners, options->max_owners);
    set_size(skeleton->maps.processes, options->max_owners);
    set_size(skeleton->maps.books, options->max_owners ? 2 * options->max_owners : 0);
}

/* A version is what the programs are, how large their maps are, and whether they guard. */
char *ledger_version(const LedgerOptions *options)
{
    const uint32_t choices[] = {options->max_contexts, options->max_objects, options->max_pages,
                                options->max_owners, options->guard != LEDGER_GUARD_OFF};
    uint64_t hash = 0xcbf29ce484222325;
    const uint8_t *bytes;
    size_t size;

    bytes = iommud_bpf__elf_bytes(&size);
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3;
    for (size_t i = 0; i < G_N_ELEMENTS(choices); i++)
        hash = (hash ^ choices[i]) * 0x100000001b3;
    return g_strdup_printf("%s/v%d-%016" PRIx64, options->folder, LEDGER_LAYOUT, hash);
}

static int load_programs(struct iommud_bpf *skeleton, LedgerReport *report)
{
    int r = iommud_bpf__load(skeleton);

    if (r == -EPERM || r == -EACCES)
        return unavailable(report,
                           "The kernel does not let this process load BPF programs (%s): it needs "
                           "CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN.",
                           g_strerror(-r));
    if (r)
        return unavailable(report, "The kernel does not accept the BPF programs: %s.",
                           g_strerror(-r));
    return 0;
}

/* A descriptor of one's own, which outlives the skeleton's. */
static int copy_fd(int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

    return copy < 0 ? -errno : copy;
}

static int take_parts(Ledger *ledger, struct iommud_bpf *skeleton)
{
    struct bpf_object *object = skeleton->obj;
    struct bpf_link *link;
    int r;

    for (int i = 0; i < N_MAPS; i++) {
        const struct bpf_map *map = bpf_object__find_map_by_name(object, ledger_map_names[i]);

        r = ledger_map_open(copy_fd(bpf_map__fd(map)), &ledger->maps[i]);
        if (r)
            return r;
    }
    for (int i = 0; i < N_PROGRAMS; i++) {
        const struct bpf_program *program =
            bpf_object__find_program_by_name(object, ledger_program_names[i]);

        ledger->programs[i] = copy_fd(bpf_program__fd(program));
        if (ledger->programs[i] < 0)
            return ledger->programs[i];
    }
    link = bpf_program__attach_iter(skeleton->progs.walk_files, NULL);
    if (!link)
        return -errno;
    ledger->walk_files = copy_fd(bpf_link__fd(link));
    bpf_link__destroy(link);
    return ledger->walk_files < 0 ? ledger->walk_files : 0;
}

/* libbpf's own link of a kprobe stops it when it is freed, whoever else holds it. */
static int attach_kprobe(const struct bpf_program *program)
{
    struct perf_event_attr attr = {.size = sizeof(attr)};
    const char *function = strchr(bpf_program__section_name(program), '/') + 1;
    g_autofree char *type = NULL;
    autoclose int event = -EBADF;
    int link;

    if (!g_file_get_contents("/sys/bus/event_source/devices/kprobe/type", &type, NULL, NULL))
        return -ENOENT;
    attr.type = g_ascii_strtoull(type, NULL, 10);
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

    if (g_str_has_prefix(bpf_program__section_name(program), "kprobe/"))
        return attach_kprobe(program);
    link = bpf_program__attach(program);
    if (!link)
        return -errno;
    fd = copy_fd(bpf_link__fd(link));
    bpf_link__destroy(link);
    return fd;
}

/* The guard's programs follow the ledger's, without which they would check nothing but ids. */
static int attach(Ledger *ledger, struct iommud_bpf *skeleton, GPtrArray *names)
{
    static const char *const stages[] = {"ledger_", "point_", "probe_", "guard_"};
    struct bpf_program *program;

    for (size_t stage = 0; stage < G_N_ELEMENTS(stages); stage++) {
        bpf_object__for_each_program(program, skeleton->obj)
        {
            const char *name = bpf_program__name(program);
            int link, hook;

            if (!bpf_program__autoload(program) || !g_str_has_prefix(name, stages[stage]))
                continue;
            link = attach_one(program);
            if (link < 0)
                return unavailable(&ledger->report, "The BPF program %s can't be attached: %s.",
                                   name, g_strerror(-link));
            g_array_append_val(ledger->links, link);
            hook = copy_fd(bpf_program__fd(program));
            if (hook < 0)
                return hook;
            g_array_append_val(ledger->hooks, hook);
            g_ptr_array_add(names, g_strdup(name));
        }
    }
    return 0;
}

int ledger_remove_folder(const char *path)
{
    g_autoptr(GDir) folder = g_dir_open(path, 0, NULL);
    const char *name;
    int r = 0;

    if (!folder)
        return errno == ENOENT ? 0 : -errno;
    while ((name = g_dir_read_name(folder))) {
        g_autofree char *child = g_build_filename(path, name, NULL);

        if (g_file_test(child, G_FILE_TEST_IS_DIR) ? ledger_remove_folder(child) : unlink(child))
            r = -errno;
    }
    return rmdir(path) ? -errno : r;
}

static int pin_as(int fd, const char *folder, const char *kind, const char *name)
{
    g_autofree char *path = g_build_filename(folder, kind, name, NULL);

    return bpf_obj_pin(fd, path) ? -errno : 0;
}

static int pin_all(const Ledger *ledger, const GPtrArray *names, const char *folder)
{
    int r = pin_as(ledger->walk_files, folder, "programs", "walk_files");

    for (int i = 0; !r && i < N_MAPS; i++)
        r = pin_as(ledger->maps[i].fd, folder, "maps", ledger_map_names[i]);
    for (int i = 0; !r && i < N_PROGRAMS; i++)
        r = pin_as(ledger->programs[i], folder, "programs", ledger_program_names[i]);
    for (guint i = 0; !r && i < names->len; i++) {
        r = pin_as(g_array_index(ledger->hooks, int, i), folder, "hooks", names->pdata[i]);
        if (!r)
            r = pin_as(g_array_index(ledger->links, int, i), folder, "links", names->pdata[i]);
    }
    return r;
}

/* In a folder that gets its name when it is whole, so that nobody takes over half of it. */
static int pin(Ledger *ledger, const GPtrArray *names, const LedgerOptions *options)
{
    static const char *const kinds[] = {"maps", "programs", "hooks", "links"};
    g_autofree char *building = g_build_filename(options->folder, "building", NULL);
    g_autofree char *version = ledger_version(options);
    int r = ledger_remove_folder(building);

    if (r)
        return r;
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autofree char *folder = g_build_filename(building, kinds[i], NULL);

        if (g_mkdir_with_parents(folder, 0700))
            return -errno;
    }
    r = pin_all(ledger, names, building);
    if (!r && rename(building, version))
        r = -errno;
    return r;
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

int ledger_configure(Ledger *ledger, const LedgerOptions *options)
{
    struct ledger_config config = {
        .guard = ledger->report.guarding ? options->guard : LEDGER_GUARD_OFF,
        .flags = options->flags | (ledger->report.exact ? LEDGER_CONFIG_EXACT : 0),
        .vfio_major = vfio_major(),
        .max_pages = ledger->maps[MAP_PAGES].max_entries,
        .max_objects = ledger->maps[MAP_OBJECTS].max_entries,
        .places = ledger->maps[MAP_PLACES].max_entries,
    };
    const uint32_t zero = 0;
    struct stat st;

    if (!stat("/dev/iommu", &st))
        config.iommu_rdev = kernel_rdev(st.st_rdev);
    return ledger_put(ledger, MAP_CONFIG, &zero, &config);
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
        return unavailable(report, "%s can't be made (%s): a bpffs must be mounted at /sys/fs/bpf.",
                           folder, g_strerror(errno));
    return 0;
}

static int load_skeleton(Ledger *ledger, struct iommud_bpf *skeleton, const Types *types,
                         const LedgerOptions *options, GPtrArray *names)
{
    int r;

    set_sizes(skeleton, options);
    choose_programs(skeleton, types, options->guard, &ledger->report);
    r = load_programs(skeleton, &ledger->report);
    if (!r)
        r = take_parts(ledger, skeleton);
    if (!r)
        r = ledger_configure(ledger, options);
    if (!r && options->folder)
        r = ledger_adopt(ledger, options);
    return r ? r : attach(ledger, skeleton, names);
}

static int load(Ledger *ledger, const LedgerOptions *options, GPtrArray *names)
{
    g_auto(Types) types = {.iommufd_fd = -EBADF};
    struct iommud_bpf *skeleton;
    const uint32_t zero = 0;
    int r;

    libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
    libbpf_set_print(keep_quiet);
    if (is_locked_down())
        return unavailable(&ledger->report,
                           "The kernel is locked down against reading its memory: start it without "
                           "lockdown=confidentiality (lockdown=integrity is enough for Secure "
                           "Boot).");
    r = types_find(&ledger->report, &types);
    if (!r && options->folder)
        r = prepare_folder(&ledger->report, options->folder);
    if (r)
        return r;
    skeleton = iommud_bpf__open();
    if (!skeleton)
        return -errno;
    r = load_skeleton(ledger, skeleton, &types, options, names);
    iommud_bpf__destroy(skeleton);
    if (r)
        return r;
    ledger->report.active = true;
    return ledger_put(ledger, MAP_LOADED, &zero, &ledger->report);
}

int ledger_load_here(Ledger *ledger, const LedgerOptions *options)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

    return load(ledger, options, names);
}

int ledger_load(const LedgerOptions *options, LedgerReport *ret_report)
{
    g_autofree char *version = ledger_version(options);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    Ledger *ledger = ledger_alloc();
    int r;

    if (g_file_test(version, G_FILE_TEST_IS_DIR))
        r = ledger_take_over(ledger, version);
    else if (!(r = load(ledger, options, names)))
        r = pin(ledger, names, options);
    if (r && r != -ENOMEM)
        ledger_explain(ledger, r);
    *ret_report = ledger->report;
    ledger_free(ledger);
    return r == -ENOMEM ? r : 0;
}
