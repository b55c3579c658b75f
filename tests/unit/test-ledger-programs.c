/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of programs against the programs that there are, and which of them are loaded where. */
#include "kernel/ledger/programs.h"

#include <glib.h>
#include <string.h>

#include "iommud.skel.h"

static const char *function_of(const struct bpf_program *program)
{
    const char *slash = strchr(bpf_program__section_name(program), '/');

    return slash ? slash + 1 : "";
}

static void test_table_is_whole(void)
{
    struct iommud_bpf *skeleton = iommud_bpf__open();
    struct bpf_program *program;
    size_t n = 0;

    g_assert_nonnull(skeleton);
    bpf_object__for_each_program(program, skeleton->obj)
    {
        g_test_message("%s", bpf_program__name(program));
        g_assert_nonnull(program_find(bpf_program__name(program)));
        n++;
    }
    /* Nor is there one in the table that there is not. */
    g_assert_cmpuint(n, ==, n_programs);
    iommud_bpf__destroy(skeleton);
}

/* A kernel: what its iommufd lacks, and what there is of the guard. */
typedef struct {
    const char *what;
    const char *const *lacks;
    ProgramNeeds needs;
    unsigned counts[N_PROGRAM_KINDS];
    const char *wanted;   /* some of them, */
    const char *unwanted; /* and some that are not */
} Kernel;

static bool have(const void *lacks, const char *function)
{
    return !g_strv_contains((const char *const *)lacks, function);
}

static void check_names(const GHashTable *chosen, const char *names, bool wanted)
{
    g_auto(GStrv) list = g_strsplit(names, " ", -1);

    for (char **name = list; *name; name++) {
        g_test_message("%s", *name);
        g_assert_nonnull(program_find(*name));
        g_assert_cmpint(g_hash_table_contains((GHashTable *)chosen, *name), ==, wanted);
    }
}

static void test_choice(void)
{
    static const char *const new_kernel[] = {"do_update_pinned", NULL};
    static const char *const old_kernel[] = {"iopt_alloc_user_pages",
                                             "iopt_alloc_file_pages",
                                             "iopt_pages_update_pinned",
                                             "iopt_map_file_pages",
                                             "iommufd_ioas_map_file",
                                             "iommufd_ioas_change_process",
                                             NULL};
    static const Kernel kernels[] = {
        {"7.2 with iommud's modules",
         new_kernel,
         {.guard = true, .hooks = true, .lsm = true},
         {[PROGRAM_HOOK] = 6, [PROGRAM_LSM] = 7},
         "ledger_open ledger_pinned guard_file_ioctl hook_pages control_register walk_files "
         "ledger_birth",
         "ledger_object ledger_ioctl_done ledger_user_pages guard_capable probe_map_user "
         "ledger_map_user ledger_pages_6_12 ledger_pinned_6_12 guard_file_ioctl_no_lsm"},
        {"7.2 with a distribution's iommufd",
         new_kernel,
         {.guard = true, .lsm = true},
         {[PROGRAM_PROBE] = 7, [PROGRAM_LSM] = 8},
         "ledger_object ledger_ioctl_done ledger_user_pages guard_capable probe_map_user",
         "hook_pages ledger_map_user ledger_pages_6_12"},
        {"7.2 without the BPF LSM",
         new_kernel,
         {.guard = true, .hooks = true},
         {[PROGRAM_HOOK] = 6, [PROGRAM_NO_LSM] = 7},
         "guard_file_ioctl_no_lsm guard_mmap_file_no_lsm",
         "guard_file_ioctl guard_capable_no_lsm"},
        {"7.2 without the guard",
         new_kernel,
         {.lsm = true},
         {0},
         "ledger_object ledger_ioctl_done ledger_map_user ledger_map_file control_set_range",
         "guard_file_ioctl hook_pages probe_map_user"},
        {"6.12 with a distribution's iommufd",
         old_kernel,
         {.guard = true, .lsm = true},
         {[PROGRAM_PROBE] = 5, [PROGRAM_LSM] = 8},
         "ledger_pages_6_12 ledger_pinned_6_12 ledger_fork ledger_exit",
         "ledger_user_pages ledger_file_pages ledger_pinned ledger_change_process "
         "probe_map_file probe_change_process"},
    };
    struct iommud_bpf *skeleton = iommud_bpf__open();

    for (size_t i = 0; i < G_N_ELEMENTS(kernels); i++) {
        g_autoptr(GHashTable) chosen = g_hash_table_new(g_str_hash, g_str_equal);
        unsigned counts[N_PROGRAM_KINDS] = {0};
        struct bpf_program *program;

        g_test_message("%s", kernels[i].what);
        bpf_object__for_each_program(program, skeleton->obj)
        {
            const Program *entry = program_find(bpf_program__name(program));

            if (!program_is_wanted(entry, function_of(program), &kernels[i].needs, have,
                                   kernels[i].lacks))
                continue;
            g_hash_table_add(chosen, (char *)entry->name);
            counts[entry->kind]++;
        }
        for (ProgramKind kind = PROGRAM_HOOK; kind < PROGRAM_CONTROL; kind++)
            g_assert_cmpuint(counts[kind], ==, kernels[i].counts[kind]);
        check_names(chosen, kernels[i].wanted, true);
        check_names(chosen, kernels[i].unwanted, false);
    }
    iommud_bpf__destroy(skeleton);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ledger/programs/table-is-whole", test_table_is_whole);
    g_test_add_func("/ledger/programs/choice", test_choice);
    return g_test_run();
}
