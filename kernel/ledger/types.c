/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the running kernel offers, by its own description and by trying: never by its version. */
#include "kernel/ledger/types.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernel/base/cleanup.h"

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

int ledger_unavailable(LedgerReport *report, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(report->reason, sizeof(report->reason), format, args);
    va_end(args);
    return -EOPNOTSUPP;
}

void types_clear(Types *types)
{
    close_fd(types->iommufd_fd);
    btf__free(types->vfio);
    btf__free(types->iommufd);
    btf__free(types->kernel);
}

/* The function's prototype, wherever it is. NULL: it is not there. */
static const struct btf_type *find_function(const Types *types, const char *function)
{
    const struct btf *btfs[] = {types->iommufd, types->kernel};

    for (size_t i = 0; i < G_N_ELEMENTS(btfs); i++) {
        int id = btfs[i] ? btf__find_by_name_kind(btfs[i], function, BTF_KIND_FUNC) : 0;

        if (id > 0)
            return btf__type_by_id(btfs[i], btf__type_by_id(btfs[i], id)->type);
    }
    return NULL;
}

bool types_have(const Types *types, const char *function)
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

int types_find(LedgerReport *report, Types *types)
{
    types->kernel = btf__load_vmlinux_btf();
    if (libbpf_get_error(types->kernel)) {
        types->kernel = NULL;
        return ledger_unavailable(report,
                                  "The kernel has no BTF (/sys/kernel/btf/vmlinux): it must be "
                                  "built with CONFIG_DEBUG_INFO_BTF.");
    }
    types->vfio = load_module_btf(types, "vfio");
    types->iommufd = load_module_btf(types, "iommufd");
    if (types->iommufd)
        types->iommufd_fd = find_module_btf("iommufd");
    if (!types_have(types, "iommufd_fops_ioctl"))
        return ledger_unavailable(
            report, "iommufd is not there, or has no BTF: load it with 'modprobe iommufd' "
                    "(and build it with CONFIG_DEBUG_INFO_BTF_MODULES) before iommud "
                    "starts.");
    for (size_t i = 0; i < G_N_ELEMENTS(needed); i++)
        if (!types_fit(types, needed[i].names, needed[i].parameters))
            return ledger_unavailable(
                report,
                "The kernel's iommufd has no function %s that BPF could attach to: "
                "it is older than 6.12, or built differently.",
                needed[i].names[0]);
    if (!types_have_vfio(types))
        return ledger_unavailable(report,
                                  "vfio is not there, or has no BTF: load it with 'modprobe "
                                  "vfio-pci' (and build it with CONFIG_DEBUG_INFO_BTF_MODULES) "
                                  "before iommud starts.");
    return 0;
}

bool types_may_refuse(const Types *types, const char *function)
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

bool lsm_has_bpf(char **ret_list)
{
    g_auto(GStrv) names = NULL;

    *ret_list = NULL;
    if (!g_file_get_contents("/sys/kernel/security/lsm", ret_list, NULL, NULL))
        return false;
    names = g_strsplit(g_strstrip(*ret_list), ",", -1);
    return g_strv_contains((const char *const *)names, "bpf");
}

bool have_kprobes(void)
{
    return !access("/sys/bus/event_source/devices/kprobe/type", R_OK);
}
