/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Loading: what the kernel offers, which programs fit it, and how they outlive their loader. */
#include "kernel/ledger-internal.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "kernel/cleanup.h"
#include "kernel/process.h"

/* The folder of one version's programs, in which `maps` and `links` are. */
#define VERSION_FOLDER "%s/v%d-%016" PRIx64

/* Functions of which the ledger needs one each; the alternatives are names of other versions. */
static const char *const needed[][2] = {
    {"iommufd_fops_open", NULL},
    {"iommufd_fops_release", NULL},
    {"iommufd_fops_ioctl", NULL},
    {"_iommufd_object_alloc", NULL},
    {"iommufd_object_remove", NULL},
    {"iommufd_get_object", NULL},
    {"iopt_alloc_user_pages", "iopt_alloc_pages"},
    {"iopt_release_pages", NULL},
    {"iopt_pages_update_pinned", "do_update_pinned"},
};

G_GNUC_PRINTF(2, 0)
static int keep_quiet(enum libbpf_print_level level, const char *format, va_list args)
{
    return 0;
}

G_GNUC_PRINTF(3, 4)
static int unavailable(char *reason, size_t size, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(reason, size, format, args);
    va_end(args);
    return -EOPNOTSUPP;
}

#define LEDGER_UNAVAILABLE(l, ...) unavailable((l)->reason, sizeof((l)->reason), __VA_ARGS__)
#define GUARD_UNAVAILABLE(l, ...)                                                                  \
    unavailable((l)->guard_reason, sizeof((l)->guard_reason), __VA_ARGS__)

typedef struct {
    struct btf *kernel;
    struct btf *iommufd; /* NULL: it is built in */
    int iommufd_fd;      /* the kernel's own copy of it */
} Types;

static void types_clear(Types *types)
{
    close_fd(types->iommufd_fd);
    btf__free(types->iommufd);
    btf__free(types->kernel);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Types, types_clear)

