/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kernel/ledger/programs.h"

#include <glib.h>
#include <string.h>

const Program programs[] = {
    {"ledger_open", PROGRAM_LEDGER},
    {"ledger_release", PROGRAM_LEDGER},
    {"ledger_ioctl_done", PROGRAM_LEDGER, .not_with_hooks = true},
    {"ledger_change_process", PROGRAM_LEDGER},
    {"ledger_process_changed", PROGRAM_LEDGER},
    {"ledger_map_user", PROGRAM_LEDGER, .not_with_guard = true},
    {"ledger_map_file", PROGRAM_LEDGER, .not_with_guard = true},
    {"ledger_object", PROGRAM_LEDGER, .not_with_hooks = true},
    {"ledger_object_abort", PROGRAM_LEDGER, .not_with_hooks = true},
    {"ledger_object_abort_2", PROGRAM_LEDGER, .not_with_hooks = true},
    {"ledger_object_remove", PROGRAM_LEDGER, .not_with_hooks = true},
    {"ledger_object_removed", PROGRAM_LEDGER, .not_with_hooks = true},
    {"ledger_user_pages", PROGRAM_LEDGER, .not_with_hooks = true},
    {"ledger_file_pages", PROGRAM_LEDGER, .not_with_hooks = true},
    /* From 6.13 on it is a part of the two others, and may be there under its own name, too. */
    {"ledger_pages_6_12", PROGRAM_LEDGER, .not_with_hooks = true,
     .not_with = "iopt_alloc_user_pages"},
    {"ledger_release_pages", PROGRAM_LEDGER},
    {"ledger_pinned", PROGRAM_LEDGER},
    {"ledger_pinned_6_12", PROGRAM_LEDGER},
    {"ledger_fork", PROGRAM_LEDGER, .tracepoint = true},
    {"ledger_exit", PROGRAM_LEDGER, .tracepoint = true},
    {"ledger_birth", PROGRAM_LSM},
    {"ledger_birth_no_lsm", PROGRAM_NO_LSM},
    {"hook_call", PROGRAM_HOOK},
    {"hook_object", PROGRAM_HOOK},
    {"hook_made", PROGRAM_HOOK},
    {"hook_gone", PROGRAM_HOOK},
    {"hook_bind", PROGRAM_HOOK},
    {"hook_pages", PROGRAM_HOOK},
    {"probe_get_object", PROGRAM_PROBE},
    {"probe_got_object", PROGRAM_PROBE},
    {"probe_object_remove", PROGRAM_PROBE},
    {"probe_device_bind", PROGRAM_PROBE},
    {"probe_map_user", PROGRAM_PROBE},
    {"probe_map_file", PROGRAM_PROBE},
    {"probe_change_process", PROGRAM_PROBE},
    {"guard_file_ioctl", PROGRAM_LSM},
    {"guard_file_ioctl_compat", PROGRAM_LSM},
    {"guard_file_receive", PROGRAM_LSM},
    {"guard_mmap_file", PROGRAM_LSM},
    {"guard_file_open", PROGRAM_LSM},
    {"guard_capable", PROGRAM_LSM, .not_with_hooks = true},
    {"guard_task_setrlimit", PROGRAM_LSM},
    {"guard_file_ioctl_no_lsm", PROGRAM_NO_LSM},
    {"guard_file_ioctl_compat_no_lsm", PROGRAM_NO_LSM},
    {"guard_file_receive_no_lsm", PROGRAM_NO_LSM},
    {"guard_mmap_file_no_lsm", PROGRAM_NO_LSM},
    {"guard_file_open_no_lsm", PROGRAM_NO_LSM},
    {"guard_task_setrlimit_no_lsm", PROGRAM_NO_LSM},
    {"guard_capable_no_lsm", PROGRAM_NO_LSM, .not_with_hooks = true},
    {"control_register", PROGRAM_CONTROL},
    {"control_name_process", PROGRAM_CONTROL},
    {"control_admit_device", PROGRAM_CONTROL},
    {"control_dismiss_device", PROGRAM_CONTROL},
    {"control_set_limit", PROGRAM_CONTROL},
    {"control_set_budget", PROGRAM_CONTROL},
    {"control_follow_limit", PROGRAM_CONTROL},
    {"control_reserve_machine", PROGRAM_CONTROL},
    {"control_set_dedup_credit", PROGRAM_CONTROL},
    {"control_remove_machine", PROGRAM_CONTROL},
    {"control_set_range", PROGRAM_CONTROL},
    {"control_adopt_object", PROGRAM_CONTROL},
    {"control_remove_range", PROGRAM_CONTROL},
    {"control_remove_object", PROGRAM_CONTROL},
    {"control_remove_context", PROGRAM_CONTROL},
    {"control_close_account", PROGRAM_CONTROL},
    {"control_remove_process", PROGRAM_CONTROL},
    {"control_set_counts", PROGRAM_CONTROL},
    {"control_set_totals", PROGRAM_CONTROL},
    {"control_drop_unmatched", PROGRAM_CONTROL},
    {"control_leak_reservation", PROGRAM_CONTROL},
    {"walk_context", PROGRAM_CONTROL},
    {"walk_container", PROGRAM_CONTROL},
    {"walk_files", PROGRAM_CONTROL},
};
const size_t n_programs = G_N_ELEMENTS(programs);

const Program *program_find(const char *name)
{
    for (size_t i = 0; i < n_programs; i++)
        if (!strcmp(programs[i].name, name))
            return &programs[i];
    return NULL;
}

bool program_is_wanted(const Program *program, const char *function, const ProgramNeeds *needs,
                       bool (*have)(const void *data, const char *function), const void *data)
{
    if ((program->not_with_hooks && needs->hooks) || (program->not_with_guard && needs->guard) ||
        (program->not_with && have(data, program->not_with)))
        return false;
    switch (program->kind) {
    case PROGRAM_LEDGER:
        return program->tracepoint || have(data, function);
    case PROGRAM_HOOK:
        return needs->guard && needs->hooks;
    case PROGRAM_PROBE:
        return needs->guard && !needs->hooks && have(data, function);
    case PROGRAM_LSM:
        return needs->guard && needs->lsm;
    case PROGRAM_NO_LSM:
        return needs->guard && !needs->lsm && have(data, function);
    case PROGRAM_CONTROL:
    case N_PROGRAM_KINDS:
        break;
    }
    return true;
}