static bool types_have(const Types *types, const char *function)
{
    return btf__find_by_name_kind(types->kernel, function, BTF_KIND_FUNC) > 0 ||
           (types->iommufd && btf__find_by_name_kind(types->iommufd, function, BTF_KIND_FUNC) > 0);
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
static int types_find(Ledger *ledger, Types *types)
{
    types->kernel = btf__load_vmlinux_btf();
    if (libbpf_get_error(types->kernel)) {
        types->kernel = NULL;
        return LEDGER_UNAVAILABLE(ledger, "The kernel has no BTF (/sys/kernel/btf/vmlinux): it "
                                          "must be built with CONFIG_DEBUG_INFO_BTF.");
    }
    types->iommufd = btf__load_module_btf("iommufd", types->kernel);
    if (libbpf_get_error(types->iommufd))
        types->iommufd = NULL;
    else
        types->iommufd_fd = find_module_btf("iommufd");
    if (!types_have(types, "iommufd_fops_ioctl"))
        return LEDGER_UNAVAILABLE(
            ledger, "iommufd is not there, or has no BTF: load it with 'modprobe iommufd' (and "
                    "build it with CONFIG_DEBUG_INFO_BTF_MODULES) before iommud starts.");
    for (size_t i = 0; i < G_N_ELEMENTS(needed); i++)
        if (!types_have(types, needed[i][0]) && !(needed[i][1] && types_have(types, needed[i][1])))
            return LEDGER_UNAVAILABLE(ledger,
                                      "The kernel's iommufd has no function %s that BPF could "
                                      "attach to: it is older than 6.12, or built differently.",
                                      needed[i][0]);
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

static bool lsm_has_bpf(void)
{
    g_autofree char *list = NULL;
    g_auto(GStrv) names = NULL;

    if (!g_file_get_contents("/sys/kernel/security/lsm", &list, NULL, NULL))
        return false;
    names = g_strsplit(g_strstrip(list), ",", -1);
    return g_strv_contains((const char *const *)names, "bpf");
}

/* Which programs fit: by the presence of what they attach to, never by the kernel's version. */
static int choose_programs(Ledger *ledger, const Types *types, enum ledger_guard_mode guard,
                           bool taken_over)
{
    struct bpf_object *object = ledger->skeleton->obj;
    bool lsm = lsm_has_bpf();
    bool fallback = !lsm && types_have(types, "security_file_ioctl");
    struct bpf_program *program;

    bpf_object__for_each_program(program, object)
    {
        const char *section = bpf_program__section_name(program);
        const char *target = strchr(section, '/');
        bool load = true;

        if (g_str_has_prefix(section, "fentry/") || g_str_has_prefix(section, "fexit/"))
            load = types_have(types, target + 1) && !taken_over;
        else if (g_str_has_prefix(section, "tp_btf/"))
            load = !taken_over;
        else if (g_str_has_prefix(section, "lsm"))
            load = guard && lsm && !taken_over;
        else if (g_str_has_prefix(bpf_program__name(program), "point_"))
            load = guard && (lsm || fallback) && !taken_over && may_refuse(types, target + 1);
        else if (g_str_has_prefix(section, "fmod_ret/"))
            load = guard && fallback && types_have(types, target + 1) && !taken_over;
        bpf_program__set_autoload(program, load);
    }
    /* From 6.13 on it is a part of the two others, and may be there under its own name, too. */
    if (types_have(types, "iopt_alloc_user_pages"))
        bpf_program__set_autoload(ledger->skeleton->progs.ledger_pages_6_12, false);
    if (!guard)
        GUARD_UNAVAILABLE(ledger, "The guard is switched off by configuration (Guard=off).");
    else if (!lsm && !fallback)
        GUARD_UNAVAILABLE(ledger, "The BPF LSM is not enabled: add 'bpf' to lsm= on the kernel "
                                  "command line (now: /sys/kernel/security/lsm).");
    else
        ledger->guarding = true;
    ledger->exact = ledger->guarding && may_refuse(types, "iommufd_get_object");
    return 0;
}

static void set_size(struct bpf_map *map, uint32_t entries)
{
    if (entries)
        bpf_map__set_max_entries(map, entries);
}

static void set_sizes(Ledger *ledger, const LedgerOptions *options)
{
    set_size(ledger->skeleton->maps.contexts, options->max_contexts);
    set_size(ledger->skeleton->maps.objects, options->max_objects);
    set_size(ledger->skeleton->maps.pages, options->max_pages);
    set_size(ledger->skeleton->maps.owners, options->max_owners);
    set_size(ledger->skeleton->maps.processes, options->max_owners);
    set_size(ledger->skeleton->maps.books, options->max_owners ? 2 * options->max_owners : 0);
}

/* A version is what the programs are, how large their maps are, and whether they guard. */
static char *version_folder(const Ledger *ledger, const LedgerOptions *options)
{
    uint64_t hash = 0xcbf29ce484222325;
    const struct bpf_map *map;
    const uint8_t *bytes;
    size_t size;

    bytes = iommud_bpf__elf_bytes(&size);
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3;
    bpf_object__for_each_map(map, ledger->skeleton->obj) hash =
        (hash ^ bpf_map__max_entries(map)) * 0x100000001b3;
    hash = (hash ^ (options->guard != LEDGER_GUARD_OFF)) * 0x100000001b3;
    return g_strdup_printf(VERSION_FOLDER, options->folder, LEDGER_LAYOUT, hash);
}

/* Maps of the programs themselves (constants) are each loader's own, and so are the walk's rows. */
static bool is_shared(const Ledger *ledger, const struct bpf_map *map)
{
    return !bpf_map__is_internal(map) && map != ledger->skeleton->maps.rows;
}

static int set_pin_paths(Ledger *ledger, const char *folder)
{
    struct bpf_map *map;
    int r;

    bpf_object__for_each_map(map, ledger->skeleton->obj)
    {
        g_autofree char *path = g_strdup_printf("%s/maps/%s", folder, bpf_map__name(map));

        if (!is_shared(ledger, map))
            continue;
        r = bpf_map__set_pin_path(map, path);
        if (r)
            return r;
    }
    return 0;
}

static int load(Ledger *ledger)
{
    int r = iommud_bpf__load(ledger->skeleton);

    if (r == -EPERM || r == -EACCES)
        return LEDGER_UNAVAILABLE(ledger,
                                  "The kernel does not let this process load BPF programs "
                                  "(%s): it needs CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN, "
                                  "and no lockdown=confidentiality.",
                                  g_strerror(-r));
    if (r)
        return LEDGER_UNAVAILABLE(ledger, "The kernel does not accept the BPF programs: %s.",
                                  g_strerror(-r));
    return 0;
}

/* The guard's programs follow the ledger's, without which they would check nothing but ids. */
static int attach(Ledger *ledger)
{
    static const char *const stages[] = {"ledger_", "point_", "guard_"};
    struct bpf_object *object = ledger->skeleton->obj;
    struct bpf_program *program;

    for (size_t stage = 0; stage < G_N_ELEMENTS(stages); stage++) {
        bpf_object__for_each_program(program, object)
        {
            const char *name = bpf_program__name(program);
            struct bpf_link *link;

            if (!bpf_program__autoload(program) || !g_str_has_prefix(name, stages[stage]))
                continue;
            link = bpf_program__attach(program);
            if (!link)
                return LEDGER_UNAVAILABLE(ledger, "The BPF program %s can't be attached: %s.", name,
                                          g_strerror(errno));
            ledger->links[ledger->n_links++] = link;
        }
    }
    return 0;
}

static int remove_folder(const char *path)
{
    g_autoptr(GDir) folder = g_dir_open(path, 0, NULL);
    const char *name;
    int r = 0;

    if (!folder)
        return errno == ENOENT ? 0 : -errno;
    while ((name = g_dir_read_name(folder))) {
        g_autofree char *child = g_build_filename(path, name, NULL);

        if (g_file_test(child, G_FILE_TEST_IS_DIR) ? remove_folder(child) : unlink(child))
            r = -errno;
    }
    return rmdir(path) ? -errno : r;
}

/* Pins the links in a folder that gets its name when it is whole, so that nobody takes over half
 * of it. The maps are pinned by libbpf, as they are created. */
static int pin(Ledger *ledger, const char *folder)
{
    g_autofree char *links = g_strdup_printf("%s/links", folder);
    g_autofree char *building = g_strdup_printf("%s/building", folder);
    int r;

    r = remove_folder(building);
    if (r)
        return r;
    if (mkdir(building, 0700))
        return -errno;
    for (size_t i = 0; i < ledger->n_links; i++) {
        g_autofree char *path = g_strdup_printf("%s/%zu", building, i);

        r = bpf_link__pin(ledger->links[i], path);
        if (r)
            return r;
    }
    return rename(building, links) ? -errno : 0;
}

/* The versions before this one: with their links they end. */
static int remove_others(const char *folder, const char *current)
{
    g_autoptr(GDir) versions = g_dir_open(folder, 0, NULL);
    const char *name;
    int r = 0;

    while (versions && (name = g_dir_read_name(versions))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);

        if (strcmp(path, current) && remove_folder(path))
            r = -EIO;
    }
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

static int configure(Ledger *ledger, const LedgerOptions *options)
{
    struct ledger_config config = {
        .guard = ledger->guarding ? options->guard : LEDGER_GUARD_OFF,
        .flags = options->flags,
        .vfio_major = vfio_major(),
        .max_pages = bpf_map__max_entries(ledger->skeleton->maps.pages),
    };
    struct stat st;
    uint32_t zero = 0;

    if (!stat("/dev/iommu", &st))
        config.iommu_rdev = kernel_rdev(st.st_rdev);
    if (bpf_map_update_elem(bpf_map__fd(ledger->skeleton->maps.config), &zero, &config, 0))
        return -errno;
    return 0;
}

static int on_event(void *data, void *bytes, size_t size)
{
    Ledger *ledger = data;

    if (ledger->handler && size >= sizeof(struct ledger_event))
        ledger->handler(bytes, ledger->handler_data);
    return 0;
}

/* What every loader has for itself, whoever loaded the programs. */
static int open_channels(Ledger *ledger)
{
    size_t size = sizeof(struct ledger_row) * LEDGER_WALK_ROWS;
    uint64_t start;
    void *rows;
    int r;

    ledger->events =
        ring_buffer__new(bpf_map__fd(ledger->skeleton->maps.events), on_event, ledger, NULL);
    if (!ledger->events)
        return -errno;
    rows = mmap(NULL, size, PROT_READ, MAP_SHARED, bpf_map__fd(ledger->skeleton->maps.rows), 0);
    if (rows == MAP_FAILED)
        return -errno;
    ledger->rows = rows;
    r = process_start_time(getpid(), &start);
    return r ? r : ledger_trust_process(ledger, getpid(), start, LEDGER_ROLE_SERVICE);
}

static int start(Ledger *ledger, const LedgerOptions *options)
{
    g_auto(Types) types = {.iommufd_fd = -EBADF};
    g_autofree char *version = NULL, *links = NULL;
    int r;

    r = types_find(ledger, &types);
    if (r)
        return r;
    ledger->skeleton = iommud_bpf__open();
    if (!ledger->skeleton)
        return -errno;
    set_sizes(ledger, options);
    if (options->folder) {
        version = version_folder(ledger, options);
        links = g_strdup_printf("%s/links", version);
        ledger->taken_over = g_file_test(links, G_FILE_TEST_IS_DIR);
        /* What an earlier loader left half done. */
        if (!ledger->taken_over && (r = remove_folder(version)))
            return r;
        r = set_pin_paths(ledger, version);
        if (r)
            return r;
        if (g_mkdir_with_parents(version, 0700))
            return LEDGER_UNAVAILABLE(ledger,
                                      "%s can't be made (%s): a bpffs must be mounted at "
                                      "/sys/fs/bpf.",
                                      version, g_strerror(errno));
    }
    choose_programs(ledger, &types, options->guard, ledger->taken_over);
    r = load(ledger);
    if (!r)
        r = configure(ledger, options);
    if (!r)
        r = open_channels(ledger);
    if (r)
        return r;
    if (!ledger->taken_over) {
        struct bpf_program *program;
        size_t n = 0;

        bpf_object__for_each_program(program, ledger->skeleton->obj) n++;
        ledger->links = g_new0(struct bpf_link *, n);
        r = attach(ledger);
        if (r)
            return r;
    }
    ledger->active = true;
    r = ledger_reconcile(ledger, NULL, NULL, NULL);
    if (!r && options->folder) {
        if (!ledger->taken_over)
            r = pin(ledger, version);
        ledger->folder = g_strdup(options->folder);
        ledger->version = g_steal_pointer(&version);
    }
    return r;
}

int ledger_new(const LedgerOptions *options, Ledger **ret_ledger)
{
    Ledger *ledger = g_new0(Ledger, 1);
    int r;

    libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
    libbpf_set_print(keep_quiet);
    r = start(ledger, options);
    if (r == -ENOMEM) {
        ledger_free(ledger);
        return r;
    }
    if (r) {
        if (!*ledger->reason)
            LEDGER_UNAVAILABLE(ledger, "The ledger can't be started: %s.", g_strerror(-r));
        ledger->active = ledger->guarding = false;
    }
    if (!ledger->active && !*ledger->guard_reason)
        GUARD_UNAVAILABLE(ledger, "%s", ledger->reason);
    *ret_ledger = ledger;
    return 0;
}

int ledger_commit(Ledger *ledger)
{
    int r;

    if (!ledger->active)
        return -EOPNOTSUPP;
    r = ledger_reconcile(ledger, NULL, NULL, NULL);
    return r || !ledger->folder ? r : remove_others(ledger->folder, ledger->version);
}

void ledger_free(Ledger *ledger)
{
    if (!ledger)
        return;
    if (ledger->rows)
        munmap((void *)ledger->rows, sizeof(struct ledger_row) * LEDGER_WALK_ROWS);
    ring_buffer__free(ledger->events);
    for (size_t i = 0; i < ledger->n_links; i++)
        bpf_link__destroy(ledger->links[i]);
    g_free(ledger->links);
    g_free(ledger->folder);
    g_free(ledger->version);
    iommud_bpf__destroy(ledger->skeleton);
    g_free(ledger);
}

int ledger_unload(const char *folder)
{
    return remove_folder(folder);
}

bool ledger_is_active(const Ledger *ledger)
{
    return ledger->active;
}

bool ledger_guard_is_active(const Ledger *ledger)
{
    return ledger->active && ledger->guarding;
}

bool ledger_guard_is_exact(const Ledger *ledger)
{
    return ledger_guard_is_active(ledger) && ledger->exact;
}

const char *ledger_reason(const Ledger *ledger)
{
    return ledger->reason;
}

const char *ledger_guard_reason(const Ledger *ledger)
{
    return ledger->guard_reason;
}

bool ledger_was_taken_over(const Ledger *ledger)
{
    return ledger->taken_over;
}

int ledger_event_fd(const Ledger *ledger)
{
    return ledger->active ? ring_buffer__epoll_fd(ledger->events) : -EOPNOTSUPP;
}

int ledger_dispatch(Ledger *ledger, LedgerEventHandler handler, void *data)
{
    int r;

    if (!ledger->active)
        return -EOPNOTSUPP;
    ledger->handler = handler;
    ledger->handler_data = data;
    r = ring_buffer__consume(ledger->events);
    ledger->handler = NULL;
    return r < 0 ? r : 0;
}
